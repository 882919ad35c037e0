"""Mistakes that are planted into a small sound configuration, one at a time: each must be found, and named."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import unittest
from contextlib import ExitStack, redirect_stdout
from pathlib import Path

from examples import RENDERED, ROOT

import check
import offline
import tool

SOUND = Path(__file__).with_name("sound")


class SeededMistakes(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        tool.terraform()
        cls.running = ExitStack()
        cls.addClassCleanup(cls.running.close)
        cls.environment = cls.running.enter_context(offline.stand_in([SOUND]))
        cls.actions = [json.loads(file.read_text())["balancer"] for file in check.lint.CALLED]

    def said(self, right: str = "", wrong: str = "", without_action: str = "") -> tuple[int, str]:
        """How many steps failed, and the words, with `wrong` in the place of `right`."""
        folder = Path(tempfile.mkdtemp(prefix="seeded-"))
        self.addCleanup(shutil.rmtree, folder)
        self.addCleanup(shutil.rmtree, RENDERED / folder.name, ignore_errors=True)
        shutil.copytree(SOUND, folder, dirs_exist_ok=True)
        main = folder / "main.tf"
        text = main.read_text()
        if right:
            self.assertEqual(1, text.count(right), f"'{right}' is in the sound configuration")
        main.write_text(text.replace(right, wrong) if right else text)
        actions = [action for file in self.actions for action in file if action != without_action]
        (folder / "actions.json").write_text(json.dumps({"balancer": actions}))
        with redirect_stdout(io.StringIO()) as words:
            report = check.Report()
            if check.is_valid(folder, self.environment, report):
                for what, act in check.tests_of(folder, self.environment):
                    report.step(what, act)
                report.step("lint", lambda: check.rendered_and_linted(folder, self.environment))
        return report.failed, words.getvalue()

    def found(self, names: list[str], **seed: str) -> None:
        failed, words = self.said(**seed)
        self.assertEqual(1, failed, words)
        for name in names:
            self.assertIn(name, words)

    def test_the_configuration_itself_is_sound(self) -> None:
        failed, words = self.said()
        self.assertEqual(0, failed, words)

    def test_misspelt_argument(self) -> None:
        self.found(['An argument named "min_sise" is not expected', '"min_size"'], right="min_size  ", wrong="min_sise  ")

    def test_wrong_type(self) -> None:
        self.found(['attribute "max_size"', "a number is required"], right="max_size           = 1", wrong='max_size = "one"')

    def test_missing_argument(self) -> None:
        self.found(['"max_size" is required'], right="max_size           = 1", wrong="")

    def test_wrong_block(self) -> None:
        self.found(['Blocks of type "metadata_option" are not expected'], right="metadata_options {", wrong="metadata_option {")

    def test_bad_reference(self) -> None:
        self.found(
            ['"aws_launch_template" "agents" has not been declared'],
            right="aws_launch_template.agent.id",
            wrong="aws_launch_template.agents.id",
        )

    def test_value_that_is_none_of_the_enumeration(self) -> None:
        self.found(
            ['aws_launch_template.agent: metadata_options.http_tokens = "requires"', "optional, required"],
            right='"required"',
            wrong='"requires"',
        )

    def test_misspelt_iam_action(self) -> None:
        self.found(
            ["autoscaling:DescribeAutoScalingGroup: there is no such IAM action"],
            right="Action = local.looks",
            wrong='Action = concat(local.looks, ["autoscaling:DescribeAutoScalingGroup"])',
        )

    def test_missing_permission(self) -> None:
        self.found(
            ["the balancer's policy lacks autoscaling:SetDesiredCapacity"], without_action="autoscaling:SetDesiredCapacity"
        )

    def test_a_role_whose_policy_was_lost(self) -> None:
        self.found(
            ["the balancer's role has no policy"],
            right='resource "aws_iam_role_policy" "balancer" {',
            wrong='resource "aws_iam_role_policy" "other" {',
        )

    def test_right_that_nothing_needs(self) -> None:
        self.found(
            ["the balancer's policy allows autoscaling:DescribeTags"],
            right="Action = local.looks",
            wrong='Action = concat(local.looks, ["autoscaling:DescribeTags"])',
        )

    def test_write_on_everything(self) -> None:
        self.found(
            ["autoscaling:SetDesiredCapacity (access level Write) on every resource without a condition"],
            right="Resource = aws_autoscaling_group.agent.arn",
            wrong='Resource = "*"',
        )

    def test_unknown_type_of_resource(self) -> None:
        self.found(
            ['"aws_autoscaling_groups"'],
            right='resource "aws_iam_role" "balancer" {',
            wrong='resource "aws_autoscaling_groups" "x" {}\nresource "aws_iam_role" "balancer" {',
        )

    def test_no_tests(self) -> None:
        [(_, act)] = check.tests_of(ROOT / "docs", {})
        self.assertEqual((False, "tests/ has no *.tftest.hcl: nothing is asserted"), act())


if __name__ == "__main__":
    unittest.main()
