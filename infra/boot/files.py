"""The files of an instance, and how they are changed: whole or not at all."""

import os
import re
from typing import Dict, Optional

import aws

# Tests put everything below a folder and into a group of their own.
ROOT = os.environ.get("BOOT_ROOT", "")
TLS_GROUP = os.environ.get("BOOT_TLS_GROUP", "paddock-tls")
ETC = ROOT + "/etc/paddock"
SETTINGS = ETC + "/settings.env"
TOKEN = ETC + "/token"
API_KEYS = ETC + "/api-keys"
TLS = ETC + "/tls"
UNITS = ROOT + "/etc/systemd/system"
PROGRAM = ROOT + "/usr/local/bin/paddock"
LLAMA_SERVER = ROOT + "/usr/local/bin/llama-server"
STATE = ROOT + "/var/lib/paddock"
STORE = ROOT + "/mnt/paddock-store"


def read(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write(path: str, data: bytes, mode: int, group: int = -1) -> bool:
    """Writes the file, with its mode from its first byte on; says whether anything changed."""
    if read(path) == data:
        return False
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    new = path + ".new"
    if os.path.exists(new):
        os.unlink(new)
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o600)
    with os.fdopen(file, "wb") as out:
        out.write(data)
        if group >= 0:
            os.fchown(out.fileno(), -1, group)
        os.fchmod(out.fileno(), mode)
        out.flush()
        os.fsync(out.fileno())
    os.replace(new, path)
    return True


def parse_environment(text: str, name: str) -> Dict[str, str]:
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
    for key, value in parse_environment((read(ETC + "/bootstrap.env") or b"").decode(), "bootstrap.env").items():
        os.environ.setdefault(key, value)


def as_environment(values: Dict[str, str]) -> bytes:
    lines = []
    for key, value in sorted(values.items()):
        quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
        lines.append(f'{key}="{quoted}"\n')
    return "".join(lines).encode()
