"""Prometheus's own tool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def promtool(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs promtool in the folder."""
    program = shutil.which("promtool")
    if program is None:
        raise AssertionError("no promtool: install Debian's package prometheus, or Prometheus itself")
    return subprocess.run([program, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
