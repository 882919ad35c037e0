#!/usr/bin/python3
"""The journal's lines of Paddock, llama.cpp, cloud-init and the kernel's warnings, as they come, to CloudWatch Logs.

It needs the network and the role, nothing else: no driver, no model, no settings. While CloudWatch cannot be reached
nothing is read, so that the journal is the buffer; after each accepted batch the place in the journal is kept.
"""

import json
import os
import selectors
import subprocess
import sys
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import aws

# PutLogEvents takes so much: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
BATCH_BYTES = 1_048_576
BATCH_EVENTS = 10_000
EVENT_BYTES = 256 * 1024
EVENT_OVERHEAD_BYTES = 26
BATCH_SPAN_MS = 24 * 3600 * 1000 - 1
FLUSH_SECONDS = 2
LONGEST_PAUSE_SECONDS = 60
KERNEL_WARNING = 4
UNITS = ("paddock", "llama", "cloud-", "amazon-ssm-agent")


class Event(NamedTuple):
    time_ms: int
    message: str
    cursor: str

    def size(self) -> int:
        return len(self.message.encode()) + EVENT_OVERHEAD_BYTES


def text_of(value: Any) -> str:
    """The journal writes what is not text as a list of bytes, and could write null."""
    if isinstance(value, list):
        return bytes(byte for byte in value if isinstance(byte, int)).decode(errors="replace")
    return "(nothing)" if value is None else str(value)


