#!/usr/bin/python3
"""The other scripts and units of this instance, from the bucket, at each boot: user data has no room for them.

They come with the settings object's name and the ending .boot.json, over TLS from the deployment's own bucket. If they cannot be
had, those of an earlier boot go on.
"""

import json
import os
import subprocess
import sys
import time

import aws
import files
from source import Source

PATIENCE_SECONDS = 10 * 60
LONGEST_PAUSE_SECONDS = 30
FOLDERS = ("/usr/local/lib/paddock/", "/etc/systemd/system/")


def uri() -> str:
    return f"s3://{os.environ['BOOT_BUCKET']}/{os.environ['BOOT_SETTINGS_KEY']}.boot.json"


def unpack(text: bytes) -> bool:
    """Puts the files in place; says whether a unit changed."""
    try:
        found = [(one["path"], int(one["mode"], 8), one["text"].encode()) for one in json.loads(text)]
    except (ValueError, KeyError, TypeError) as error:
        raise aws.Trouble(f"{uri()}: not a list of files ({error!r}): apply the Terraform module again") from error
    for path, _, _ in found:
        if not path.startswith(FOLDERS) or ".." in path:
            raise aws.Trouble(f"{uri()}: {path} is no file of Paddock's: apply the Terraform module again")
    changed = [path for path, mode, data in found if files.write(files.ROOT + path, data, mode)]
    return any(path.startswith("/etc/systemd/") for path in changed)


def bring() -> bool:
    return unpack(Source(uri()).read())


def begin() -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    pause = 1
    told = ""
    while True:
        try:
            bring()
            break
        except aws.Trouble as trouble:
            if os.path.exists(files.UNITS + "/paddock.target"):
                print(f"{trouble}; scripts and units of the last boot go on", file=sys.stderr)
                break
            if time.monotonic() > until:
                raise
            if str(trouble) != told:
                told = str(trouble)
                print(f"{told}; tried again for {PATIENCE_SECONDS // 60} minutes", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "start", "--no-block", "paddock.target"], check=True)


def main() -> int:
    try:
        begin()
    except (aws.Trouble, subprocess.CalledProcessError, OSError) as trouble:
        print(f"begin: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
