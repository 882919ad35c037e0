"""The model and llama.cpp of an agent's instance: fetched once, found at the next boot, replaced by another."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path

import tool
from deployment import Case
from instance import wait_until


class Provide(Case):
    def setUp(self) -> None:
        super().setUp()
        self.agent = self.instance("agent")
        self.model = os.urandom(3 << 20)
        self.wanted = {
            "FETCH_MODEL_URI": "s3://deployment/m.gguf", "FETCH_MODEL_SHA256": self.put("m.gguf", self.model),
            **self.archive(b"abc"),
        }

    def archive(self, library: bytes) -> dict[str, str]:
        """Puts an archive of llama.cpp there; the settings that name it."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, mode, data in (("build/bin/llama-server", 0o755, b"abc"), ("build/bin/libggml.so", 0o644, library)):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), mode
                archive.addfile(entry, io.BytesIO(data))
        return {"FETCH_LLAMA_URI": "s3://deployment/llama.tar.gz",
                "FETCH_LLAMA_SHA256": self.put("llama.tar.gz", packed.getvalue())}

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

    def test_the_same_name_with_other_bytes_needs_no_room_for_both(self) -> None:
        self.agent.run("provide.py", **self.wanted)
        folder = self.agent.root / "var/lib/paddock/models"
        self.cloud.front.gate.clear()
        self.addCleanup(self.cloud.front.gate.set)
        self.cloud.front.requests.clear()
        self.cloud.front.let_through = 2
        run = self.agent.start("provide.py", **{**self.wanted, "FETCH_MODEL_SHA256": self.put("m.gguf", b"new")})
        wait_until(self.cloud.front.ranges, "the new model is asked for")
        self.assertNotIn("m.gguf", os.listdir(folder))
        self.assertNotIn("m.gguf.sha256", os.listdir(folder))
        self.cloud.front.gate.set()
        _, error = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 0, error)
        self.assertEqual((folder / "m.gguf").read_bytes(), b"new")

    def test_a_name_that_another_begins_with(self) -> None:
        self.agent.run("provide.py", **self.wanted)
        wanted = {**self.wanted, "FETCH_MODEL_URI": "s3://deployment/m.g", "FETCH_MODEL_SHA256": self.put("m.g", b"new")}
        self.assertEqual(self.agent.run("provide.py", **wanted).returncode, 0)
        self.assertEqual(sorted(os.listdir(self.agent.root / "var/lib/paddock/models")), ["m.g", "m.g.sha256"])

    def test_an_image_without_ldd(self) -> None:
        for name in ("curl", "tar", "gzip"):
            os.symlink(shutil.which(name), self.agent.root / "bin" / name)
        done = self.agent.run("provide.py", **self.wanted, PATH=str(self.agent.root / "bin"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("no ldd here", done.stdout)

    def test_what_is_missing_is_one_line(self) -> None:
        for without, said in (("FETCH_MODEL_SHA256", "FETCH_MODEL_SHA256"), ("FETCH_LLAMA_URI", "llama-server")):
            wanted = {key: value for key, value in self.wanted.items() if key != without}
            done = self.instance("agent").run("provide.py", **wanted)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
            self.assertIn(said, done.stderr)

    def test_a_library_that_the_image_lacks_is_named(self) -> None:
        gcc = tool.needed("gcc", "Debian: apt-get install gcc")
        with tempfile.TemporaryDirectory() as folder:
            for name, needs in (("gone", []), ("ggml", ["-L.", "-Wl,--no-as-needed", "-lgone"])):
                words = [gcc, "-shared", "-x", "c", os.devnull, "-x", "none", "-o", f"lib{name}.so", *needs]
                subprocess.run(words, cwd=folder, check=True)
            library = (Path(folder) / "libggml.so").read_bytes()
        done = self.agent.run("provide.py", **{**self.wanted, **self.archive(library)})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("llama.cpp needs libgone.so, which this image lacks", done.stdout)

    def test_a_token_for_the_model_comes_from_ssm(self) -> None:
        done = self.agent.run("provide.py", **self.wanted, FETCH_MODEL_TOKEN_PARAMETER="/hf")
        self.assertIn("there is no SSM parameter /hf", done.stderr)


if __name__ == "__main__":
    unittest.main()