def event_of(entry: Dict[str, Any]) -> Optional[Event]:
    """None for what is of no use here."""
    unit = str(entry.get("UNIT") or entry.get("_SYSTEMD_UNIT") or "")
    name = str(entry.get("SYSLOG_IDENTIFIER") or entry.get("_COMM") or unit)
    kernel = entry.get("_TRANSPORT") == "kernel" and int(entry.get("PRIORITY", 7)) <= KERNEL_WARNING
    if not kernel and not unit.startswith(UNITS) and not name.startswith(UNITS):
        return None
    message = f"{unit.rsplit('.', 1)[0] or name}: {text_of(entry.get('MESSAGE'))}"
    room = EVENT_BYTES - EVENT_OVERHEAD_BYTES
    if len(message.encode()) > room:
        message = message.encode()[:room - 16].decode(errors="ignore") + " … (cut)"
    return Event(int(entry["__REALTIME_TIMESTAMP"]) // 1000, message, entry["__CURSOR"])


class Stream:
    """One log stream for each instance."""

    def __init__(self) -> None:
        self.group = os.environ["BOOT_LOG_GROUP"]
        self.name = ""
        self.told = ""
        self.lost = 0

    def call(self, action: str, said: Dict[str, Any]) -> Dict[str, Any]:
        said = {"logGroupName": self.group, "logStreamName": self.name, **said}
        kind = ["Content-Type: application/x-amz-json-1.1", "X-Amz-Target: Logs_20140328." + action]
        return json.loads(aws.call_once("logs", action, kind, json.dumps(said).encode()) or b"{}")

    def put(self, events: List[Event]) -> None:
        """Returns when CloudWatch has them, or has refused them for what they are."""
        ordered = sorted(events, key=lambda event: event.time_ms)
        told = [{"timestamp": event.time_ms, "message": event.message or " "} for event in ordered]
        pause = 1
        while True:
            try:
                if not self.name:
                    self.name = f"{os.environ['BOOT_ROLE']}/{aws.imds('instance-id')}"
                answer = self.call("PutLogEvents", {"logEvents": told})
                return self.count_refused(answer.get("rejectedLogEventsInfo") or {}, len(told))
            except (aws.Trouble, OSError) as trouble:
                code = getattr(trouble, "code", "")
                if code == "ResourceNotFoundException" and self.make():
                    continue
                if code in ("InvalidParameterException", "SerializationException"):
                    return self.drop(len(told), str(trouble))
                self.tell(f"{trouble}; tried again until it works, the journal keeps the lines")
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def make(self) -> bool:
        try:
            self.call("CreateLogStream", {})
        except aws.Trouble as trouble:
            if trouble.code != "ResourceAlreadyExistsException":
                self.tell(f"{trouble}: does the log group {self.group} exist?")
                return False
        return True

    def count_refused(self, refused: Dict[str, int], count: int) -> None:
        old = max(refused.get("tooOldLogEventEndIndex", 0), refused.get("expiredLogEventEndIndex", 0))
        new = count - refused.get("tooNewLogEventStartIndex", count)
        if old + new:
            self.drop(old + new, "CloudWatch takes none this old, or this far in the future: is the clock right?")
        self.told = ""

    def drop(self, count: int, why: str) -> None:
        self.lost += count
        self.tell(f"{count} lines dropped, {self.lost} in all: {why}")

    def tell(self, line: str) -> None:
        if line != self.told:
            self.told = line
            print(line, file=sys.stderr, flush=True)


class Batch:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.events: List[Event] = []
        self.bytes = 0
        self.cursor = ""

    def has_room(self, event: Event) -> bool:
        times = [event.time_ms] + ([self.first, self.last] if self.events else [])
        return (self.bytes + event.size() <= BATCH_BYTES and len(self.events) < BATCH_EVENTS
                and max(times) - min(times) <= BATCH_SPAN_MS)

    def add(self, event: Event) -> None:
        self.first = min(event.time_ms, self.first) if self.events else event.time_ms
        self.last = max(event.time_ms, self.last) if self.events else event.time_ms
        self.events.append(event)
        self.bytes += event.size()
        self.cursor = event.cursor


class Shipper:
    def __init__(self, place: str) -> None:
        self.place = place
        self.stream = Stream()
        self.batch = Batch()

    def flush(self) -> None:
        if not self.batch.events:
            return
        self.stream.put(self.batch.events)
        with open(self.place + ".new", "w") as file:
            file.write(self.batch.cursor)
        os.replace(self.place + ".new", self.place)
        self.batch.clear()

    def take(self, line: bytes) -> None:
        try:
            event = event_of(json.loads(line))
        except (ValueError, KeyError):
            return self.stream.drop(1, "journalctl wrote what is no entry in JSON")
        if event is None:
            return
        if not self.batch.has_room(event):
            self.flush()
        self.batch.add(event)

    def command(self) -> List[str]:
        command = ["journalctl", "--output=json", "--all", "--follow", "--no-tail", "--no-pager"]
        try:
            with open(self.place) as file:
                return command + ["--after-cursor=" + file.read()]
        except FileNotFoundError:
            return command + ["--boot"]

    def run(self) -> None:
        status, is_early = self.follow()
        if status > 0 and is_early and os.path.exists(self.place):
            os.unlink(self.place)
            self.stream.tell("journalctl refuses the place where the last run ended: all of this boot is sent, perhaps once more")
            status, _ = self.follow()
        raise aws.Trouble(f"journalctl ended with status {status}")

    def follow(self) -> Tuple[int, bool]:
        """Until journalctl ends: its status, and whether it had nothing to say."""
        is_early = True
        with subprocess.Popen(self.command(), stdout=subprocess.PIPE) as journal:
            assert journal.stdout is not None
            ready = selectors.DefaultSelector()
            ready.register(journal.stdout, selectors.EVENT_READ)
            rest = b""
            flush_at = 0.0
            while True:
                wait = max(flush_at - time.monotonic(), 0) if self.batch.events else None
                if ready.select(wait):
                    got = os.read(journal.stdout.fileno(), 1 << 16)
                    if not got:
                        break
                    is_early = False
                    *lines, rest = (rest + got).split(b"\n")
                    if not self.batch.events:
                        flush_at = time.monotonic() + FLUSH_SECONDS
                    for line in lines:
                        self.take(line)
                if self.batch.events and time.monotonic() >= flush_at:
                    self.flush()
            self.flush()
        return journal.returncode, is_early


def main() -> int:
    try:
        Shipper(os.path.join(os.environ["STATE_DIRECTORY"], "cursor")).run()
    except aws.Trouble as trouble:
        print(trouble, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
