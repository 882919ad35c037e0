"""The scrape configuration and the alerts, by Prometheus's own tool."""

from __future__ import annotations

import re
import shutil
import tempfile
import unittest
from pathlib import Path

import yaml

import instruments
from promtool import promtool

FOLDER = Path(__file__).resolve().parents[2] / "infra" / "prometheus"
SEVERITIES = {"critical", "warning"}


def rules() -> list[dict]:
    groups = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


class Prometheus(unittest.TestCase):
    """Everything in infra/prometheus."""

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name) / "prometheus"
        shutil.copytree(FOLDER, self.folder)
        (self.folder / "paddock-token").write_text("a-token-for-this-test\n")

    def assert_good(self, *words: str) -> None:
        result = promtool(*words, folder=self.folder)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_configuration_is_good(self) -> None:
        self.assert_good("check", "config", "prometheus.yml")

    def test_rules_are_good_and_fire_when_they_should(self) -> None:
        self.assert_good("check", "rules", "rules.yml")
        self.assert_good("test", "rules", "rules_test.yml")

    def test_scrapes_with_the_token_of_a_file(self) -> None:
        (scrape,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
        self.assertEqual(scrape["metrics_path"], "/metrics")
        self.assertEqual(scrape["authorization"], {"type": "Bearer", "credentials_file": "paddock-token"})
        (self.folder / "paddock-token").unlink()
        result = promtool("check", "config", "prometheus.yml", folder=self.folder)
        self.assertNotEqual(result.returncode, 0, "the file is asked for")

    def test_every_alert_waits_says_how_bad_and_how_to_mend(self) -> None:
        for rule in rules():
            with self.subTest(rule["alert"]):
                self.assertRegex(rule["for"], r"^\d+[sm]$")
                self.assertIn(rule["labels"]["severity"], SEVERITIES)
                cause, _, mend = rule["annotations"]["summary"].partition(": ")
                self.assertTrue(cause and mend, "cause, colon, mend")

    def test_alerts_ask_only_for_what_there_is(self) -> None:
        for rule in rules():
            with self.subTest(rule["alert"]):
                self.assertEqual(instruments.complaints(rule["expr"]), [])
        self.assertEqual(
            instruments.complaints('sum by (agent) (paddock_slotz{state="gone"}) + paddock_agents'),
            [
                "no such series: paddock_slotz",
                "no such label: agent",
                "no such label: state",
                "no such value of state: gone",
            ],
        )

    def test_every_alert_is_tried_both_ways(self) -> None:
        tests = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
        silent = {case["alertname"] for test in tests for case in test.get("alert_rule_test", [])}
        fired = {
            name
            for test in tests
            for case in test.get("promql_expr_test", [])
            for sample in case["exp_samples"]
            for name in re.findall(r'alertname="(\w+)"', sample["labels"] + case["expr"])
        }
        names = {rule["alert"] for rule in rules()}
        self.assertEqual(silent, names)
        self.assertEqual(fired, names)


if __name__ == "__main__":
    unittest.main()
