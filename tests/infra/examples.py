"""The examples as scripts/infra/render.py wrote them."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RENDERED = ROOT / "target" / "infra" / "rendered"
SCRIPTS = ROOT / "scripts" / "infra"

sys.path.insert(0, str(SCRIPTS))


@dataclass(frozen=True)
class Example:
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def json(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text())

    def user_data(self) -> list[Path]:
        return sorted((self.folder / "user-data").glob("*.yaml"))

    def settings(self) -> list[Path]:
        return sorted((self.folder / "settings").glob("*settings.env"))


def examples() -> list[Example]:
    """All that the module has; empty where terraform is missing."""
    names = [folder.name for folder in sorted((ROOT / "terraform" / "examples").glob("*")) if any(folder.glob("*.tf"))]
    return [Example(RENDERED / name) for name in names if (RENDERED / name / "inputs.sha256").exists()]
