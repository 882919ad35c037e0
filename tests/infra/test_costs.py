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


if __name__ == "__main__":
    unittest.main()
