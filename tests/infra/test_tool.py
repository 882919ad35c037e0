"""What is missing is said, and is no success where everything is required."""

from __future__ import annotations

import io
import re
import sys
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import examples  # noqa: F401  (where the scripts are)
import check
import tool

GONE = "a-program-that-nobody-has"
ESSENTIAL = {"util-linux"}
"""What Debian never lacks."""


class Needed(unittest.TestCase):
    def test_what_is_there_is_found(self) -> None:
        with mock.patch.dict("os.environ", PADDOCK_TEST_TOOLS="required"):
            self.assertTrue(tool.needed("sh", "").endswith("/sh"))

    def test_what_is_missing_is_said_or_fails(self) -> None:
        with mock.patch.dict("os.environ", PADDOCK_TEST_TOOLS=""), self.assertRaisesRegex(unittest.SkipTest, f"{GONE}: make it"):
            tool.needed(GONE, "make it")
        with mock.patch.dict("os.environ", PADDOCK_TEST_TOOLS="required"), self.assertRaisesRegex(AssertionError, f"{GONE}: make it"):
            tool.needed(GONE, "make it")

    def test_terraform_may_be_missing(self) -> None:
        nowhere = mock.patch.object(tool.shutil, "which", return_value=None)
        with nowhere, mock.patch.dict("os.environ", PADDOCK_TEST_TOOLS="required"), self.assertRaises(unittest.SkipTest):
            tool.terraform()


class Ci(unittest.TestCase):
    def test_it_installs_what_the_tests_ask_for(self) -> None:
        tests = tool.ROOT / "tests"
        texts = [file.read_text() for ending in ("py", "rs", "mjs") for file in tests.rglob(f"*.{ending}")]
        asked = set(re.findall(r"Debian: apt-get install ([a-z0-9 -]+)", "".join(texts)))
        asked |= set(re.findall(r"Debian's packages? ([a-z0-9-]+(?: and [a-z0-9-]+)?)", "".join(texts)))
        packages = {package for words in asked for package in words.split() if package != "and"}
        self.assertGreater(len(packages), 5)
        installed = set(re.findall(r"^needs ([a-z0-9-]+) ", (tool.ROOT / ".ci" / "run").read_text(), re.MULTILINE))
        self.assertEqual(packages - installed - ESSENTIAL, set())


class Terraform(unittest.TestCase):
    def test_what_needs_none_is_checked_without_it(self) -> None:
        nowhere = mock.patch.object(check.shutil, "which", return_value=None)
        for readme, mistakes, status in ((None, 0, 0), ("README.md is not up to date", 0, 1), (None, 1, 1)):
            seen: list[Path] = []

            def checkov(folder: Path) -> tuple[bool, str]:
                seen.append(folder)
                return mistakes == 0, "CKV_1: wrong"

            stale = mock.patch.object(check.module_readme, "stale", return_value=readme)
            with nowhere, stale, mock.patch.object(check, "checkov", checkov), mock.patch.object(sys, "argv", ["check.py"]):
                with redirect_stdout(io.StringIO()) as words:
                    self.assertEqual(check.main(), status, words.getvalue())
            self.assertEqual(seen, [check.MODULE, check.IMAGE])
            self.assertIn("SKIPPED: terraform is not installed", words.getvalue())


if __name__ == "__main__":
    unittest.main()
