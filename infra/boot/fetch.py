#!/usr/bin/python3
"""A file by its checksum, in parts at a time; what was interrupted goes on with the parts that are missing.

usage: fetch.py URI SHA256 PATH
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import sys
import threading
import time
from typing import Any, List, Set

import aws
import environment
import files
from source import Source

PART_BYTES = 32 << 20
PARALLEL_PARTS = 16
# Tries in a row that bring nothing.
TRIES = 8
LONGEST_PAUSE_SECONDS = 20
TELL_EVERY_SECONDS = 15
HASH_BYTES = 4 << 20


def hash_range(file: Any, until: int, sha: Any) -> None:
    while file.tell() < until:
        block = file.read(min(HASH_BYTES, until - file.tell()))
        if not block:
            return
        sha.update(block)


def stamp_of(path: str, sha256: str) -> str:
    about = os.stat(path)
    return f"{sha256} {about.st_size} {about.st_mtime_ns} {about.st_ino}\n"


def stamp(path: str, sha256: str) -> None:
    files.write(path + ".sha256", stamp_of(path, sha256).encode(), 0o644)


def is_there(path: str, sha256: str) -> bool:
    """Reading gigabytes again at each boot costs half a minute: what was right once is known by its size and times."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path + ".sha256") as file:
            if file.read() == stamp_of(path, sha256):
                return True
    except FileNotFoundError:
        pass
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        hash_range(file, os.fstat(file.fileno()).st_size, sha)
    if sha.hexdigest() != sha256:
        return False
    stamp(path, sha256)
    return True


