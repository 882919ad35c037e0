"""The CloudWatch Agent's configuration.

The agent's own schema is in no package, so this one holds the part of it that the file uses, as the agent's
documentation tells it. Beyond the form, the test holds the intervals and names together on which alarms depend.
"""

from __future__ import annotations

import json
import re
import shlex
import unittest
from pathlib import Path

import jsonschema

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "cloudwatch-agent"
PREFIX = "paddock"  # --statsd-prefix, by default

INTERVAL_SECONDS = {"type": "integer", "minimum": 1, "maximum": 172800}
TEXT = {"type": "string", "minLength": 1, "maxLength": 255}


def closed(properties: dict, *required: str) -> dict:
    """An object of these properties and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def measurements(prefix: str, **others: dict) -> dict:
    names = {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": f"^{prefix}_[a-z_]+$"}}
    return closed({"measurement": names, "metrics_collection_interval": INTERVAL_SECONDS, **others}, "measurement")


SCHEMA = closed(
    {
        "agent": closed(
            {
                "metrics_collection_interval": INTERVAL_SECONDS,
                "omit_hostname": {"type": "boolean"},
                "run_as_user": TEXT,
            }
        ),
        "metrics": closed(
            {
                "namespace": TEXT,
                "force_flush_interval": INTERVAL_SECONDS,
                "metrics_collected": closed(
                    {
                        "statsd": closed(
                            {
                                "service_address": TEXT,
                                "metrics_collection_interval": INTERVAL_SECONDS,
                                "metrics_aggregation_interval": {**INTERVAL_SECONDS, "minimum": 0},
                                "metric_separator": TEXT,
                            }
                        ),
                        "mem": measurements("mem"),
                        "disk": measurements(
                            "disk",
                            resources={"type": "array", "items": {"type": "string", "pattern": "^/"}},
                            drop_device={"type": "boolean"},
                        ),
                    },
                    "statsd",
                ),
            },
            "metrics_collected",
        ),
    },
    "agent",
    "metrics",
)


def configuration() -> dict:
    return json.loads((FOLDER / "amazon-cloudwatch-agent.json").read_text())


def command(beginning: str) -> list[str]:
    """The words of the README's command line that begins so."""
    text = (FOLDER / "README.md").read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if line.startswith(beginning)]
    return shlex.split(line)


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def dimensions(written: dict) -> dict[str, str]:
    """What the agent adds to a gauge without tags."""
    assert "append_dimensions" not in written["metrics"]
    added = {"metric_type": "gauge"}
    return added if written["agent"]["omit_hostname"] else added | {"host": "some-host"}


class Agent(unittest.TestCase):
    """infra/cloudwatch-agent."""

    def setUp(self) -> None:
        self.written = configuration()
        self.statsd = self.written["metrics"]["metrics_collected"]["statsd"]

    def test_form(self) -> None:
        jsonschema.validate(self.written, SCHEMA)
        self.statsd["metric_collection_interval"] = 10
        with self.assertRaises(jsonschema.ValidationError):
            jsonschema.validate(self.written, SCHEMA)

    def test_listens_on_loopback_only_and_where_the_balancer_sends(self) -> None:
        self.assertEqual(self.statsd["service_address"], "127.0.0.1:8125")
        self.assertEqual(option(command("paddock balancer"), "--statsd-addr"), self.statsd["service_address"])

    def test_no_collection_is_without_a_gauge(self) -> None:
        sent = option(command("paddock balancer"), "--statsd-reporting-interval")
        (seconds,) = re.fullmatch(r"(\d+)s", sent).groups()
        self.assertLess(int(seconds), self.statsd["metrics_collection_interval"])

    def test_alarms_of_ten_seconds_see_values_in_time(self) -> None:
        alarm = command("aws cloudwatch put-metric-alarm")
        period = int(option(alarm, "--period"))
        self.assertEqual(self.statsd["metrics_aggregation_interval"], 0)
        self.assertLessEqual(self.statsd["metrics_collection_interval"], period)
        self.assertLessEqual(self.written["metrics"]["force_flush_interval"], period)

    def test_alarm_names_the_metric_as_it_arrives(self) -> None:
        alarm = command("aws cloudwatch put-metric-alarm")
        self.assertEqual(option(alarm, "--namespace"), self.written["metrics"]["namespace"])
        named = dict(pair.split("=") for pair in option(alarm, "--dimensions").split(","))
        self.assertEqual({named["Name"]: named["Value"]}, dimensions(self.written))
        published = json.loads((ROOT / "terraform" / "metrics.json").read_text())["metrics"]
        arrives = {self.statsd["metric_separator"].join((PREFIX, name)) for name in published}
        self.assertIn(option(alarm, "--metric-name"), arrives)


if __name__ == "__main__":
    unittest.main()
