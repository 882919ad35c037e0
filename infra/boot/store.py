#!/usr/bin/python3
"""The instance store, if the instance has one, formatted and mounted; blank again after each stop, so at each boot.

A disk that anybody has put something on is left alone. Where the image has mounted it already, that place is used.
"""

import json
import os
import subprocess
import sys
from typing import Any, Dict, List, Optional

import files

MODEL = "Amazon EC2 NVMe Instance Storage"
LABEL = "paddock-store"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout.decode()


def disks() -> List[Dict[str, Any]]:
    listed = json.loads(run("lsblk", "--json", "--bytes", "--output", "PATH,MODEL,SIZE,FSTYPE,LABEL,MOUNTPOINT"))
    found = [disk for disk in listed["blockdevices"] if (disk.get("model") or "").strip() == MODEL]
    return sorted(found, key=lambda disk: int(disk["size"]), reverse=True)


def mounted_at(disk: Dict[str, Any]) -> Optional[str]:
    """Where it is mounted, or a volume on it."""
    if disk.get("mountpoint"):
        return str(disk["mountpoint"])
    return next((place for place in map(mounted_at, disk.get("children", [])) if place), None)


def prepare(disk: Dict[str, Any]) -> str:
    path, place = disk["path"], mounted_at(disk)
    if place == files.STORE:
        return f"{path} is mounted"
    os.makedirs(files.STORE, mode=0o755, exist_ok=True)
    if place:
        run("mount", "--bind", place, files.STORE)
        return f"{path} is mounted at {place} by the image; the model goes there"
    if disk.get("children") or disk.get("fstype") and disk.get("label") != LABEL:
        return f"{path} holds something that is not Paddock's: left alone"
    if not disk.get("fstype"):
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-L", LABEL, "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", path)
    run("mount", "-o", "noatime,nosuid,nodev", path, files.STORE)
    os.chmod(files.STORE, 0o755)
    return f"{path}, {int(disk['size']) >> 30} GiB, is mounted at {files.STORE}"


def main() -> int:
    try:
        found = disks()
        print("store: " + (prepare(found[0]) if found else "this instance has none; the model goes to the root volume"))
    except (subprocess.CalledProcessError, OSError, ValueError) as trouble:
        said = getattr(trouble, "stderr", None)
        print(f"store: {said.decode(errors='replace').strip() if said else trouble}; the model goes to the root volume",
              file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
