"""The units: by systemd's own verifier where there is one, by a parser everywhere; hardened, and naming only what is shipped."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import tool
from instance import BOOT, ROOT

UNITS = ROOT / "infra" / "systemd"
ROLES = ("balancer", "agent")
SCRIPTS = "/usr/local/lib/paddock/"
# What other hands put there: the release, llama.cpp, the image.
CLOUDWATCH_AGENT = "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl"
PROGRAMS = {"/usr/local/bin/paddock", "/usr/local/bin/llama-server", "/bin/sh", CLOUDWATCH_AGENT}
EVERYWHERE = {"NoNewPrivileges": "yes", "SystemCallFilter": None, "RestrictAddressFamilies": None, "RestrictNamespaces": "yes",
              "CapabilityBoundingSet": None}
VIEW_OF_ITS_OWN = {"ProtectHome": "yes", "ProtectSystem": "strict", "PrivateTmp": "yes"}
SERVES = {**EVERYWHERE, **VIEW_OF_ITS_OWN, "DynamicUser": "yes", "CapabilityBoundingSet": "",
          "LimitNOFILE": "65536", "RestrictSUIDSGID": "yes", "SystemCallArchitectures": "native"}
PADDOCK = {**SERVES, "PrivateDevices": "yes", "MemoryDenyWriteExecute": "yes", "Type": "notify", "WatchdogSec": "30",
           "Restart": "always", "LoadCredential": "token:/etc/paddock/token"}
# What it mounts must be seen by others, so it may have no view of its own.
MOUNTS = "paddock-store.service"


def of(role: str) -> list[Path]:
    return sorted([*UNITS.glob("both/*"), *UNITS.glob(f"{role}/*")])


def read(path: Path) -> dict[str, list[str]]:
    """All settings of a unit, by name; an empty value empties what stood before, as in systemd."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        match = re.fullmatch(r"([A-Za-z]+)=(.*)", line)
        if match:
            found.setdefault(match[1], []).append(match[2])
        elif line and not re.fullmatch(r"\[\w+\]|#.*", line):
            raise AssertionError(f"{path.name}: not a line of a unit: {line!r}")
    return found


def program_of(command: str) -> str:
    return command.lstrip("-+@:!").split()[0]


def verify(role: str, change: dict[str, tuple[str, str]] | None = None) -> str:
    """systemd-analyze's complaints about a role's units, with some text of some of them replaced."""
    analyze = tool.needed("systemd-analyze", "Debian: apt-get install systemd")
    with tempfile.TemporaryDirectory(prefix="paddock-") as folder:
        root = Path(folder)
        units, scripts = root / "etc/systemd/system", root / SCRIPTS[1:]
        for made in (units, scripts):
            made.mkdir(parents=True)
        shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
        for script in [*BOOT.glob("*.py"), *BOOT.glob("*.sh")]:
            shutil.copy(script, scripts)
        for stub in PROGRAMS:
            (root / stub[1:]).parent.mkdir(parents=True, exist_ok=True)
            (root / stub[1:]).write_text("#!/bin/true\n")
            (root / stub[1:]).chmod(0o755)
        for unit in of(role):
            old, new = (change or {}).get(unit.name, ("", ""))
            text = unit.read_text()
            if old not in text:
                raise AssertionError(f"{unit.name} has no {old!r}")
            (units / unit.name).write_text(text.replace(old, new, 1) if old else text)
        done = subprocess.run([analyze, "verify", "--man=no", f"--root={root}", *(unit.name for unit in of(role))],
                              capture_output=True, text=True, timeout=60, check=False)
        own = [line for line in done.stderr.splitlines() if re.search(r"paddock|llama|cycle", line)]
        if done.returncode and not own:
            raise AssertionError(done.stderr)
        return "\n".join(own)


