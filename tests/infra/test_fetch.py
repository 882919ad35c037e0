"""Fetching by checksum from moto's S3: resumed, refused, and with no secret shown."""

from __future__ import annotations

import hashlib
import os
import unittest
from pathlib import Path

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from instance import KEY_ID, REGION, SECRET, SESSION, CloudCase, kill, wait_until

PART = 1 << 20
PARTS = 6
CONTENT = os.urandom(PARTS * PART - 1234)
SUM = hashlib.sha256(CONTENT).hexdigest()
KEY = "models/a model+(1).gguf"
URI = f"s3://models/{KEY}"


def signature_by_botocore(request: dict) -> str:
    """What botocore would have signed the request with, at the same second."""
    given = {name.lower(): value for name, value in request["headers"].items()}
    names = given["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    asked = AWSRequest(request["method"], f"http://{given['host']}{request['path']}", {name: given[name] for name in names})
    asked.context["timestamp"] = given["x-amz-date"]
    signer = S3SigV4Auth(Credentials(KEY_ID, SECRET, SESSION), "s3", REGION)
    return signer.signature(signer.string_to_sign(asked, signer.canonical_request(asked)), asked)


class Fetch(CloudCase):
    def setUp(self) -> None:
        super().setUp()
        s3 = self.cloud.client("s3")
        s3.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket="models", Key=KEY, Body=CONTENT)
        self.agent = self.instance("agent")
        self.addCleanup(self.cloud.front.gate.set)
        self.path = self.agent.root / "models" / "m.gguf"

    def words(self, uri: str = URI, wanted: str = SUM, parallel: int = 4) -> list[str]:
        return ["--part-bytes", str(PART), "--parallel", str(parallel), uri, wanted, str(self.path)]

    def left(self) -> list[str]:
        return sorted(os.listdir(self.path.parent)) if self.path.parent.exists() else []

    def assert_one_line(self, done, *parts: str) -> None:
        self.assertEqual(done.returncode, 1, done)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for part in parts:
            self.assertIn(part, done.stderr)

    def test_right_bytes_and_then_nothing_to_do(self) -> None:
        done = self.agent.run("fetch.py", *self.words())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.path.read_bytes(), CONTENT)
        self.assertEqual(self.left(), ["m.gguf", "m.gguf.sha256"])
        self.assertEqual(len(self.cloud.front.ranges()), PARTS)

        self.cloud.front.requests.clear()
        self.assertEqual(self.agent.run("fetch.py", *self.words()).returncode, 0)
        self.assertEqual(self.cloud.front.requests, [], "what is there and right is not asked for again")

    def test_a_file_that_changed_on_disk_is_fetched_again(self) -> None:
        self.agent.run("fetch.py", *self.words())
        self.path.write_bytes(CONTENT[:-1] + b"x")
        self.assertEqual(self.agent.run("fetch.py", *self.words()).returncode, 0)
        self.assertEqual(self.path.read_bytes(), CONTENT)

    def test_a_killed_download_goes_on_with_what_is_missing(self) -> None:
        front = self.cloud.front
        front.gate.clear()
        front.let_through = 1 + 3  # the question for the length, and three parts
        first = self.agent.start("fetch.py", *self.words(parallel=1))
        wait_until(lambda: len(front.ranges()) == 4, "the fourth part is asked for")
        kill(first)
        finished = set(front.ranges()[:3])
        self.assertFalse(self.path.exists())

        front.requests.clear()
        front.gate.set()
        done = self.agent.run("fetch.py", *self.words())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.path.read_bytes(), CONTENT)
        self.assertEqual(len(front.ranges()), PARTS - 3)
        self.assertFalse(finished & set(front.ranges()), "finished parts are not fetched again")

    def test_finished_parts_that_are_wrong_are_fetched_again(self) -> None:
        front = self.cloud.front
        front.gate.clear()
        front.let_through = 1 + 3
        first = self.agent.start("fetch.py", *self.words(parallel=1))
        wait_until(lambda: len(front.ranges()) == 4, "the fourth part is asked for")
        kill(first)
        with self.path.with_suffix(".gguf.partial").open("r+b") as file:
            file.write(b"lost when the power went")
        front.gate.set()
        done = self.agent.run("fetch.py", *self.words())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("once more from the beginning", done.stdout)
        self.assertEqual(self.path.read_bytes(), CONTENT)

    def test_nothing_is_read_ahead_of_a_part_that_has_not_come(self) -> None:
        size = 1_000_000  # of no power of two, so that a buffer would reach beyond it
        front = self.cloud.front
        front.gate.clear()
        front.let_through = 1 + 1
        process = self.agent.start("fetch.py", "--part-bytes", str(size), "--parallel", "1", URI, SUM, str(self.path))

        def read_to() -> int:
            """How far the reader of the half made file has come."""
            for link in Path(f"/proc/{process.pid}/fd").iterdir():
                try:
                    if os.readlink(link).endswith(".partial"):
                        said = dict(line.split(":\t") for line in (link.parents[1] / "fdinfo" / link.name).read_text().splitlines()[:2])
                        if int(said["flags"], 8) & os.O_ACCMODE == os.O_RDONLY:
                            return int(said["pos"])
                except FileNotFoundError:
                    continue  # closed since it was listed
            return 0

        wait_until(lambda: read_to() >= size, "the first part is read")
        self.assertEqual(read_to(), size)
        front.gate.set()
        _, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, error)

    def test_bad_surroundings_are_one_line(self) -> None:
        self.agent.environment.pop("BOOT_REGION")
        self.assert_one_line(self.agent.run("fetch.py", *self.words()), "BOOT_REGION is not set")
        (self.agent.root / "etc/paddock/bootstrap.env").write_text(f"BOOT_REGION={REGION}\n")
        self.assertEqual(self.agent.run("fetch.py", *self.words()).returncode, 0, "a person's shell knows what the units know")
        self.path.unlink()
        self.path.mkdir()
        self.assert_one_line(self.agent.run("fetch.py", *self.words()), str(self.path))

    def test_a_wrong_checksum_is_one_line_and_leaves_nothing(self) -> None:
        wrong = "0" * 64
        self.assert_one_line(self.agent.run("fetch.py", *self.words(wanted=wrong)), URI, f"wanted {wrong}", f"got {SUM}")
        self.assertEqual(self.left(), [])

    def test_no_checksum_is_refused_before_anything_is_asked(self) -> None:
        self.assert_one_line(self.agent.run("fetch.py", *self.words(wanted="")), URI, "SHA-256")
        self.assertEqual(self.cloud.front.requests, [])

    def test_a_missing_object_and_a_missing_bucket(self) -> None:
        done = self.agent.run("fetch.py", *self.words("s3://models/none.gguf"))
        self.assert_one_line(done, "s3://models/none.gguf: NoSuchKey", "see that it exists")
        self.assert_one_line(self.agent.run("fetch.py", *self.words("s3://nobody/x")), "s3://nobody/x: NoSuchBucket")

    def test_a_denied_object_names_the_right(self) -> None:
        # As S3 says it; moto lets everybody do everything.
        said = b"<Error><Code>AccessDenied</Code><Message>User: arn:x is not authorized to perform: s3:GetObject</Message></Error>"
        self.cloud.front.refused["/models/secret"] = (403, said)
        done = self.agent.run("fetch.py", *self.words("s3://models/secret"))
        self.assert_one_line(done, "s3://models/secret: AccessDenied: User: arn:x", "let the instance's role have s3:GetObject")

    def test_no_role(self) -> None:
        bare = self.instance("agent", has_role=False)
        self.assert_one_line(bare.run("fetch.py", *self.words()), "no credentials", "instance profile")

    def test_cleartext_and_unknown_schemes_are_refused(self) -> None:
        self.assert_one_line(self.agent.run("fetch.py", *self.words("http://example.com/m.gguf")), "use https://")
        self.assert_one_line(self.agent.run("fetch.py", *self.words("ftp://example.com/m")), "neither s3://")

    def test_curl_signs_as_botocore_does(self) -> None:
        self.agent.run("fetch.py", *self.words())
        seen = self.cloud.front.requests[0]
        self.assertEqual(seen["path"], "/models/models/a%20model%2B%281%29.gguf")
        self.assertEqual(seen["headers"]["x-amz-content-sha256"], hashlib.sha256(b"").hexdigest(), "a GET has no body")
        signed = seen["headers"]["Authorization"]
        self.assertTrue(signed.endswith("Signature=" + signature_by_botocore(seen)), signed)
        self.assertIn("x-amz-security-token", signed)

    def test_no_secret_is_in_an_argument_or_in_what_is_said(self) -> None:
        front = self.cloud.front
        front.gate.clear()
        front.let_through = 1
        process = self.agent.start("fetch.py", *self.words(), FETCH_TOKEN="hf-secret-token")
        wait_until(lambda: len(front.ranges()) == 4, "four parts are under way")
        shown = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                shown.append(entry.read_bytes().decode(errors="replace"))
            except OSError:
                continue  # it ended meanwhile
        front.gate.set()
        out, error = process.communicate(timeout=60)
        self.assertGreaterEqual(len([line for line in shown if line.startswith("curl\0")]), 4, "curl was seen at work")
        for secret in (SECRET, SESSION, "hf-secret-token"):
            self.assertFalse([line for line in shown if secret in line])
            self.assertNotIn(secret, out + error)


if __name__ == "__main__":
    unittest.main()
