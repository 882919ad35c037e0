"""What is missing is said, and is no success where everything is required."""

from __future__ import annotations

import unittest
from unittest import mock

import tool

GONE = "a-program-that-nobody-has"


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


if __name__ == "__main__":
    unittest.main()
