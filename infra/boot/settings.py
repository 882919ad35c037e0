#!/usr/bin/python3
"""What a release or a setting changes, as S3 and SSM have it now: settings, program, token, keys, TLS.

usage: settings.py boot       at each boot, before anything of Paddock starts
       settings.py refresh    on a balancer that runs: restarted behind its sockets, if something needs that

What fails the new program's own check is not put in place: what was there before goes on.
"""

import contextlib
import fcntl
import grp
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from typing import Dict, Iterator, Optional

import aws
import begin
import files
import management_token
import parameters
from fetch import fetch
from source import Source

# At the first boot the role's permissions may be seconds old.
PATIENCE_SECONDS = 5 * 60
LONGEST_PAUSE_SECONDS = 60
CHECK_SECONDS = 30


def is_balancer() -> bool:
    return os.environ["BOOT_ROLE"] == "balancer"


def wished() -> Dict[str, str]:
    uri = f"s3://{os.environ['BOOT_BUCKET']}/{os.environ['BOOT_SETTINGS_KEY']}"
    found = files.parse_environment(Source(uri).read().decode(), uri)
    if bool(found.get("FETCH_PADDOCK_URI")) != bool(found.get("FETCH_PADDOCK_SHA256")):
        raise aws.Trouble(f"{uri}: FETCH_PADDOCK_URI and FETCH_PADDOCK_SHA256 go together")
    return found


def value_of(parameter: str) -> bytes:
    value = parameters.value(parameter)
    if value is None:
        raise aws.Trouble(f"there is no SSM parameter {parameter}: make it, or take its name out of the settings")
    return value.encode()


class Step:
    """Files that are changed together: if what they make is refused, all are as before."""

    def __init__(self) -> None:
        self.before: Dict[str, Optional[bytes]] = {}

    def write(self, path: str, data: bytes, mode: int, group: int = -1) -> bool:
        before = files.read(path)
        changed = files.write(path, data, mode, group)
        if changed:
            self.before.setdefault(path, before)
        return changed

    def undo(self) -> None:
        for path, data in self.before.items():
            if data is None:
                os.unlink(path)
            else:
                about = os.stat(path)
                files.write(path, data, about.st_mode & 0o777, about.st_gid)


def clients_files(settings: Dict[str, str], step: Step) -> Dict[str, str]:
    """Keys and TLS, and the flags that name them. The balancer reads them again by itself when they change."""
    flags = {}
    if settings.get("FETCH_API_KEYS_URI"):
        data = Source(settings["FETCH_API_KEYS_URI"]).read()
        got = hashlib.sha256(data).hexdigest()
        if got != settings.get("FETCH_API_KEYS_SHA256"):
            raise aws.Trouble(f"{settings['FETCH_API_KEYS_URI']}: wrong checksum: wanted "
                              f"{settings.get('FETCH_API_KEYS_SHA256')}, got {got}")
        step.write(files.API_KEYS, data, 0o644)
        flags["PADDOCK_API_KEYS_FILE"] = files.API_KEYS
    if settings.get("FETCH_TLS_CERT_PARAMETER") and settings.get("FETCH_TLS_KEY_PARAMETER"):
        cert, key = value_of(settings["FETCH_TLS_CERT_PARAMETER"]), value_of(settings["FETCH_TLS_KEY_PARAMETER"])
        step.write(files.TLS + "/key.pem", key, 0o640, grp.getgrnam(files.TLS_GROUP).gr_gid)
        step.write(files.TLS + "/cert.pem", cert, 0o644)
        flags.update(PADDOCK_TLS_CERT=files.TLS + "/cert.pem", PADDOCK_TLS_KEY=files.TLS + "/key.pem")
    return flags


def new_program(settings: Dict[str, str]) -> Optional[str]:
    """The wished program beside the one that is there; None if it is the same."""
    sha256 = settings.get("FETCH_PADDOCK_SHA256")
    there = files.read(files.PROGRAM)
    if not sha256:
        if there is None:
            raise aws.Trouble(f"{files.PROGRAM}: neither in the image nor named by FETCH_PADDOCK_URI in the settings")
        return None
    if there is not None and hashlib.sha256(there).hexdigest() == sha256:
        return None
    fetch(Source(settings["FETCH_PADDOCK_URI"]), sha256, files.PROGRAM + ".next", mode=0o755)
    os.unlink(files.PROGRAM + ".next.sha256")
    return files.PROGRAM + ".next"