class Download:
    def __init__(self, source: Source, sha256: str, path: str, part_bytes: int) -> None:
        self.source = source
        self.sha256 = sha256
        self.path = path
        self.partial = path + ".partial"
        self.journal = path + ".partial.json"
        self.stopped = threading.Event()
        self.running: List[Any] = []
        self.size, self.ranges = source.size()
        self.part_bytes = part_bytes if self.ranges else max(self.size, 1)
        self.parts = -(-self.size // self.part_bytes) if self.ranges else 1
        self.done = self.resume()

    def pause(self, attempt: int) -> None:
        self.stopped.wait(min(2 ** attempt, LONGEST_PAUSE_SECONDS))

    def resume(self) -> Set[int]:
        """The parts that an earlier run has finished, if it was after the same bytes."""
        head = {"sha256": self.sha256, "size_bytes": self.size, "part_bytes": self.part_bytes}
        try:
            with open(self.journal) as file:
                lines = file.read().split("\n")[:-1]
            if self.ranges and json.loads(lines[0]) == head and os.path.getsize(self.partial) == self.size:
                return {int(line) for line in lines[1:]}
        except (FileNotFoundError, ValueError, IndexError):
            pass
        with open(self.partial, "wb") as file:
            if self.size:
                try:
                    os.posix_fallocate(file.fileno(), 0, self.size)
                except OSError as error:
                    os.unlink(self.partial)
                    raise aws.Trouble(f"{self.path}: no room for {self.size >> 20} MiB ({error.strerror}): "
                                      "give the instance a larger volume") from error
        files.write(self.journal, (json.dumps(head) + "\n").encode(), 0o644)
        return set()

    def part(self, index: int) -> None:
        begin = index * self.part_bytes
        end = min(begin + self.part_bytes, self.size)
        # curl writes where this stands, and moves it: how far it came is seen here.
        file = os.open(self.partial, os.O_WRONLY)
        try:
            at = begin
            attempt = 0
            while not self.stopped.is_set():
                os.lseek(file, at, os.SEEK_SET)
                wanted = [("range", f"{at}-{end - 1}"), ("max-filesize", str(end - at))] if self.ranges else []
                answer = aws.curl(self.source.lines() + [("fail", "")] + wanted, to=file, watch=self.running)
                came = os.lseek(file, 0, os.SEEK_CUR) if answer.status == (206 if self.ranges else 200) else at
                if answer.curl_exit == 0 and came > at and (came == end or not self.ranges):
                    return self.note(index)
                is_kept = self.ranges and at < came < end
                attempt = 0 if is_kept else attempt + 1
                at = came if is_kept else begin
                if answer.status in (200, 206) and answer.curl_exit in aws.TOLD_EXITS:
                    raise aws.Trouble(f"{self.source.name}: it was asked for bytes {begin} to {end - 1}, and sent others")
                if attempt == TRIES or not answer.failed_in_passing():
                    raise self.source.refused(answer)
                self.pause(attempt)
        finally:
            os.close(file)

    def note(self, index: int) -> None:
        with open(self.journal, "a") as file:
            file.write(f"{index}\n")

    def tell(self, finished: int) -> None:
        print(f"{self.source.name}: {finished} of {self.parts} parts", flush=True)

    def run(self, parallel: int) -> str:
        """Gets what is missing, and tells the checksum of the whole: read while later parts arrive."""
        sha = hashlib.sha256()
        told = time.monotonic()
        pool = concurrent.futures.ThreadPoolExecutor(parallel)
        waits = {index: pool.submit(self.part, index) for index in range(self.parts) if index not in self.done}
        try:
            # The failure of any part is told at once, not when its turn comes.
            failure: List[BaseException] = []
            for wait in waits.values():
                wait.add_done_callback(lambda done: self.fail(done, failure))
            # Unbuffered: nothing may be read ahead of a part that has not come.
            with open(self.partial, "rb", buffering=0) as file:
                for index in range(self.parts):
                    if index in waits:
                        concurrent.futures.wait([waits[index]])
                    if failure:
                        raise failure[0]
                    last = index == self.parts - 1
                    hash_range(file, sys.maxsize if last else (index + 1) * self.part_bytes, sha)
                    if time.monotonic() - told > TELL_EVERY_SECONDS:
                        told = time.monotonic()
                        self.tell(index + 1)
            return sha.hexdigest()
        finally:
            self.stop()
            pool.shutdown(cancel_futures=True)

    def fail(self, done: Any, failure: List[BaseException]) -> None:
        if not done.cancelled() and done.exception():
            failure.append(done.exception())
            self.stop()

    def stop(self) -> None:
        self.stopped.set()
        for process in list(self.running):
            process.terminate()

    def put(self, mode: int) -> None:
        """Its bytes are on the disk before its name, and before the stamp that says that they were right."""
        file = os.open(self.partial, os.O_RDONLY)
        try:
            os.fchmod(file, mode)
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(self.partial, self.path)
        self.forget()
        stamp(self.path, self.sha256)

    def forget(self) -> None:
        for path in (self.partial, self.journal):
            if os.path.exists(path):
                os.unlink(path)


def fetch(source: Source, sha256: str, path: str, mode: int = 0o644, part_bytes: int = PART_BYTES,
          parallel: int = PARALLEL_PARTS) -> bool:
    """Puts the file there, if it is not there already; says whether it had to."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise aws.Trouble(f"{source.name}: no SHA-256 of 64 digits (0-9, a-f) was given with it, but {sha256!r}")
    if is_there(path, sha256):
        return False
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    begun = time.monotonic()
    download = Download(source, sha256, path, part_bytes)
    got = download.run(parallel)
    if got != sha256 and download.done:
        print(f"{source.name}: wrong checksum with the parts of an earlier run: once more from the beginning", flush=True)
        download.forget()
        download = Download(source, sha256, path, part_bytes)
        got = download.run(parallel)
    if got != sha256:
        download.forget()
        raise aws.Trouble(f"{source.name}: wrong checksum: wanted {sha256}, got {got}; nothing was put in place")
    download.put(mode)
    seconds = max(time.monotonic() - begun, 0.001)
    size = os.path.getsize(path)
    print(f"{source.name}: {size / (1 << 20):.1f} MiB in {seconds:.1f} s ({size / (1 << 20) / seconds:.0f} MiB/s)", flush=True)
    return True


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("uri")
    options.add_argument("sha256")
    options.add_argument("path")
    options.add_argument("--part-bytes", type=int, default=PART_BYTES)
    options.add_argument("--parallel", type=int, default=PARALLEL_PARTS)
    given = options.parse_args()
    try:
        environment.load_bootstrap()
        fetch(Source(given.uri, os.environ.get("FETCH_TOKEN", "")), given.sha256, os.path.abspath(given.path),
              part_bytes=given.part_bytes, parallel=given.parallel)
    except (aws.Trouble, OSError) as trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
