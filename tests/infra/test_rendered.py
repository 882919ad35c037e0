"""What each example would send to AWS: user data, settings, policies, alarms."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

from examples import RENDERED, ROOT, Example, examples

import lint
import offline
import render
import tool
from instance import metadata

USER_DATA_BYTES_MAX = 16384
"""EC2's limit, before base64."""

SECRETS = re.compile(r"hf_[A-Za-z0-9]{10}|AKIA[A-Z0-9]{12}|ASIA[A-Z0-9]{12}|PRIVATE KEY|sk-[A-Za-z0-9]{16}|Bearer [A-Za-z0-9]{16}")
TOKEN_BY_VALUE = re.compile(r"^\s*\w*(TOKEN|PASSWORD|SECRET|API_KEY)=", re.M)
"""A setting whose value would be the secret itself; those that name a parameter or a file end otherwise."""

ROLES = {"balancer": ROOT / "infra/systemd/balancer/paddock-balancer.service", "agent": ROOT / "infra/systemd/agent/paddock-agent.service"}
CALLS = json.loads((ROOT / "terraform" / "actions.json").read_text())


class Rendered(unittest.TestCase):
    examples: list[Example]

    @classmethod
    def setUpClass(cls) -> None:
        cls.examples = examples()
        tool.terraform()


class All(Rendered):
    def test_every_example_is_here(self) -> None:
        names = {"complete", "existing-vpc", "metrics-only", "minimal", "spot-with-on-demand-fallback", "two-groups"}
        self.assertEqual(names, {example.name for example in self.examples})


class UserData(Rendered):
    def test_balancer_and_each_group_have_some(self) -> None:
        for example in self.examples:
            groups = [one for one in example.json("resources") if one["type"] == "aws_autoscaling_group"]
            with self.subTest(example.name):
                self.assertEqual(1 + len(groups), len(example.user_data()))

    def test_is_what_cloud_init_takes(self) -> None:
        cloud_init = tool.needed("cloud-init", "Debian: apt-get install cloud-init")
        for example in self.examples:
            for file in example.user_data():
                with self.subTest(f"{example.name}/{file.name}"):
                    command = [cloud_init, "schema", "--config-file", str(file)]
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    self.assertEqual((0, ""), (done.returncode, done.stderr), done.stdout)

    def test_fits(self) -> None:
        for example in self.examples:
            for file in example.user_data():
                with self.subTest(f"{example.name}/{file.name}"):
                    self.assertLessEqual(file.with_suffix(".packed").stat().st_size, USER_DATA_BYTES_MAX)


class NoSecrets(Rendered):
    def test_neither_user_data_nor_settings_hold_one(self) -> None:
        for example in self.examples:
            for file in [*example.user_data(), *(example.folder / "settings").iterdir()]:
                with self.subTest(f"{example.name}/{file.name}"):
                    text = file.read_text()
                    self.assertIsNone(SECRETS.search(text))
                    self.assertIsNone(TOKEN_BY_VALUE.search(text))

    def test_would_be_noticed(self) -> None:
        for line in ["A=hf_abcdefghijklmnop", "A=AKIAIOSFODNN7EXAMPLE", "-----BEGIN EC PRIVATE KEY-----"]:
            self.assertIsNotNone(SECRETS.search(line), line)
        for line in ["PADDOCK_MANAGEMENT_TOKEN=x", "  HF_TOKEN=x"]:
            self.assertIsNotNone(TOKEN_BY_VALUE.search(line), line)
        self.assertIsNone(TOKEN_BY_VALUE.search("FETCH_MODEL_TOKEN_PARAMETER=/x\nBOOT_TOKEN_PARAMETER=/y\n"))


def given(role: str, state: Path) -> dict[str, str]:
    """The role's unit's own environment, with a state directory for %S."""
    lines = re.findall(r"^Environment=(\w+)=(.*)$", ROLES[role].read_text(), re.M)
    return {name: value.replace("%S", str(state)) for name, value in lines}


def started(role: str, token: Path) -> list[str]:
    """What the role's unit starts, with this machine's program and a token's file."""
    unit = ROLES[role].read_text().replace("\\\n", " ")
    line = re.search(r"^ExecStart=(.*)$", unit, re.M)[1].replace("%d/token", str(token))
    return [tool.paddock(), *shlex.split(line)[1:]]


