#!/usr/bin/python3
"""The other scripts and units of this instance, from the bucket, at each boot: user data has no room for them.

They come with the settings object's name and the ending .boot.json, over TLS from the deployment's own bucket. If they cannot be
had, those of an earlier boot go on.
"""

import json
import os
import subprocess
import sys
from typing import List, Tuple

import aws
import files
from source import Source

PATIENCE_SECONDS = 10 * 60
FOLDERS = ("/usr/local/lib/paddock/", "/etc/systemd/system/")


def uri() -> str:
    return f"s3://{os.environ['BOOT_BUCKET']}/{os.environ['BOOT_SETTINGS_KEY']}.boot.json"


def bundle() -> List[Tuple[str, bytes, int]]:
    """Path, content and mode of each file."""
    text = Source(uri()).read()
    try:
        found = [(one["path"], one["text"].encode(), int(one["mode"], 8)) for one in json.loads(text)]
    except (ValueError, KeyError, TypeError) as error:
        raise aws.Trouble(f"{uri()}: not a list of files ({error!r}): apply the Terraform module again") from error
    for path, _, _ in found:
        if not path.startswith(FOLDERS) or ".." in path:
            raise aws.Trouble(f"{uri()}: {path} is no file of Paddock's: apply the Terraform module again")
    return [(files.ROOT + path, data, mode) for path, data, mode in found]


def bring() -> None:
    for path, data, mode in bundle():
        files.write(path, data, mode)


def begin() -> None:
    if os.path.exists(files.UNITS + "/paddock.target"):
        try:
            bring()
        except aws.Trouble as trouble:
            print(f"{trouble}; scripts and units of the last boot go on", file=sys.stderr)
    else:
        aws.until_it_works(bring, PATIENCE_SECONDS)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "start", "--no-block", "paddock.target"], check=True)


def main() -> int:
    try:
        begin()
    except (aws.Trouble, subprocess.CalledProcessError, KeyError, OSError) as trouble:
        print(f"begin: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
