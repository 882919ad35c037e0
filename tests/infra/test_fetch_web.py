"""Fetching by checksum from the web: https and Hugging Face, here on loopback; broken off, refused, and with no secret said."""

from __future__ import annotations

import hashlib
import os
import subprocess
import unittest

from instance import BOOT, Instance, Quiet, Server, kill

PART = 1 << 20
PARTS = 6
CONTENT = os.urandom(PARTS * PART - 1234)
SUM = hashlib.sha256(CONTENT).hexdigest()


class Web(unittest.TestCase):
    def setUp(self) -> None:
        test = self
        self.asked: list[tuple[str, str, str]] = []
        self.denied = False
        self.with_ranges = True
        self.cut_bytes = 0
        self.cuts_always = False

        class Site(Quiet):
            def do_GET(self) -> None:
                wanted = self.headers["Range"] or ""
                test.asked.append((self.path, wanted, self.headers["Authorization"] or ""))
                if test.denied:
                    return self.answer(401, b"Invalid credentials")
                if "/resolve/" in self.path:
                    return self.answer(302, b"", {"Location": f"{test.elsewhere.url}/signed"})
                if test.cuts_always and wanted != "bytes=0-0":
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(CONTENT)))
                    self.end_headers()
                    self.wfile.write(CONTENT[:5000])
                    self.close_connection = True
                    return None
                if not wanted or not test.with_ranges:
                    return self.answer(200, CONTENT)
                begin, end = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
                told = {"Content-Range": f"bytes {begin}-{end}/{len(CONTENT)}"}
                part = CONTENT[begin:end + 1]
                if test.cut_bytes and begin == PART:
                    cut, test.cut_bytes = test.cut_bytes, 0
                    self.send_response(206)
                    self.send_header("Content-Length", str(len(part)))
                    self.end_headers()
                    self.wfile.write(part[:cut])
                    self.close_connection = True
                    return None
                return self.answer(206, part, told)

        self.site, self.elsewhere = Server(Site), Server(Site)
        self.addCleanup(self.site.close)
        self.addCleanup(self.elsewhere.close)
        cloud = type("NoCloud", (), {"front": type("NoFront", (), {"server": self.site})})
        self.instance = Instance(cloud, "agent")
        self.addCleanup(self.instance.close)
        self.path = self.instance.root / "m.gguf"

    def fetch(self, uri: str, **environment: str):
        words = ["--part-bytes", str(PART), uri, SUM, str(self.path)]
        return self.instance.run("fetch.py", *words, **environment)

    def test_a_web_server(self) -> None:
        done = self.fetch(self.site.url + "/m.gguf")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.path.read_bytes(), CONTENT)
        self.assertEqual(len(self.asked), 1 + PARTS)

    def test_a_web_server_without_ranges(self) -> None:
        self.with_ranges = False
        done = self.fetch(self.site.url + "/m.gguf")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.path.read_bytes(), CONTENT)

    def test_its_bytes_are_on_the_disk_before_its_name_and_the_stamp(self) -> None:
        script = ("import os, sys, fetch\n"
                  "def sync(file, real=os.fsync):\n"
                  "    real(file)\n"
                  "    print('sync', os.path.basename(os.readlink(f'/proc/self/fd/{file}')))\n"
                  "def replace(new, path, real=os.replace):\n"
                  "    real(new, path)\n"
                  "    print('put', os.path.basename(path))\n"
                  "os.fsync, os.replace = sync, replace\n"
                  "sys.exit(fetch.main())\n")
        run = self.instance.python("-c", script, self.site.url + "/m.gguf", SUM, str(self.path), PYTHONPATH=str(BOOT))
        out, error = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 0, error)
        said = [line for line in out.splitlines() if line in ("sync m.gguf.partial", "put m.gguf", "put m.gguf.sha256")]
        self.assertEqual(said, ["sync m.gguf.partial", "put m.gguf", "put m.gguf.sha256"])

    def test_a_connection_that_breaks_goes_on_where_it_broke(self) -> None:
        self.cut_bytes = 5000
        done = self.fetch(self.site.url + "/m.gguf")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.path.read_bytes(), CONTENT)
        self.assertIn(f"bytes={PART + 5000}-{2 * PART - 1}", [wanted for _, wanted, _ in self.asked])

    def test_a_server_without_ranges_that_always_breaks_is_given_up(self) -> None:
        self.with_ranges = False
        self.cuts_always = True
        script = "import fetch; fetch.TRIES = 3; fetch.Download.pause = lambda *_: None; fetch.sys.exit(fetch.main())"
        run = self.instance.python("-c", script, self.site.url + "/m.gguf", SUM, str(self.path), PYTHONPATH=str(BOOT))
        try:
            _, error = run.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            kill(run)
            raise
        self.assertEqual((run.returncode, len(error.splitlines())), (1, 1), error)
        self.assertEqual(len(self.asked), 1 + 3)

    def test_the_secrets_of_an_address_are_not_said(self) -> None:
        secret = self.site.url.replace("://", "://user:password@") + "/m.gguf?X-Amz-Signature=abc"
        done = self.fetch(secret)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(self.site.url + "/m.gguf: 6", done.stdout)
        self.denied = True
        self.path.unlink()
        refused = self.fetch(secret)
        self.assertEqual(refused.returncode, 1)
        for word in ("user", "password", "Signature", "abc"):
            self.assertNotIn(word, done.stdout + refused.stderr.replace("FETCH_MODEL_TOKEN_PARAMETER", ""))

    def test_hugging_face_and_its_token_goes_nowhere_else(self) -> None:
        done = self.fetch("hf://owner/repository@v1/folder/m.gguf", HF_ENDPOINT=self.site.url, FETCH_TOKEN="hf_x")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.path.read_bytes(), CONTENT)
        asked = {(path, token) for path, _, token in self.asked}
        self.assertEqual(asked, {("/owner/repository/resolve/v1/folder/m.gguf", "Bearer hf_x"), ("/signed", "")})

    def test_a_token_that_is_missing(self) -> None:
        self.denied = True
        done = self.fetch("hf://owner/repository/m.gguf", HF_ENDPOINT=self.site.url)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
        self.assertIn("FETCH_MODEL_TOKEN_PARAMETER", done.stderr)


if __name__ == "__main__":
    unittest.main()
