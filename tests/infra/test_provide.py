"""The model and llama.cpp of an agent's instance: fetched once, found at the next boot, replaced by another."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import unittest

from deployment import Case


class Provide(Case):
    def setUp(self) -> None:
        super().setUp()
        self.agent = self.instance("agent")
        self.model = os.urandom(3 << 20)
        self.archive = io.BytesIO()
        with tarfile.open(fileobj=self.archive, mode="w:gz") as archive:
            for name, mode in (("build/bin/llama-server", 0o755), ("build/bin/libggml.so", 0o644)):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = 3, mode
                archive.addfile(entry, io.BytesIO(b"abc"))
        self.wanted = {
            "FETCH_MODEL_URI": "s3://deployment/m.gguf", "FETCH_MODEL_SHA256": self.put("m.gguf", self.model),
            "FETCH_LLAMA_URI": "s3://deployment/llama.tar.gz",
            "FETCH_LLAMA_SHA256": self.put("llama.tar.gz", self.archive.getvalue()),
        }

    def test_model_and_llama(self) -> None:
        done = self.agent.run("provide.py", **self.wanted)
        self.assertEqual(done.returncode, 0, done.stderr)
        model = self.agent.root / "var/lib/paddock/models/m.gguf"
        self.assertEqual(model.read_bytes(), self.model)
        self.assertEqual(stat.S_IMODE(model.stat().st_mode), 0o644)
        self.assertEqual((self.agent.root / "etc/paddock/llama.env").read_text(), f'LLAMA_MODEL="{model}"\n')
        server = self.agent.root / "usr/local/bin/llama-server"
        self.assertEqual(server.read_bytes(), b"abc")
        self.assertTrue((server.resolve().parent / "libggml.so").exists(), "its libraries are beside it")

        self.cloud.front.requests.clear()
        again = self.agent.run("provide.py", **self.wanted)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(self.cloud.front.requests, [], "at the next boot nothing is fetched")

    def test_another_model_takes_the_place_of_the_first(self) -> None:
        self.agent.run("provide.py", **self.wanted)
        wanted = {**self.wanted, "FETCH_MODEL_URI": "s3://deployment/n.gguf", "FETCH_MODEL_SHA256": self.put("n.gguf", b"new")}
        self.assertEqual(self.agent.run("provide.py", **wanted).returncode, 0)
        self.assertEqual(sorted(os.listdir(self.agent.root / "var/lib/paddock/models")), ["n.gguf", "n.gguf.sha256"])

    def test_what_is_missing_is_one_line(self) -> None:
        for without, said in (("FETCH_MODEL_SHA256", "FETCH_MODEL_SHA256"), ("FETCH_LLAMA_URI", "llama-server")):
            wanted = {key: value for key, value in self.wanted.items() if key != without}
            done = self.instance("agent").run("provide.py", **wanted)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
            self.assertIn(said, done.stderr)

    def test_a_token_for_the_model_comes_from_ssm(self) -> None:
        done = self.agent.run("provide.py", **self.wanted, FETCH_MODEL_TOKEN_PARAMETER="/hf")
        self.assertIn("there is no SSM parameter /hf", done.stderr)


if __name__ == "__main__":
    unittest.main()