class Units(unittest.TestCase):
    def test_systemd_has_nothing_to_say(self) -> None:
        for role in ROLES:
            with self.subTest(role):
                self.assertEqual(verify(role), "")

    def test_systemd_would_have_seen_a_mistake(self) -> None:
        unit = "paddock-balancer.service"
        for old, new, said in (("RestartSec=1", "RestartSecs=1", "RestartSecs"), ("WatchdogSec=30", "WatchdogSec=often", "often"),
                               ("@system-service", "@system-services", "system-services"),
                               ("/usr/local/bin/paddock", "/usr/local/bin/padock", "padock"),
                               ("After=network", "Before=sysinit.target\nAfter=network", "cycle")):
            with self.subTest(new):
                self.assertIn(said, verify("balancer", {unit: (old, new)}))

    def test_every_service_is_hardened(self) -> None:
        for path in [path for role in ROLES for path in of(role) if path.suffix == ".service"]:
            unit = read(path)
            wanted = dict(EVERYWHERE)
            if path.name != MOUNTS:
                wanted.update(VIEW_OF_ITS_OWN)
            if path.name in ("paddock-balancer.service", "paddock-agent.service"):
                wanted = PADDOCK
            elif path.name == "llama-server.service":
                wanted = SERVES
            for name, value in wanted.items():
                with self.subTest(unit=path.name, setting=name):
                    self.assertIn(name, unit)
                    if value is not None:
                        self.assertEqual(unit[name], [value])

    def test_only_what_writes_somewhere_may(self) -> None:
        """What each script writes; capabilities only where files may be another user's."""
        for name, places, rights in (("paddock-token", "/etc/paddock", ""),
                                     ("paddock-settings", "/etc/paddock /usr/local/bin", None),
                                     ("paddock-fetch", "/etc/paddock /usr/local/bin -/mnt/paddock-store", "CAP_DAC_OVERRIDE")):
            unit = read(UNITS / "agent" / f"{name}.service")
            self.assertEqual(unit["ReadWritePaths"], [places], name)
            if rights is not None:
                self.assertEqual(unit["CapabilityBoundingSet"], [rights], name)

    def test_what_the_store_mounts_is_seen_by_others(self) -> None:
        for name in read(UNITS / "agent" / MOUNTS):
            self.assertNotRegex(name, "^(Protect|Private|ReadWrite|ReadOnly|Inaccessible|DynamicUser|MountFlags|Temporary|Bind)")

    def test_the_gpu_stays_within_reach(self) -> None:
        unit = read(UNITS / "agent" / "llama-server.service")
        # ProtectClock closes all devices but the clock.
        for shut in ("PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "MemoryDenyWriteExecute"):
            self.assertNotIn(shut, unit)

    def test_scripts_can_be_started(self) -> None:
        for path in [path for role in ROLES for path in of(role)]:
            for command in read(path).get("ExecStart", []):
                script = BOOT / Path(program_of(command)).name
                if program_of(command).startswith(SCRIPTS):
                    self.assertTrue(script.stat().st_mode & 0o100, script.name)
                    self.assertIn(script.read_text().splitlines()[0], ("#!/usr/bin/python3", "#!/bin/bash"))

    def test_every_unit_that_is_named_is_there(self) -> None:
        outside = {"network-online.target", "sysinit.target", "shutdown.target", "multi-user.target", "local-fs.target",
                   "dlami-nvme.service", "nvidia-persistenced.service"}
        for role in ROLES:
            names = {path.name for path in of(role)}
            for path in of(role):
                unit = read(path)
                for key in ("Wants", "Requires", "After", "Before", "Conflicts", "OnFailure", "Sockets", "Service", "WantedBy"):
                    for name in " ".join(unit.get(key, [])).split():
                        with self.subTest(unit=path.name, names=name):
                            self.assertIn(name, names | outside)

    def test_the_target_wants_all_that_nothing_else_starts(self) -> None:
        by_others = {"paddock.target", "paddock-begin.service", "paddock-logs.service", "paddock-failed.service",
                     "paddock-refresh.service", "paddock-token.service", "paddock-cloudwatch-agent.path",
                     "paddock-cloudwatch-agent.service"}
        for role in ROLES:
            wanted = set(" ".join(read(UNITS / role / "paddock.target")["Wants"]).split())
            self.assertEqual(wanted, {path.name for path in of(role)} - by_others)

    def test_the_balancer_is_never_given_up_and_may_finish_its_answers(self) -> None:
        for role, name in (("balancer", "paddock-balancer"), ("agent", "paddock-agent")):
            self.assertEqual(read(UNITS / role / f"{name}.service")["StartLimitIntervalSec"], ["0"])
        unit = read(UNITS / "balancer" / "paddock-balancer.service")
        self.assertGreater(int(unit["TimeoutStopSec"][0]), 5 * 60, "--shutdown-grace is 5 minutes")
        self.assertEqual(unit["KillMode"], ["mixed"])

    def test_the_ledger_outlives_a_restart(self) -> None:
        unit = read(UNITS / "balancer" / "paddock-balancer.service")
        self.assertEqual(unit["StateDirectory"], ["paddock"])
        self.assertEqual(unit["Environment"], ["PADDOCK_STATE_DIR=%S/paddock"], "where systemd makes it, and nowhere else may it write")

    def test_the_sockets_bear_the_names_that_the_program_knows(self) -> None:
        for name, port in (("proxy", "8080"), ("management", "8085")):
            unit = read(UNITS / "balancer" / f"paddock-{name}.socket")
            self.assertEqual(unit["FileDescriptorName"], [name])
            self.assertEqual(unit["ListenStream"], [port])
            self.assertEqual(unit["Service"], ["paddock-balancer.service"])

    def test_the_agent_does_not_wait_for_the_model(self) -> None:
        agent = read(UNITS / "agent" / "paddock-agent.service")
        self.assertNotIn("paddock-fetch.service", " ".join(agent["After"] + agent["Wants"]))
        self.assertIn("paddock-agent.service", read(UNITS / "agent" / "paddock-fetch.service")["After"][0].split())
        logs = read(UNITS / "both" / "paddock-logs.service")
        self.assertEqual(logs["After"], ["network-online.target"], "logs wait for no driver, model or setting")


if __name__ == "__main__":
    unittest.main()
