"""The bundle of scripts and units: unpacked before anything else starts, and nowhere else than where they belong."""

from __future__ import annotations

import unittest

from deployment import Case
from instance import wait_until


class Bundle(Case):
    def test_scripts_and_units_come_before_everything_else_starts(self) -> None:
        agent = self.instance("agent")
        self.bundle("agent", ("/etc/systemd/system/paddock.target", "[Unit]\n"), ("/usr/local/lib/paddock/x.py", "x\n"))
        done = agent.run("begin.py")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((agent.root / "usr/local/lib/paddock/x.py").read_text(), "x\n")
        self.assertEqual(agent.systemctl(), ["daemon-reload", "start --no-block paddock.target"])

    def test_a_mode_that_changed_is_mended(self) -> None:
        agent = self.instance("agent")
        self.bundle("agent", ("/usr/local/lib/paddock/x.py", "x\n"))
        agent.run("begin.py")
        script = agent.root / "usr/local/lib/paddock/x.py"
        script.chmod(0o600)
        agent.run("begin.py")
        self.assertEqual(script.stat().st_mode & 0o777, 0o644)

    def test_the_first_boot_waits_for_them_and_says_so_once(self) -> None:
        agent = self.instance("agent")
        run = agent.start("begin.py")
        wait_until(lambda: len(self.cloud.front.requests) >= 3, "it has asked again and again")
        self.bundle("agent", ("/usr/local/lib/paddock/x.py", "x\n"))
        _, error = run.communicate(timeout=60)
        self.assertEqual((run.returncode, len(error.splitlines())), (0, 1), error)
        self.assertIn("NoSuchKey", error)
        self.assertIn("tried again for 10 minutes", error)

    def test_those_of_the_last_boot_go_on(self) -> None:
        agent = self.instance("agent")
        (agent.root / "etc/systemd/system/paddock.target").write_text("[Unit]\n")
        done = agent.run("begin.py")
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (0, 1), done)
        self.assertIn("of the last boot go on", done.stderr)
        self.assertEqual(agent.systemctl()[-1], "start --no-block paddock.target")

    def test_no_other_file_is_written(self) -> None:
        agent = self.instance("agent")
        (agent.root / "etc/systemd/system/paddock.target").write_text("[Unit]\n")
        for path in ("/etc/passwd", "/usr/local/lib/paddock/../../../../etc/passwd"):
            self.bundle("agent", ("/usr/local/lib/paddock/x.py", "x\n"), (path, "root\n"))
            done = agent.run("begin.py")
            self.assertIn("no file of Paddock's", done.stderr)
            self.assertFalse((agent.root / "etc/passwd").exists() or (agent.root / "usr/local/lib/paddock/x.py").exists())


if __name__ == "__main__":
    unittest.main()
