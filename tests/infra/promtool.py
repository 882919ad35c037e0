"""Prometheus's own tool."""

from __future__ import annotations

import os
import shutil
import subprocess
import unittest
from pathlib import Path

MISSING = "no promtool here, so it checks nothing (Debian: apt-get install prometheus)"


def promtool(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs promtool in the folder. Where it is missing, the test is skipped, or fails if CI says that it is required."""
    program = shutil.which("promtool")
    if program is None:
        is_required = os.environ.get("PADDOCK_TEST_TOOLS") == "required"
        raise AssertionError(MISSING) if is_required else unittest.SkipTest(MISSING)
    return subprocess.run([program, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
