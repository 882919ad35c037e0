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
import tempfile
from dataclasses import asdict, dataclass
from typing import Dict, Iterator, Optional, Sequence, Tuple

import aws
import begin
import environment
import files
import management_token
import parameters
from fetch import fetch
from source import Source
from step import Step

# At the first boot the role's permissions may be seconds old.
PATIENCE_SECONDS = 5 * 60
CHECK_SECONDS = 30
PORT = f"{files.UNITS}/paddock-proxy.socket.d/settings.conf"


def is_balancer() -> bool:
    return os.environ["BOOT_ROLE"] == "balancer"


def uri() -> str:
    return f"s3://{os.environ['BOOT_BUCKET']}/{os.environ['BOOT_SETTINGS_KEY']}"


def wished() -> Dict[str, str]:
    found = environment.parse(Source(uri()).read().decode(), uri())
    if bool(found.get("FETCH_PADDOCK_URI")) != bool(found.get("FETCH_PADDOCK_SHA256")):
        raise aws.Trouble(f"{uri()}: FETCH_PADDOCK_URI and FETCH_PADDOCK_SHA256 go together")
    return found


def value_of(parameter: str) -> bytes:
    value = parameters.value(parameter)
    if value is None:
        raise aws.Trouble(f"there is no SSM parameter {parameter}: make it, or take its name out of the settings")
    return value.encode()


def clients_files(settings: Dict[str, str], step: Step) -> Dict[str, str]:
    """Keys and TLS, and the flags that name them. The balancer reads them again by itself when they change."""
    flags = {}
    if settings.get("FETCH_API_KEYS_URI"):
        source = Source(settings["FETCH_API_KEYS_URI"])
        data = source.read()
        got = hashlib.sha256(data).hexdigest()
        if got != settings.get("FETCH_API_KEYS_SHA256"):
            raise aws.Trouble(f"{source.name}: wrong checksum: wanted "
                              f"{settings.get('FETCH_API_KEYS_SHA256')}, got {got}")
        step.wish(files.API_KEYS, data, 0o644)
        flags["PADDOCK_API_KEYS_FILE"] = files.API_KEYS
    if settings.get("FETCH_TLS_CERT_PARAMETER") and settings.get("FETCH_TLS_KEY_PARAMETER"):
        cert, key = value_of(settings["FETCH_TLS_CERT_PARAMETER"]), value_of(settings["FETCH_TLS_KEY_PARAMETER"])
        step.wish(files.TLS + "/key.pem", key, 0o640, grp.getgrnam(files.TLS_GROUP).gr_gid)
        step.wish(files.TLS + "/cert.pem", cert, 0o644)
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


