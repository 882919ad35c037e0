"""The Grafana board: well formed, and its expressions are PromQL about instruments that exist."""

from __future__ import annotations

import itertools
import json
import subprocess
import tempfile
import unittest
from pathlib import Path

import instruments
from promtool import promtool

BOARD = Path(__file__).resolve().parents[2] / "infra" / "grafana" / "paddock.json"
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# What Grafana puts in place of its variables before it asks Prometheus.
VARIABLES = {"$pool": "default", "$__rate_interval": "1m", "$__range": "6h"}


def board() -> dict:
    return json.loads(BOARD.read_text())


def expressions(written: dict) -> dict[str, str]:
    """Every expression of the board, by panel and target, as Prometheus is asked for it."""
    found = {}
    for panel in written["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            found[f"panel_{panel['id']}_{target['refId']}"] = expression
    return found


def overlap(one: dict, other: dict) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def parsed_by_promtool(named: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Has promtool read each expression, as a recording rule of a file made for it."""
    rules = [{"record": f"board:{name}", "expr": expression} for name, expression in named.items()]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "board.yml").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
        return promtool("check", "rules", "board.yml", folder=Path(folder))


class Board(unittest.TestCase):
    """infra/grafana/paddock.json."""

    def test_panels_have_ids_of_their_own_and_do_not_overlap(self) -> None:
        panels = board()["panels"]
        ids = [panel["id"] for panel in panels]
        self.assertEqual(len(ids), len(set(ids)))
        for panel in panels:
            place = panel["gridPos"]
            self.assertGreaterEqual(place["x"], 0, panel["title"])
            self.assertLessEqual(place["x"] + place["w"], COLUMNS, panel["title"])
        for one, other in itertools.combinations(panels, 2):
            self.assertFalse(overlap(one["gridPos"], other["gridPos"]), f"{one['title']} and {other['title']}")

    def test_panels_can_be_read(self) -> None:
        for panel in board()["panels"]:
            with self.subTest(panel["title"]):
                self.assertTrue(panel["description"].endswith("."), "a sentence")
                self.assertIn(panel["type"], {"stat", "timeseries", "bargauge"})
                references = [target["refId"] for target in panel["targets"]]
                self.assertEqual(len(references), len(set(references)))

    def test_every_datasource_is_the_variable(self) -> None:
        written = board()
        self.assertGreaterEqual(written["schemaVersion"], 42)
        variables = {variable["name"]: variable for variable in written["templating"]["list"]}
        self.assertEqual(variables["datasource"]["query"], "prometheus")
        self.assertEqual(variables["pool"]["datasource"], DATASOURCE)
        for panel in written["panels"]:
            self.assertEqual(panel["datasource"], DATASOURCE, panel["title"])
            for target in panel["targets"]:
                self.assertEqual(target["datasource"], DATASOURCE, panel["title"])

    def test_every_expression_is_promql(self) -> None:
        result = parsed_by_promtool(expressions(board()))
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertNotEqual(parsed_by_promtool({"broken": "sum(rate(paddock_slots[5m])"}).returncode, 0)

    def test_no_variable_is_left(self) -> None:
        for name, expression in expressions(board()).items():
            self.assertNotIn("$", expression, name)

    def test_expressions_ask_only_for_what_there_is(self) -> None:
        for name, expression in expressions(board()).items():
            with self.subTest(name):
                self.assertEqual(instruments.complaints(expression), [])

    def test_every_instrument_is_on_the_board(self) -> None:
        shown = " ".join(expressions(board()).values())
        families = [*instruments.GAUGES_AND_COUNTERS, *instruments.HISTOGRAMS]
        self.assertEqual([name for name in families if name not in shown], [])


if __name__ == "__main__":
    unittest.main()