def check(program: str, settings: Dict[str, str]) -> None:
    """The program reads the settings as it will at its start, with the flags of its unit."""
    with open(f"{files.UNITS}/paddock-{os.environ['BOOT_ROLE']}.service") as unit:
        start = next(line for line in unit if line.startswith("ExecStart="))
    flags = start.replace("%d/token", files.TOKEN).split()[1:]
    command = [program, *flags, "--check"]
    try:
        said = subprocess.run(command, env={"PATH": os.defpath, **settings}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=CHECK_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise aws.Trouble(f"the new program does not run here ({error}): is it built for this machine ({os.uname().machine})? "
                          "The one that was there goes on") from error
    if said.returncode != 0:
        raise aws.Trouble(f"the new program refuses the settings: {said.stdout.decode(errors='replace')[:2000]}; "
                          "what was there before goes on")


def drop_ins(settings: Dict[str, str], step: Step) -> bool:
    changed = False
    port, memory = settings.get("PROXY_PORT", "8080"), settings.get("MEMORY_MAX", "infinity")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not re.fullmatch(r"[0-9]+[KMG]?|infinity", memory):
        raise aws.Trouble(f"PROXY_PORT={port}, MEMORY_MAX={memory}: a port, and bytes such as 380M, are wanted")
    for unit, text in (("paddock-proxy.socket", f"[Socket]\nListenStream=\nListenStream={port}\n"),
                       ("paddock-balancer.service", f"[Service]\nMemoryMax={memory}\n")):
        changed |= step.write(f"{files.UNITS}/{unit}.d/settings.conf", text.encode(), 0o644)
    return changed


def cloudwatch_agent(settings: Dict[str, str]) -> None:
    """The optional CloudWatch Agent's configuration, with this deployment's namespace; a unit waits for its package."""
    if settings.get("CLOUDWATCH_AGENT") != "true":
        return
    with open(os.path.dirname(os.path.abspath(__file__)) + "/amazon-cloudwatch-agent.json") as file:
        said = json.load(file)
    said["metrics"]["namespace"] = settings.get("PADDOCK_CLOUDWATCH_NAMESPACE") or said["metrics"]["namespace"]
    if files.write(files.ETC + "/cloudwatch-agent.json", json.dumps(said, indent=2).encode(), 0o644):
        systemctl("stop", "paddock-cloudwatch-agent.service")
    systemctl("start", "--no-block", "paddock-cloudwatch-agent.path")


class Changes:
    def __init__(self) -> None:
        self.restart = False
        self.units = False
        self.port = False


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A refresh may be asked for while the boot is not done."""
    with open(files.ETC + "/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def bring() -> Changes:
    """Puts everything in place that is wished now, or nothing."""
    with alone():
        return bring_alone()


def bring_alone() -> Changes:
    changes = Changes()
    settings = wished()
    token_changed = management_token.provide()
    program = new_program(settings)
    step = Step()
    try:
        if is_balancer():
            settings.update(clients_files(settings, step))
            socket = f"{files.UNITS}/paddock-proxy.socket.d/settings.conf"
            changes.units = drop_ins(settings, step)
            changes.port = socket in step.before
        data = files.as_environment(settings)
        settings_changed = files.read(files.SETTINGS) != data
        if program or settings_changed:
            check(program or files.PROGRAM, settings)
    except BaseException:
        step.undo()
        if program:
            os.unlink(program)
        raise
    files.write(files.SETTINGS, data, 0o600)
    if program:
        os.replace(program, files.PROGRAM)
    if is_balancer():
        cloudwatch_agent(settings)
    changes.restart = bool(program) or settings_changed or token_changed or changes.units
    return changes


def systemctl(*words: str) -> None:
    subprocess.run(["systemctl", *words], check=True)


def restart(changes: Changes) -> None:
    if changes.units:
        systemctl("daemon-reload")
    if changes.port:
        systemctl("stop", "paddock-balancer.service", "paddock-proxy.socket")
        systemctl("start", "paddock-proxy.socket", "paddock-balancer.service")
    elif changes.restart:
        systemctl("restart", "paddock-balancer.service")
    print("refresh: " + ("the balancer was restarted" if changes.restart or changes.port else "nothing needs a restart"))


def boot() -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    told = ""
    pause = 2
    while True:
        try:
            if bring().units:
                systemctl("daemon-reload")
            print("settings, program and token are in place")
            return
        except aws.Trouble as trouble:
            if time.monotonic() > until:
                raise
            if str(trouble) != told:
                told = str(trouble)
                print(f"{told}; tried again for {PATIENCE_SECONDS // 60} minutes", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def main() -> int:
    try:
        if sys.argv[1:] == ["boot"]:
            boot()
        elif sys.argv[1:] == ["refresh"] and is_balancer():
            units_changed = begin.bring()
            changes = bring()
            changes.units |= units_changed
            changes.restart |= units_changed
            restart(changes)
        else:
            print("usage: settings.py boot, or on a balancer settings.py refresh", file=sys.stderr)
            return 2
    except (aws.Trouble, subprocess.CalledProcessError, KeyError, OSError, ValueError) as trouble:
        print(f"settings: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