def check(program: Optional[str], settings: Dict[str, str], step: Step) -> None:
    """The program reads the settings as it will at its start, with the flags of its unit, and the files as they would be."""
    unit = f"{files.UNITS}/paddock-{os.environ['BOOT_ROLE']}.service"
    start = next(line for line in step.text(unit).splitlines() if line.startswith("ExecStart="))
    flags = start.replace("%d/token", files.TOKEN).split()[1:]
    who = "the new program" if program else "the program"
    with tempfile.TemporaryDirectory(prefix="paddock-check-") as folder:
        copies = step.copies(folder)
        given = {"PATH": os.defpath, **{name: copies.get(value, value) for name, value in settings.items()}}
        try:
            said = subprocess.run([program or files.PROGRAM, *flags, "--check"], env=given, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=CHECK_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise aws.Trouble(f"{who} does not run here ({error}): is it built for this machine ({os.uname().machine})? "
                              "What was there before goes on") from error
    if said.returncode != 0:
        words = said.stdout.decode(errors="replace")[:2000]
        for path, copy in copies.items():
            words = words.replace(copy, path)
        raise aws.Trouble(f"{who} refuses the settings: {words}; what was there before goes on")


def drop_ins(settings: Dict[str, str], step: Step) -> None:
    port, memory = settings.get("PROXY_PORT", "8080"), settings.get("MEMORY_MAX", "infinity")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not re.fullmatch(r"[0-9]+[KMG]?|infinity", memory):
        raise aws.Trouble(f"PROXY_PORT={port}, MEMORY_MAX={memory}: a port, and bytes such as 380M, are wanted")
    step.wish(PORT, f"[Socket]\nListenStream=\nListenStream={port}\n".encode(), 0o644)
    step.wish(f"{files.UNITS}/paddock-balancer.service.d/settings.conf", f"[Service]\nMemoryMax={memory}\n".encode(), 0o644)


def cloudwatch_agent(settings: Dict[str, str]) -> None:
    """The optional CloudWatch Agent's configuration, with this deployment's namespace; a unit waits for its package."""
    if settings.get("CLOUDWATCH_AGENT") != "true":
        return
    with open(os.path.dirname(os.path.abspath(__file__)) + "/amazon-cloudwatch-agent.json") as file:
        said = json.load(file)
    said["metrics"]["namespace"] = settings.get("PADDOCK_CLOUDWATCH_NAMESPACE") or said["metrics"]["namespace"]
    wanted = files.File(json.dumps(said, indent=2).encode(), 0o644)
    if not files.is_there(files.ETC + "/cloudwatch-agent.json", wanted):
        # First of all: if it fails, the file is still the old one, and the next refresh stops it again.
        systemctl("stop", "paddock-cloudwatch-agent.service")
        files.write(files.ETC + "/cloudwatch-agent.json", *wanted)
    systemctl("start", "--no-block", "paddock-cloudwatch-agent.path")


@dataclass
class Changes:
    """What the balancer must be restarted for. It is kept in a file until that is done: a refresh may fail halfway."""

    restart: bool = False
    units: bool = False
    port: bool = False

    def keep(self) -> None:
        if self != Changes():
            files.write(files.RESTART_WANTED, json.dumps(asdict(self)).encode(), 0o644)

    @staticmethod
    def kept() -> "Changes":
        said = files.read(files.RESTART_WANTED)
        return Changes(**json.loads(said)) if said else Changes()

    @staticmethod
    def forget() -> None:
        if os.path.exists(files.RESTART_WANTED):
            os.unlink(files.RESTART_WANTED)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A refresh may be asked for while the boot is not done."""
    with open(files.ETC + "/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def bring(bundle: Sequence[Tuple[str, bytes, int]] = ()) -> Changes:
    """Puts everything in place that is wished now, or nothing but the token."""
    with alone():
        changes = Changes.kept()
        settings = wished()
        bring_token(changes)
        step = Step()
        for path, data, mode in bundle:
            step.wish(path, data, mode)
        if is_balancer():
            settings.update(clients_files(settings, step))
            drop_ins(settings, step)
        step.wish(files.SETTINGS, environment.text_of(settings), 0o600)
        program = new_program(settings)
        try:
            if program or step.wished:
                check(program, settings, step)
            changes.port |= PORT in step.wished
            changes.units |= any(path.startswith(files.UNITS) for path in step.wished)
            changes.restart |= bool(program) or changes.units or files.SETTINGS in step.wished
            changes.keep()
            put(step, program)
        except BaseException:
            if program and os.path.exists(program):
                os.unlink(program)
            raise
        if is_balancer():
            cloudwatch_agent(settings)
        return changes


def bring_token(changes: Changes) -> None:
    """Whatever becomes of the rest: without the others' token nobody is heard."""
    token = management_token.wished()
    if files.read(files.TOKEN) != token:
        changes.restart = True
        changes.keep()
        management_token.keep(token)


def put(step: Step, program: Optional[str]) -> None:
    step.put()
    if program:
        try:
            os.replace(program, files.PROGRAM)
        except OSError:
            step.undo()
            raise


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


def boot() -> None:
    changes = aws.until_it_works(bring, PATIENCE_SECONDS)
    if changes.units:
        systemctl("daemon-reload")
    if changes.restart:
        # If an earlier try failed, or somebody started this again, it runs with what was there before.
        systemctl("try-restart", "--no-block", f"paddock-{os.environ['BOOT_ROLE']}.service")
    Changes.forget()
    print(f"the settings of {uri()}, the program and the token are in place")


def refresh() -> None:
    changes = bring(begin.bundle())
    restart(changes)
    Changes.forget()
    print("refresh: " + ("the balancer was restarted" if changes.restart else "nothing needs a restart"))


def main() -> int:
    try:
        environment.load_bootstrap()
        if sys.argv[1:] == ["boot"]:
            boot()
        elif sys.argv[1:] == ["refresh"] and is_balancer():
            refresh()
        else:
            print("usage: settings.py boot, or on a balancer settings.py refresh", file=sys.stderr)
            return 2
    except (aws.Trouble, subprocess.CalledProcessError, KeyError, OSError, ValueError) as trouble:
        print(f"settings: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
