"""The management token: made once, agreed on, awaited, rotated, and shown to nobody."""

from __future__ import annotations

import contextlib
import json
import stat
import unittest
from pathlib import Path
from typing import Iterator

from deployment import BalancerCase, Case
from instance import BOOT, SECRET, wait_until


def command_lines() -> Iterator[bytes]:
    """Of all processes that do not end meanwhile."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


class Balancer(BalancerCase):
    def test_the_token_is_made_once_and_kept(self) -> None:
        self.settings("balancer")
        first = self.balancer.run("settings.py", "boot")
        said = ["a new management token is in the SSM parameter /paddock/token",
                "the settings of s3://deployment/balancer/settings.env, the program and the token are in place"]
        told = lambda done: [line for line in done.stdout.splitlines() if not line.startswith("s3://deployment/paddock: ")]
        self.assertEqual((first.returncode, told(first)), (0, said), "the checklist of docs/aws.md looks for it")
        self.boot()
        token = self.etc / "token"
        self.assertEqual(token.read_text(), self.token())
        self.assertGreaterEqual(len(token.read_text()), 43, "256 bits")
        self.assertEqual(stat.S_IMODE(token.stat().st_mode), 0o600)
        self.assertEqual(self.ssm.describe_parameters()["Parameters"][0]["Type"], "SecureString")
        other = self.instance("balancer")
        second = other.run("settings.py", "boot")
        self.assertEqual((second.returncode, told(second)), (0, said[1:]))
        self.assertEqual((other.root / "etc/paddock/token").read_text(), token.read_text(), "a new balancer takes the same")

    def test_two_balancers_that_make_it_at_once_agree(self) -> None:
        front = self.cloud.front
        front.gate.clear()
        self.addCleanup(front.gate.set)
        script = "import management_token as t; t.keep(t.wished())"
        both = [self.instance("balancer") for _ in range(2)]
        runs = [one.python("-c", script, PYTHONPATH=str(BOOT)) for one in both]
        wait_until(lambda: len(front.requests) == 2, "both have asked whether there is one")
        front.gate.set()
        for run in runs:
            _, error = run.communicate(timeout=60)
            self.assertEqual(run.returncode, 0, error)
        tokens = {(one.root / "etc/paddock/token").read_text() for one in both}
        self.assertEqual(tokens, {self.token()})

    def test_the_token_is_in_no_argument(self) -> None:
        self.settings("balancer")
        self.boot()
        front = self.cloud.front
        front.gate.clear()
        self.addCleanup(front.gate.set)
        front.requests.clear()
        rotation = self.balancer.start("management_token.py", "rotate")
        wait_until(lambda: front.requests, "the new token is on its way")
        new = json.loads(front.requests[0]["body"])["Value"]
        shown = b"".join(command_lines())
        front.gate.set()
        out, error = rotation.communicate(timeout=60)
        self.assertIn(b"curl\0", shown)
        for secret in (new, SECRET):
            self.assertNotIn(secret.encode(), shown)
            self.assertNotIn(secret, out + error)

    def test_bad_surroundings_are_one_line(self) -> None:
        (self.etc / "bootstrap.env").write_text("no setting\n")
        done = self.balancer.run("management_token.py", "rotate")
        self.assertEqual((done.returncode, done.stderr), (1, "bootstrap.env, line 1: not of the form KEY=value\n"))
        (self.etc / "bootstrap.env").unlink()
        (self.etc / "token").mkdir()
        done = self.balancer.run("management_token.py", "rotate")
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)

    def test_two_that_write_it_at_once(self) -> None:
        """A boot and a refresh: neither takes the other's half made file away."""
        script = ("import files, os\n"
                  "def both(new, path, real=os.replace):\n"
                  "    os.replace = real\n"
                  "    files.write(path, b'other', 0o600)\n"
                  "    real(new, path)\n"
                  "os.replace = both\n"
                  "files.write(files.TOKEN, b'own', 0o600)")
        run = self.balancer.python("-c", script, PYTHONPATH=str(BOOT))
        _, error = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 0, error)
        self.assertEqual((self.etc / "token").read_text(), "own")

    def test_a_denied_parameter_names_the_right(self) -> None:
        said = {"__type": "AccessDeniedException", "Message": "User: arn:x is not authorized to perform: ssm:PutParameter"}
        self.cloud.front.refused["AmazonSSM.PutParameter"] = (400, json.dumps(said).encode())
        done = self.balancer.run("management_token.py", "rotate")
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
        self.assertIn("ssm PutParameter in eu-central-1: AccessDeniedException: User: arn:x", done.stderr)
        self.assertIn("let the instance's role have ssm:PutParameter", done.stderr)

    def test_rotation(self) -> None:
        self.settings("balancer")
        self.boot()
        old = self.token()
        # Who rotates is a person in a shell, without the unit's environment.
        moved = {name: self.balancer.environment.pop(name) for name in list(self.balancer.environment) if name.startswith("BOOT_")}
        self.balancer.environment["BOOT_ROOT"] = moved.pop("BOOT_ROOT")
        (self.etc / "bootstrap.env").write_text("".join(f"{name}={value}\n" for name, value in moved.items()))
        done = self.balancer.run("management_token.py", "rotate")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotEqual(self.token(), old)
        self.assertEqual((self.etc / "token").read_text(), self.token())
        self.assertEqual(self.balancer.systemctl()[-1], "restart paddock-balancer.service")


class Agent(Case):
    def setUp(self) -> None:
        super().setUp()
        self.agent = self.instance("agent")

    def test_it_waits_for_the_token(self) -> None:
        self.settings("agent", PADDOCK_MANAGEMENT_ADDR="10.0.0.5:8085")
        boot = self.agent.start("settings.py", "boot")
        asked = lambda: [r for r in self.cloud.front.requests if r["headers"].get("X-Amz-Target") == "AmazonSSM.GetParameter"]
        wait_until(lambda: len(asked()) >= 2, "it has asked twice")
        self.assertIsNone(boot.poll())
        self.ssm.put_parameter(Name="/paddock/token", Value="x" * 43, Type="SecureString")
        _, error = boot.communicate(timeout=60)
        self.assertEqual(boot.returncode, 0, error)
        self.assertEqual((self.agent.root / "etc/paddock/token").read_text(), "x" * 43)
        self.assertIn("the balancer has not made the parameter /paddock/token", error)

    def test_a_boot_that_is_done_again_takes_a_changed_token(self) -> None:
        """Else the agent would keep its old copy, and the timer would see no change."""
        self.settings("agent", PADDOCK_MANAGEMENT_ADDR="10.0.0.5:8085")
        for token, said in (("x", 1), ("x", 1), ("y", 2)):
            self.ssm.put_parameter(Name="/paddock/token", Value=token * 43, Type="SecureString", Overwrite=True)
            self.assertEqual(self.agent.run("settings.py", "boot").returncode, 0)
            self.assertEqual(self.agent.systemctl().count("try-restart --no-block paddock-agent.service"), said)

    def test_a_rotated_token_restarts_the_agent_once(self) -> None:
        self.ssm.put_parameter(Name="/paddock/token", Value="x" * 43, Type="SecureString")
        self.agent.run("management_token.py", "refresh")
        self.agent.run("management_token.py", "refresh")
        self.assertEqual(self.agent.systemctl(), ["try-restart paddock-agent.service"])


if __name__ == "__main__":
    unittest.main()
