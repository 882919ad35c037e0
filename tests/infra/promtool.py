"""Prometheus's own tool."""

from __future__ import annotations

import subprocess
from pathlib import Path

import tool


def promtool(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs promtool in the folder."""
    program = tool.needed("promtool", "Debian: apt-get install prometheus")
    return subprocess.run([program, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
