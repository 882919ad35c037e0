"""The files of an instance, and how they are changed: whole or not at all."""

import os
import tempfile
from typing import NamedTuple, Optional

# Tests put everything below a folder and into a group of their own.
ROOT = os.environ.get("BOOT_ROOT", "")
TLS_GROUP = os.environ.get("BOOT_TLS_GROUP", "paddock-tls")
ETC = ROOT + "/etc/paddock"
SETTINGS = ETC + "/settings.env"
TOKEN = ETC + "/token"
RESTART_WANTED = ETC + "/restart-wanted"
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


class File(NamedTuple):
    data: bytes
    mode: int
    # -1: whichever it is.
    group: int = -1


def there(path: str) -> Optional[File]:
    data = read(path)
    return None if data is None else File(data, os.stat(path).st_mode & 0o7777, os.stat(path).st_gid)


def is_there(path: str, wanted: File) -> bool:
    found = there(path)
    return found is not None and found[:2] == wanted[:2] and wanted.group in (-1, found.group)


def write(path: str, data: bytes, mode: int, group: int = -1) -> bool:
    """Writes the file, nobody else's to read before it has its mode; says whether anything changed."""
    if is_there(path, File(data, mode, group)):
        return False
    folder, name = os.path.split(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    # A name of its own: a boot and a refresh may write the same file at once.
    file, new = tempfile.mkstemp(".new", name + ".", folder)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(data)
            if group >= 0:
                os.fchown(out.fileno(), -1, group)
            os.fchmod(out.fileno(), mode)
            out.flush()
            os.fsync(out.fileno())
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
    return True
