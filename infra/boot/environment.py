"""Files of KEY=value, as systemd reads them."""

import os
import re
from typing import Dict

import aws
import files


def parse(text: str, name: str) -> Dict[str, str]:
    """Lines of KEY=value; quotes around a whole value are taken off, all else is as it stands."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        match = re.fullmatch(r"([A-Z_][A-Z0-9_]*)=(.*)", line)
        if not match:
            raise aws.Trouble(f"{name}, line {number}: not of the form KEY=value")
        value = match.group(2).strip()
        quote = value[:1]
        if quote in ("'", '"') and len(value) > 1 and value.find(quote, 1) == len(value) - 1:
            value = value[1:-1]
        found[match.group(1)] = value
    return found


def load_bootstrap() -> None:
    """For scripts that people start: what units have from their EnvironmentFile."""
    for key, value in parse((files.read(files.ETC + "/bootstrap.env") or b"").decode(), "bootstrap.env").items():
        os.environ.setdefault(key, value)


def text_of(values: Dict[str, str]) -> bytes:
    lines = []
    for key, value in sorted(values.items()):
        quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
        lines.append(f'{key}="{quoted}"\n')
    return "".join(lines).encode()