class Settings(Rendered):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        tool.paddock()
        cls.imds = metadata()
        cls.addClassCleanup(cls.imds.close)

    def checked(self, role: str, settings: str) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as folder:
            token = Path(folder) / "token"
            token.write_text("a-token-for-this-test\n")
            lines = [line.split("=", 1) for line in settings.splitlines() if line and not line.startswith("#")]
            environment = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url}
            (Path(folder) / "paddock").mkdir()
            environment |= given(role, Path(folder)) | {name: value.strip('"') for name, value in lines}
            command = [*started(role, token), "--check"]
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)

    def test_the_program_takes_them(self) -> None:
        for example in self.examples:
            for file in example.settings():
                with self.subTest(f"{example.name}/{file.name}"):
                    done = self.checked("balancer" if "balancer" in file.name else "agent", file.read_text())
                    self.assertEqual(0, done.returncode, done.stdout + done.stderr)

    def test_the_program_does_not_take_others(self) -> None:
        self.assertEqual(2, self.checked("balancer", "PADDOCK_IDLE_TIMEOUT=wrong\n").returncode)
        self.assertEqual(2, self.checked("balancer", "PADDOCK_ASG_NAME=a,b\nPADDOCK_PRICE_PER_HOUR=0.4\n").returncode)
        self.assertEqual(2, self.checked("balancer", "PADDOCK_ASG_NAME=a\nPADDOCK_MAX_COST_PER_DAY=5\n").returncode)
        self.assertEqual(2, self.checked("agent", "PADDOCK_ORPHAN_TIMEOUT=wrong\n").returncode)

    def test_prices_are_those_of_the_groups(self) -> None:
        """The program's own reading of a limit needs them, so the two are rendered together."""
        (complete,) = [example for example in self.examples if example.name == "complete"]
        (file,) = [file for file in complete.settings() if "balancer" in file.name]
        lines = file.read_text().splitlines()
        self.assertIn("PADDOCK_PRICE_PER_HOUR=0.42,0.8048", lines)
        self.assertIn("PADDOCK_MAX_COST_PER_DAY=12", lines)


IMAGE_COMMANDS = {"start_build", "watch_build", "newest_ami"}
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
SHELLS_OWN = re.compile(r"[][*?(){}&;<>|~]")


class Commands(Rendered):
    """Outputs that people put into a shell, be it bash or zsh."""

    def commands(self) -> list[tuple[str, str]]:
        outputs = [(one.name, *output) for one in self.examples for output in one.json("outputs").items() if output[0].endswith("_command")]
        image = Example(RENDERED / "image").json("outputs")
        return [(f"{name}: {output}", text) for name, output, text in outputs] + [(name, image[name]) for name in sorted(IMAGE_COMMANDS)]

    def test_a_shell_takes_them(self) -> None:
        commands = self.commands()
        self.assertGreater(len(commands), 20)
        for name, text in commands:
            with self.subTest(name):
                done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, timeout=30, check=False)
                self.assertEqual(done.returncode, 0, f"{text}: {done.stderr}")
                self.assertIsNone(SHELLS_OWN.search(QUOTED.sub("", text)), f"{text}: quote it")

    def test_a_query_is_one_word(self) -> None:
        found = [shlex.split(text) for _, text in self.commands() if "--query" in text and "$(" not in text]
        self.assertGreater(len(found), 2)
        for words in found:
            after = words[words.index("--query") + 2]
            self.assertEqual(after, "--output", words)


class Rights(Rendered):
    def test_every_call_is_allowed_and_nothing_else(self) -> None:
        for example in self.examples:
            with self.subTest(example.name):
                self.assertEqual([], lint.mistakes(example.json("resources")))

    def test_every_call_of_the_code_is_in_some_policy(self) -> None:
        with offline.stand_in() as environment:
            launching = render.render(ROOT / "tests" / "infra" / "launching", environment)
        self.assertEqual([], lint.mistakes(launching))
        configurations = [launching, *(example.json("resources") for example in self.examples)]
        for role, calls in CALLS.items():
            allowed = set().union(*(lint.allowed_actions(resources, role) for resources in configurations))
            self.assertEqual(set(), set(calls) - allowed, role)


def metrics_of(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """The metrics that an alarm looks at, by itself or in a formula."""
    if alarm["metric_name"]:
        return [alarm]
    return [metric for query in alarm["metric_query"] for metric in query["metric"]]


class Alarms(Rendered):
    def test_dimensions_are_those_that_the_balancer_publishes(self) -> None:
        published = json.loads((ROOT / "terraform" / "metrics.json").read_text())
        for example in self.examples:
            metrics = [metric for one in example.json("alarms") for metric in metrics_of(one["values"])]
            own = [metric for metric in metrics if not metric["namespace"].startswith("AWS/")]
            with self.subTest(example.name):
                self.assertIn("wake_wanted", [metric["metric_name"] for metric in own])
            settings = next(file for file in example.settings() if "balancer" in file.name).read_text()
            for metric in own:
                with self.subTest(f"{example.name}: {metric['metric_name']}"):
                    self.assertEqual(published["dimensions"], metric["dimensions"])
                    self.assertIn(metric["metric_name"], published["metrics"])
                    self.assertIn(f"PADDOCK_CLOUDWATCH_NAMESPACE={metric['namespace']}\n", settings)


if __name__ == "__main__":
    unittest.main()
