"""The settings object, the program, keys and TLS on a balancer: put in place whole, or not at all."""

from __future__ import annotations

import grp
import json
import os
import shutil
import stat
import unittest

from deployment import BalancerCase
from instance import BOOT, ROOT


class Settings(BalancerCase):
    def setUp(self) -> None:
        super().setUp()
        self.program = self.balancer.root / "usr" / "local" / "bin" / "paddock"

    def refresh(self, *files: tuple[str, str]):
        """With these scripts and units in the bucket."""
        self.balancer.calls.unlink(missing_ok=True)
        self.bundle("balancer", *files)
        return self.balancer.run("settings.py", "refresh")

    def test_first_boot(self) -> None:
        self.settings("balancer", PADDOCK_ASG_NAME="a,b", PROXY_PORT="443", MEMORY_MAX="380M")
        self.boot()
        self.assertIn('PADDOCK_ASG_NAME="a,b"\n', (self.etc / "settings.env").read_text())
        self.assertEqual(stat.S_IMODE((self.etc / "settings.env").stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.program.stat().st_mode), 0o755)
        units = self.balancer.root / "etc/systemd/system"
        self.assertEqual((units / "paddock-proxy.socket.d/settings.conf").read_text(), "[Socket]\nListenStream=\nListenStream=443\n")
        self.assertIn("MemoryMax=380M", (units / "paddock-balancer.service.d/settings.conf").read_text())
        self.assertEqual(self.balancer.systemctl(), ["daemon-reload", "try-restart --no-block paddock-balancer.service"],
                         "an earlier try may have failed, and the balancer run with what was there")
        self.assertEqual(sorted(os.listdir(self.etc)), [".lock", "settings.env", "token"], "nothing half made is left")

    def test_an_upgrade_restarts_the_balancer_and_nothing_new_does_not(self) -> None:
        self.settings("balancer")
        self.boot()
        self.assertEqual(self.refresh().stdout.strip(), "refresh: nothing needs a restart")
        self.assertEqual(self.balancer.systemctl(), [])
        self.settings("balancer", version="2")
        self.assertEqual(self.refresh().returncode, 0)
        self.assertIn("# 2", self.program.read_text())
        self.assertEqual(self.balancer.systemctl(), ["restart paddock-balancer.service"])

    def test_what_the_new_program_refuses_changes_nothing(self) -> None:
        self.settings("balancer", PADDOCK_IDLE_TIMEOUT="5m")
        self.boot()
        before = (self.etc / "settings.env").read_text()
        self.settings("balancer", version="2", PADDOCK_IDLE_TIMEOUT="wrong", PROXY_PORT="9000")
        done = self.refresh()
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
        self.assertIn("--idle-timeout wrong", done.stderr)
        self.assertIn("# 1", self.program.read_text())
        self.assertEqual((self.etc / "settings.env").read_text(), before)
        port = self.balancer.root / "etc/systemd/system/paddock-proxy.socket.d/settings.conf"
        self.assertIn("ListenStream=8080", port.read_text())
        self.assertEqual(self.balancer.systemctl(), [])
        self.assertEqual(os.listdir(self.program.parent), ["paddock"])

    def test_a_program_with_a_wrong_checksum_is_not_put_in_place(self) -> None:
        self.settings("balancer")
        self.boot()
        self.settings("balancer", version="2", FETCH_PADDOCK_SHA256="0" * 64)
        done = self.refresh()
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
        self.assertIn("wrong checksum", done.stderr)
        self.assertIn("# 1", self.program.read_text())

    def test_a_program_for_another_machine(self) -> None:
        self.settings("balancer")
        self.boot()
        sum_ = self.put("other", b"\x7fELF of another kind")
        self.settings("balancer", FETCH_PADDOCK_URI="s3://deployment/other", FETCH_PADDOCK_SHA256=sum_)
        done = self.refresh()
        self.assertIn("is it built for this machine", done.stderr)
        self.assertIn("# 1", self.program.read_text())

    def test_keys_and_tls_change_without_a_restart(self) -> None:
        own_group = grp.getgrgid(os.getgid()).gr_name
        keys = b"alice sha256:00\n"
        self.ssm.put_parameter(Name="/tls/cert", Value="CERT 1", Type="String")
        self.ssm.put_parameter(Name="/tls/key", Value="KEY 1", Type="SecureString")
        more = {"FETCH_API_KEYS_URI": "s3://deployment/keys", "FETCH_API_KEYS_SHA256": self.put("keys", keys),
                "FETCH_TLS_CERT_PARAMETER": "/tls/cert", "FETCH_TLS_KEY_PARAMETER": "/tls/key"}
        self.settings("balancer", **more)
        self.balancer.environment["BOOT_TLS_GROUP"] = own_group
        self.boot()
        written = (self.etc / "settings.env").read_text()
        for flag in ("PADDOCK_API_KEYS_FILE", "PADDOCK_TLS_CERT", "PADDOCK_TLS_KEY"):
            self.assertIn(flag, written)
        self.assertEqual(stat.S_IMODE((self.etc / "tls/key.pem").stat().st_mode), 0o640)
        self.assertEqual((self.etc / "api-keys").read_bytes(), keys)
        self.ssm.put_parameter(Name="/tls/cert", Value="CERT 2", Type="String", Overwrite=True)
        self.assertEqual(self.refresh().stdout.strip(), "refresh: nothing needs a restart")
        self.assertEqual((self.etc / "tls/cert.pem").read_text(), "CERT 2")
        self.assertEqual(self.balancer.systemctl(), [])
        self.ssm.put_parameter(Name="/tls/cert", Value="no such thing", Type="String", Overwrite=True)
        self.ssm.put_parameter(Name="/tls/key", Value="KEY 3", Type="SecureString", Overwrite=True)
        done = self.refresh()
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
        self.assertIn("the program refuses the settings: error: " + str(self.etc / "tls/cert.pem"), done.stderr)
        self.assertEqual((self.etc / "tls/cert.pem").read_text() + (self.etc / "tls/key.pem").read_text(), "CERT 2KEY 1")

    def test_new_units_come_with_a_program_that_takes_them_or_not_at_all(self) -> None:
        self.settings("balancer")
        self.boot()
        unit = self.balancer.root / "etc/systemd/system/paddock-balancer.service"
        before = unit.read_text()
        script = ("/usr/local/lib/paddock/x.py", "x\n")
        done = self.refresh(("/etc/systemd/system/paddock-balancer.service", before.replace("%d/token", "%d/token --wrong")), script)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
        self.assertEqual(unit.read_text(), before)
        self.assertFalse((self.balancer.root / "usr/local/lib/paddock/x.py").exists())
        self.assertEqual(self.balancer.systemctl(), [])
        done = self.refresh(("/etc/systemd/system/paddock-balancer.service", before + "# new\n"), script)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(unit.read_text(), before + "# new\n")
        self.assertEqual(self.balancer.systemctl(), ["daemon-reload", "restart paddock-balancer.service"])

    def test_what_cannot_all_be_put_in_place_is_undone(self) -> None:
        self.settings("balancer")
        self.boot()
        before = (self.etc / "settings.env").read_text()
        self.settings("balancer", version="2", PROXY_PORT="9000")
        self.bundle("balancer")
        fails = ("import settings; from unittest import mock\n"
                 "with mock.patch.object(settings.os, 'replace', side_effect=lambda a, b, real=settings.os.replace:\n"
                 "        real(a, b) if not a.endswith('paddock.next') else settings.os.stat('/no such place')):\n"
                 "    settings.refresh()\n")
        run = self.balancer.python("-c", fails, PYTHONPATH=str(BOOT))
        _, error = run.communicate(timeout=60)
        self.assertIn("/no such place", error)
        self.assertEqual((self.etc / "settings.env").read_text(), before)
        self.assertIn("8080", (self.balancer.root / "etc/systemd/system/paddock-proxy.socket.d/settings.conf").read_text())
        self.assertEqual(os.listdir(self.program.parent), ["paddock"])

    def test_a_restart_that_failed_is_not_forgotten(self) -> None:
        self.settings("balancer")
        self.boot()
        self.settings("balancer", version="2", PROXY_PORT="9000")
        self.balancer.program("systemctl", "exit 1\n")
        done = self.refresh()
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
        self.balancer.program("systemctl", f'echo "$@" >> {self.balancer.calls}\n')
        for said in (["daemon-reload", "stop paddock-balancer.service paddock-proxy.socket",
                      "start paddock-proxy.socket paddock-balancer.service"], []):
            self.assertEqual(self.refresh().returncode, 0)
            self.assertEqual(self.balancer.systemctl(), said)

    def test_a_new_token_is_taken_with_a_restart_also_when_the_program_is_refused(self) -> None:
        self.settings("balancer")
        self.boot()
        self.ssm.put_parameter(Name="/paddock/token", Value="y" * 43, Type="SecureString", Overwrite=True)
        self.settings("balancer", PADDOCK_IDLE_TIMEOUT="wrong")
        self.assertEqual(self.refresh().returncode, 1)
        self.assertEqual((self.etc / "token").read_text(), "y" * 43)
        self.settings("balancer")
        self.assertEqual(self.refresh().returncode, 0)
        self.assertEqual(self.balancer.systemctl(), ["restart paddock-balancer.service"])

    def test_a_mode_that_changed_is_mended(self) -> None:
        self.settings("balancer")
        self.boot()
        (self.etc / "settings.env").chmod(0o644)
        self.assertEqual(self.refresh().returncode, 0)
        self.assertEqual(stat.S_IMODE((self.etc / "settings.env").stat().st_mode), 0o600)

    def test_the_cloudwatch_agent_is_told_the_namespace_and_started_when_it_is_there(self) -> None:
        lib = self.balancer.root / "scripts"
        shutil.copytree(BOOT, lib, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "infra/cloudwatch-agent/amazon-cloudwatch-agent.json", lib)
        self.settings("balancer", CLOUDWATCH_AGENT="true", PADDOCK_CLOUDWATCH_NAMESPACE="Paddock/mine")
        run = self.balancer.python(str(lib / "settings.py"), "boot")
        _, error = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 0, error)
        said = json.loads((self.etc / "cloudwatch-agent.json").read_text())
        self.assertEqual(said["metrics"]["namespace"], "Paddock/mine")
        self.assertIn("start --no-block paddock-cloudwatch-agent.path", self.balancer.systemctl())

    def test_a_new_port_restarts_the_socket(self) -> None:
        self.settings("balancer")
        self.boot()
        self.settings("balancer", PROXY_PORT="9000")
        self.refresh()
        self.assertEqual(self.balancer.systemctl(), [
            "daemon-reload", "stop paddock-balancer.service paddock-proxy.socket",
            "start paddock-proxy.socket paddock-balancer.service"])


if __name__ == "__main__":
    unittest.main()
