"""The documents' cost tables are what the prices say, and the module's floor says the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unittest

from examples import ROOT, SCRIPTS, examples

import costs
import tool

PRICES = json.loads((ROOT / "infra" / "prices.json").read_text())


class Costs(unittest.TestCase):
    def test_the_documents_tables_are_what_the_prices_say(self) -> None:
        words = [sys.executable, str(SCRIPTS / "costs.py"), "--check"]
        result = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_another_price_makes_another_table(self) -> None:
        text = (ROOT / "docs" / "aws.md").read_text()
        self.assertEqual(costs.rendered(text, PRICES), text)
        dearer = PRICES | {"public_ipv4_hour": 2 * PRICES["public_ipv4_hour"]}
        self.assertNotEqual(costs.rendered(text, dearer), text)

    def test_the_modules_floor_is_the_documents(self) -> None:
        tool.terraform()
        (minimal,) = [example for example in examples() if example.name == "minimal"]
        floor = minimal.json("outputs")["monthly_floor"]["total"]
        told = re.search(r"\*\*together\*\* \| \*\*\$([0-9.]+)\*\*", costs.idle(PRICES))
        self.assertIsNotNone(told)
        self.assertEqual(f"{floor:.2f}", told[1])

    def test_the_cloudwatch_agent_costs_what_the_module_says(self) -> None:
        tool.terraform()
        floors = {example.name: example.json("outputs")["monthly_floor"]["items"] for example in examples()}
        more = sum(floors["complete"][item] - floors["minimal"][item] for item in ("instance", "metrics", "metric_puts"))
        # Each of six items is rounded.
        self.assertAlmostEqual(costs.cloudwatch_agent(PRICES), more, delta=6 * 0.005)

    def test_the_volumes_are_those_of_the_module(self) -> None:
        tool.terraform()
        (minimal,) = [example for example in examples() if example.name == "minimal"]
        (template,) = [one["values"] for one in minimal.json("resources") if one["type"] == "aws_launch_template"]
        disk = template["block_device_mappings"][0]["ebs"][0]
        image_gib = disk["volume_size"] - costs.volume(0, 4.7)[0]
        self.assertIn(image_gib, (8, 75), "what the stand-in says of an image")
        self.assertEqual((disk["volume_size"], disk["throughput"]), costs.volume(image_gib, 4.7))

    def test_every_instance_of_the_busy_table_has_its_volume(self) -> None:
        self.assertEqual(f"{costs.volume_month(PRICES, *costs.volume(75, 4.7)):.2f}", "7.88")
        told = re.search(r"^\| g6\.xlarge \|.* \$([0-9.]+) \|$", costs.busy(PRICES), re.MULTILINE)
        instance = PRICES["hours_per_month"] * (PRICES["instance_hour"]["g6.xlarge"] + PRICES["public_ipv4_hour"])
        self.assertAlmostEqual(float(told[1]), instance + 7.88, delta=0.01)

    def test_the_endpoints_are_counted_in_their_file(self) -> None:
        text = (ROOT / "terraform" / "endpoints.tf").read_text()
        listed = re.search(r"toset\(\[\n(.*?)\n", text)[1].split(",")
        self.assertEqual(costs.endpoints(), len(listed))


if __name__ == "__main__":
    unittest.main()
