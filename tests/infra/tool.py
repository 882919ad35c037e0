"""Programs of others that a test needs, and that may not be installed."""

from __future__ import annotations

import os
import shutil
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PADDOCK = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "paddock"
MAY_BE_MISSING = {"terraform"}
"""It comes from no package of a distribution: its part is left out, and that is said, wherever it is not installed."""


def needed(name: str, mend: str) -> str:
    """The path of a program. Where it is missing the test is skipped, or fails if PADDOCK_TEST_TOOLS says that all are required."""
    found = shutil.which(name)
    if found:
        return found
    words = f"NOT CHECKED, for there is no {name}: {mend}"
    if os.environ.get("PADDOCK_TEST_TOOLS") == "required" and name not in MAY_BE_MISSING:
        raise AssertionError(words)
    raise unittest.SkipTest(words)


def terraform() -> str:
    return needed("terraform", "install 1.9 or later")


def paddock() -> str:
    return needed(str(PADDOCK), "make infra-test builds it")
