"""The journal goes to CloudWatch Logs: what matters, in order, and all of it after CloudWatch failed for a while."""

from __future__ import annotations

import json
import shlex
import sys
import time
import unittest
import unittest.mock
from typing import Any

from instance import BOOT, INSTANCE, CloudCase, kill, wait_until

sys.path.insert(0, str(BOOT))
import logs  # noqa: E402

NOW_MS = int(time.time() * 1000) - 60_000


def entry(number: int, message: Any, **more: Any) -> dict[str, Any]:
    said = {"__CURSOR": f"c{number}", "__REALTIME_TIMESTAMP": str((NOW_MS + number) * 1000), "MESSAGE": message,
            "_SYSTEMD_UNIT": "llama-server.service", "SYSLOG_IDENTIFIER": "llama-server", "PRIORITY": "6"}
    return {**said, **more}


class Shipping(CloudCase):
    def setUp(self) -> None:
        super().setUp()
        self.logs = self.cloud.client("logs")
        self.agent = self.instance("agent")
        self.journal = self.agent.root / "journal"
        # As journalctl: all there is, or what comes after a cursor; and then it waits.
        self.agent.program("journalctl", f"""
echo "$@" >> {self.agent.root}/journalctl.calls
after=$(grep -o 'after-cursor=.*' <<< "$*" | cut -d= -f2)
if [[ -n "$after" ]]; then sed "0,/\\"$after\\"/d" {shlex.quote(str(self.journal))}; else cat {shlex.quote(str(self.journal))}; fi
exec sleep 600
""")

    def write(self, *entries: dict[str, Any]) -> None:
        with self.journal.open("a") as file:
            file.writelines(json.dumps(one) + "\n" for one in entries)

    def group(self) -> None:
        self.logs.create_log_group(logGroupName="/paddock/logs")

    def shipped(self) -> list[str]:
        try:
            said = self.logs.get_log_events(logGroupName="/paddock/logs", logStreamName=f"agent/{INSTANCE}", startFromHead=True)
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in said["events"]]

    def start(self):
        process = self.agent.start("logs.py")
        self.addCleanup(lambda: process.poll() is None and kill(process))
        return process

    def test_what_matters_arrives_in_order(self) -> None:
        self.group()
        self.write(
            entry(1, "loading"),
            entry(2, "hello", _SYSTEMD_UNIT="ssh.service", SYSLOG_IDENTIFIER="sshd"),
            entry(4, "late"),
            entry(3, "NVRM: GPU fell off", _SYSTEMD_UNIT="", SYSLOG_IDENTIFIER="kernel", _TRANSPORT="kernel", PRIORITY="4"),
            entry(5, "usb", _SYSTEMD_UNIT="", SYSLOG_IDENTIFIER="kernel", _TRANSPORT="kernel", PRIORITY="6"),
            entry(6, "Failed with result", _SYSTEMD_UNIT="init.scope", UNIT="paddock-fetch.service", SYSLOG_IDENTIFIER="systemd"),
            entry(7, [104, 105, 255], SYSLOG_IDENTIFIER="cloud-init", _SYSTEMD_UNIT="cloud-final.service"),
        )
        with self.journal.open("a") as file:
            file.write("no entry\n")
        self.start()
        wait_until(lambda: len(self.shipped()) == 5, "five lines in CloudWatch")
        self.assertEqual(self.shipped(), [
            "llama-server: loading", "kernel: NVRM: GPU fell off", "llama-server: late",
            "paddock-fetch: Failed with result", "cloud-final: hi\ufffd"])

    def test_nothing_is_lost_while_cloudwatch_fails(self) -> None:
        self.write(*(entry(number, f"line {number}") for number in range(100)))
        self.cloud.front.failing["Logs_20140328.PutLogEvents"] = 2
        process = self.start()
        wait_until(lambda: self.cloud.front.failing["Logs_20140328.PutLogEvents"] == 0, "it has failed twice")
        self.group()  # and the group was missing, too
        wait_until(lambda: len(self.shipped()) == 100, "all lines in CloudWatch")
        self.assertEqual(self.shipped(), [f"llama-server: line {number}" for number in range(100)])
        kill(process)

    def test_after_a_restart_it_goes_on_where_it_was(self) -> None:
        self.group()
        self.write(entry(1, "first"))
        process = self.start()
        cursor = self.agent.root / "state" / "cursor"
        wait_until(cursor.exists, "the place is kept")
        kill(process)
        self.write(entry(2, "second"))
        self.start()
        wait_until(lambda: len(self.shipped()) == 2, "the second line in CloudWatch")
        self.assertEqual(self.shipped(), ["llama-server: first", "llama-server: second"])
        calls = (self.agent.root / "journalctl.calls").read_text().splitlines()
        self.assertIn("--boot", calls[0])
        self.assertIn("--after-cursor=c1", calls[1])

    def test_a_place_that_journalctl_refuses_is_forgotten(self) -> None:
        self.group()
        (self.agent.root / "state" / "cursor").write_text("broken")
        self.agent.program("journalctl", f"""
if [[ "$*" == *after-cursor* ]]; then echo "Failed to seek to cursor" >&2; exit 1; fi
cat {shlex.quote(str(self.journal))}
exec sleep 600
""")
        self.write(entry(1, "first"))
        self.start()
        wait_until(lambda: self.shipped() == ["llama-server: first"], "the line in CloudWatch")
        cursor = self.agent.root / "state" / "cursor"
        wait_until(lambda: cursor.exists() and cursor.read_text() == "c1", "the new place is kept")


class Limits(unittest.TestCase):
    """What PutLogEvents takes at once, as AWS documents it."""

    def event(self, number: int, message: str = "x", time_ms: int = NOW_MS) -> logs.Event:
        return logs.Event(time_ms, message, f"c{number}")

    def test_ten_thousand_events(self) -> None:
        batch = logs.Batch()
        for number in range(10_000):
            self.assertTrue(batch.has_room(self.event(number)))
            batch.add(self.event(number))
        self.assertFalse(batch.has_room(self.event(10_001)))

    def test_a_mebibyte_with_26_bytes_for_each(self) -> None:
        batch = logs.Batch()
        for number in range(4):
            batch.add(self.event(number, "x" * (262_144 - 26)))
        self.assertEqual(batch.bytes, 1_048_576)
        self.assertFalse(batch.has_room(self.event(5, "")))

    def test_a_day(self) -> None:
        batch = logs.Batch()
        batch.add(self.event(1))
        self.assertTrue(batch.has_room(self.event(2, time_ms=NOW_MS + 86_399_999)))
        self.assertFalse(batch.has_room(self.event(2, time_ms=NOW_MS + 86_400_000)))

    def test_a_long_line_is_cut_and_says_so(self) -> None:
        cut = logs.event_of(entry(1, "ä" * 300_000))
        self.assertLessEqual(cut.size(), 256 * 1024)
        self.assertTrue(cut.message.endswith("… (cut)"))

    def test_refused_lines_are_counted_and_said(self) -> None:
        with unittest.mock.patch.dict("os.environ", BOOT_LOG_GROUP="g"):
            stream = logs.Stream()
        said = []
        stream.tell = said.append
        stream.count_refused({"tooOldLogEventEndIndex": 3, "tooNewLogEventStartIndex": 8}, 10)
        self.assertEqual(stream.lost, 5)
        self.assertIn("5 lines dropped, 5 in all", said[0])


if __name__ == "__main__":
    unittest.main()
