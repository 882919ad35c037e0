"""The tables of inputs and outputs in terraform/README.md, written from variables and outputs; `--check` only compares."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import hcl2

from offline import ROOT

MODULE = ROOT / "terraform"
BEGIN, END = "<!-- {}: made from the .tf files -->", "<!-- end of {} -->"
DEFAULT_LENGTH_MAX = 60
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


class Mistake(Exception):
    """What is wrong with the README, in one line."""


def text_of(value: Any) -> Any:
    """HCL's strings without their quotes."""
    if isinstance(value, str):
        return json.loads(value) if QUOTED.fullmatch(value) else value.removeprefix("${").removesuffix("}")
    if isinstance(value, list):
        return [text_of(one) for one in value]
    if isinstance(value, dict):
        return {text_of(key): text_of(one) for key, one in value.items() if not key.startswith("__")}
    return value


def declared(module: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Every `variable` or `output` of the module, in alphabetical order."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(module.glob("*.tf")):
        with file.open() as text:
            for one in hcl2.load(text).get(kind, []):
                found |= {text_of(name): {key: text_of(value) for key, value in body.items()} for name, body in one.items()}
    return dict(sorted(found.items()))


def short_type(words: str) -> str:
    """`map(object({…}))` as `map(object)`: the description tells the rest."""
    before, is_object, _ = words.partition("object(")
    return f"{before}object{')' * before.count('(')}" if is_object else words


def default_of(variable: dict[str, Any]) -> str:
    if "default" not in variable:
        return "**required**"
    words = json.dumps(variable["default"], ensure_ascii=False)
    return f"`{words}`" if len(words) <= DEFAULT_LENGTH_MAX else "see the file"


def cell(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|")


def table(kind: str, module: Path) -> str:
    if kind == "outputs":
        rows = [f"| `{name}` | {cell(one['description'])} |" for name, one in declared(module, "output").items()]
        return "\n".join(["| name | what it is |", "|---|---|", *rows])
    rows = [
        f"| `{name}` | {cell(one['description'])} | `{short_type(cell(one['type']))}` | {cell(default_of(one))} |"
        for name, one in declared(module, "variable").items()
    ]
    return "\n".join(["| name | what it is | type | default |", "|---|---|---|---|", *rows])


def with_tables(readme: str, module: Path) -> str:
    for kind in ("inputs", "outputs"):
        begin, end = BEGIN.format(kind), END.format(kind)
        if begin not in readme or end not in readme:
            raise Mistake(f"README.md lacks the lines '{begin}' and '{end}'")
        before, _, rest = readme.partition(begin)
        after = rest.partition(end)[2]
        readme = f"{before}{begin}\n{table(kind, module)}\n{end}{after}"
    return readme


def stale(module: Path = MODULE) -> str | None:
    """Why the README is not up to date; None if it is."""
    readme = module / "README.md"
    if not readme.exists():
        return f"{readme} is missing"
    text = readme.read_text()
    try:
        fresh = with_tables(text, module)
    except Mistake as mistake:
        return str(mistake)
    if fresh == text:
        return None
    new = [line for line in fresh.splitlines() if line not in text.splitlines()]
    return "README.md is not up to date; run scripts/infra/module_readme.py. It lacks:\n" + "\n".join(new)


def main() -> int:
    if "--check" in sys.argv[1:]:
        reason = stale()
        print(reason or "README.md is up to date")
        return 1 if reason else 0
    readme = MODULE / "README.md"
    try:
        readme.write_text(with_tables(readme.read_text(), MODULE))
    except (Mistake, FileNotFoundError) as mistake:
        sys.exit(str(mistake))
    return 0


if __name__ == "__main__":
    sys.exit(main())
