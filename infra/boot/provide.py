#!/usr/bin/python3
"""The model and llama.cpp, at each boot: fetched by their checksums, or found as they were left.

The model goes to the instance store if there is one with room for it, else to the root volume.
"""

import os
import re
import shutil
import subprocess
import sys
from typing import Dict, Tuple

import aws
import environment
import files
import parameters
from fetch import fetch, is_there
from source import Source, shown

# Beside a model there must be room for logs and for llama.cpp.
SPARE_BYTES = 256 << 20


def wanted(settings: Dict[str, str], name: str) -> str:
    if not settings.get(name):
        raise aws.Trouble(f"the settings name no {name}: set it, and start an instance anew")
    return settings[name]


def token(settings: Dict[str, str]) -> str:
    name = settings.get("FETCH_MODEL_TOKEN_PARAMETER")
    if not name:
        return ""
    found = parameters.value(name)
    if found is None:
        raise aws.Trouble(f"there is no SSM parameter {name}: put the token there, as SecureString")
    return found.strip()


def model(settings: Dict[str, str]) -> str:
    sha256 = wanted(settings, "FETCH_MODEL_SHA256")
    uri = wanted(settings, "FETCH_MODEL_URI")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", uri.split("?")[0].rsplit("/", 1)[-1]) or "model.gguf"
    folders = [base + "/models" for base in (files.STORE, files.STATE) if base == files.STATE or os.path.ismount(base)]
    for folder in folders:
        if is_there(f"{folder}/{name}", sha256):
            print(f"{shown(uri)}: is in {folder} already")
            return f"{folder}/{name}"
    source = Source(uri, token(settings))
    size_bytes = source.size().bytes
    for folder in folders:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        forget_all_but(folder, (name + ".partial", name + ".partial.json"))
        if folder == folders[-1] or shutil.disk_usage(folder).free > size_bytes + SPARE_BYTES:
            fetch(source, sha256, f"{folder}/{name}")
            return f"{folder}/{name}"
    raise AssertionError("unreachable")


def forget_all_but(folder: str, names: Tuple[str, ...]) -> None:
    """A model that is served no more would take the room of the next, also when both have the same name."""
    for other in os.listdir(folder):
        if other not in names:
            os.unlink(f"{folder}/{other}")


def llama(settings: Dict[str, str]) -> None:
    """llama-server out of its archive, with what lies beside it there; or the image's own."""
    if not settings.get("FETCH_LLAMA_URI"):
        if not os.access(files.LLAMA_SERVER, os.X_OK):
            raise aws.Trouble(f"{files.LLAMA_SERVER}: neither in the image nor named by FETCH_LLAMA_URI in the settings")
        return
    sha256 = wanted(settings, "FETCH_LLAMA_SHA256")
    home = f"{files.STATE}/llama/{sha256[:16]}"
    if not os.path.isdir(home):
        archive = f"{files.STATE}/llama/archive.tar.gz"
        fetch(Source(settings["FETCH_LLAMA_URI"]), sha256, archive)
        unpack(archive, home)
        for left in (archive, archive + ".sha256"):
            os.unlink(left)
    found = [folder for folder, _, names in os.walk(home) if "llama-server" in names]
    if len(found) != 1:
        raise aws.Trouble(f"{shown(settings['FETCH_LLAMA_URI'])}: {len(found)} files are called llama-server in it; one is wanted")
    tell_missing_libraries(found[0])
    # Its libraries are found beside the file that the link names.
    link = files.LLAMA_SERVER + ".new"
    if os.path.lexists(link):
        os.unlink(link)
    os.symlink(found[0] + "/llama-server", link)
    os.replace(link, files.LLAMA_SERVER)


def tell_missing_libraries(home: str) -> None:
    """A line for each library that this image lacks. Not a failure: llama.cpp does without a backend that cannot be loaded."""
    needs = sorted(name for name in os.listdir(home) if name == "llama-server" or ".so" in name)
    try:
        said = subprocess.run(["ldd", *(f"{home}/{name}" for name in needs)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        print("no ldd here: whether llama.cpp's libraries are all there is not known")
        return
    missing = set(re.findall(r"^\s+(\S+) => not found", said.stdout.decode(errors="replace"), re.MULTILINE))
    for library in sorted(missing):
        print(f"llama.cpp needs {library}, which this image lacks: if llama-server does not start, use another image or archive")


def unpack(archive: str, home: str) -> None:
    shutil.rmtree(home + ".new", ignore_errors=True)
    os.makedirs(home + ".new", mode=0o755)
    said = subprocess.run(["tar", "--extract", "--gzip", "--no-same-owner", "--file", archive, "--directory", home + ".new"],
                          stderr=subprocess.PIPE)
    if said.returncode != 0:
        raise aws.Trouble(f"{archive}: not a tar.gz archive: {said.stderr.decode(errors='replace')[:300]}")
    os.replace(home + ".new", home)


def main() -> int:
    try:
        settings = dict(os.environ)
        llama(settings)
        path = model(settings)
        files.write(files.ETC + "/llama.env", environment.text_of({"LLAMA_MODEL": path}), 0o644)
    except (aws.Trouble, OSError) as trouble:
        print(f"fetch: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
