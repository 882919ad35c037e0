"""The components of the images: documents as Image Builder takes them, and scripts that do what they say."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path

import yaml

import tool

FOLDER = Path(__file__).resolve().parents[2] / "infra" / "image"
COMMIT = "ba360efe1f574ebae727aad64112d18ecedca85a"

# Of the component manager's actions, those that these documents use, each with the inputs that it needs.
ACTIONS = {
    "ExecuteBash": {"commands"},
    "S3Download": {"source", "destination"},
    "WebDownload": {"source", "destination", "checksum", "algorithm"},
}
STEP_KEYS = {"name", "action", "timeoutSeconds", "maxAttempts", "inputs"}
PHASES = ["build", "validate", "test"]
PARAMETER = re.compile(r"\{\{ (\w+) \}\}")


def documents() -> dict[str, dict]:
    return {file.stem: yaml.safe_load(file.read_text()) for file in sorted((FOLDER / "components").glob("*.yaml"))}


def steps(document: dict) -> list[dict]:
    return [step for phase in document["phases"] for step in phase["steps"]]


def scripts(document: dict) -> list[str]:
    commanded = [step for step in steps(document) if step["action"] == "ExecuteBash"]
    return [command for step in commanded for command in step["inputs"]["commands"]]


def complaints(document: dict) -> list[str]:
    """What Image Builder would refuse, and what could hang or go on after a failure."""
    found = []
    if str(document.get("schemaVersion")) != "1.0":
        found.append("schemaVersion is not 1.0")
    if [phase["name"] for phase in document["phases"]] != PHASES:
        found.append(f"phases are not {PHASES}")
    for phase in document["phases"]:
        names = [step["name"] for step in phase["steps"]]
        if len(names) != len(set(names)):
            found.append(f"{phase['name']}: a name is there twice")
    for step in steps(document):
        found += [f"{step['name']}: {word}" for word in step_complaints(step)]
    declared = {name for parameter in document.get("parameters", []) for name in parameter}
    used = set(PARAMETER.findall(yaml.safe_dump(document["phases"], width=10_000)))
    if declared != used:
        found.append(f"parameters are declared {sorted(declared)}, used {sorted(used)}")
    return found


def step_complaints(step: dict) -> list[str]:
    found = [f"no such key: {key}" for key in sorted(set(step) - STEP_KEYS)]
    if step["action"] not in ACTIONS:
        return [*found, f"no such action: {step['action']}"]
    inputs = step["inputs"] if isinstance(step["inputs"], list) else [step["inputs"]]
    if any(set(one) != ACTIONS[step["action"]] for one in inputs):
        found.append("other inputs than the action takes")
    if not 0 < step.get("timeoutSeconds", 0) <= 10800:
        found.append("no timeout")
    if step["action"] == "ExecuteBash":
        for command in step["inputs"]["commands"]:
            if "\n" in command and not command.startswith("set -euo pipefail\n"):
                found.append("goes on after a failure")
    return found


class Machine:
    """A folder that stands for an instance: /usr/local, /opt and /tmp are in it."""

    def __init__(self, folder: str) -> None:
        self.root = Path(folder)
        for name in ("usr/local/bin", "usr/local/lib", "tmp"):
            (self.root / name).mkdir(parents=True)

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def run(self, script: str, **parameters: str) -> subprocess.CompletedProcess[str]:
        """Runs the script with its parameters filled in and its paths in the folder."""
        script = PARAMETER.sub(lambda found: parameters[found[1]], script)
        script = re.sub(r"(?<![\w/])/(usr/local|tmp|opt)/", rf"{self.root}/\1/", script)
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False)

    def program(self, name: str, says: str) -> None:
        file = self.path(name)
        file.write_text(f"#!/bin/sh\necho '{says}'\n")
        file.chmod(0o755)


def archive(folder: str, server: bytes | None) -> bytes:
    """A release's archive: a folder with the program and a library."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in {"libllama.so": b"library", "llama-server": server}.items():
            if content is not None:
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mode = len(content), 0o755
                packed.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def step(document: str, phase: str, name: str) -> str:
    """The script of one step."""
    (found,) = [
        step["inputs"]["commands"][0]
        for part in documents()[document]["phases"]
        if part["name"] == phase
        for step in part["steps"]
        if step["name"] == name
    ]
    return found


class Documents(unittest.TestCase):
    """infra/image/components."""

    def test_image_builder_takes_them(self) -> None:
        self.assertEqual(set(documents()), {"llama-archive", "llama-cuda", "paddock"})
        for name, document in documents().items():
            with self.subTest(name):
                self.assertEqual(document["name"], name)
                self.assertEqual(complaints(document), [])

    def test_mistakes_are_found(self) -> None:
        document = documents()["paddock"]
        document["schemaVersion"] = 2.0
        del document["phases"][2]
        document["parameters"].append({"Other": {"type": "string"}})
        first, second, *_ = document["phases"][0]["steps"]
        first.update(action="S3Fetch")
        second.pop("timeoutSeconds")
        second["inputs"]["commands"][0] = second["inputs"]["commands"][0].replace("set -euo pipefail\n", "", 1)
        self.assertEqual(len(complaints(document)), 6, complaints(document))

    def test_no_alias_of_yaml_is_used(self) -> None:
        for file in (FOLDER / "components").glob("*.yaml"):
            events = yaml.parse(file.read_text())
            self.assertFalse(any(isinstance(event, yaml.AliasEvent) for event in events), file.name)

    def test_scripts_are_bash(self) -> None:
        for name, document in documents().items():
            for script in scripts(document):
                words = ["bash", "-n"]
                result = subprocess.run(words, input=script, capture_output=True, text=True, timeout=30, check=False)
                self.assertEqual(result.returncode, 0, f"{name}: {result.stderr}")

    def test_nothing_upgrades_itself_on_an_instance(self) -> None:
        quiet = step("paddock", "build", "Quiet")
        for unit in ("apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service"):
            self.assertIn(unit, quiet.partition("systemctl mask ")[2].split())

    def test_programs_and_driver_are_tried_on_the_finished_image(self) -> None:
        def tried(name: str) -> str:
            (test,) = [phase for phase in documents()[name]["phases"] if phase["name"] == "test"]
            return "\n".join(command for step in test["steps"] for command in step["inputs"]["commands"])

        self.assertIn("/usr/local/bin/paddock --version", tried("paddock"))
        self.assertIn("/usr/local/bin/llama-server --version", tried("llama-archive"))
        for words in ("nvidia-smi", "bin/llama-server --version", "bin/llama-server --list-devices"):
            self.assertIn(words, tried("llama-cuda"))

    def test_llama_cpp_is_built_for_cuda_and_without_the_network(self) -> None:
        build = step("llama-cuda", "build", "Build")
        flags = dict(re.findall(r"-D(\w+)=(\S+)", build))
        self.assertEqual(flags["GGML_CUDA"], "ON")
        for name in ("BUILD_SHARED_LIBS", "GGML_NATIVE", "LLAMA_BUILD_UI", "LLAMA_USE_PREBUILT_UI", "LLAMA_OPENSSL"):
            self.assertEqual(flags[name], "OFF", name)


class Readme(unittest.TestCase):
    def test_outputs_that_the_reader_is_to_print_are_in_the_configuration(self) -> None:
        text = (FOLDER / "README.md").read_text()
        printed = set(re.findall(r"terraform output -raw (\w+)", text))
        self.assertEqual(printed, {"start_build", "watch_build"})
        self.assertLessEqual(printed, set(re.findall(r'^ *output "(\w+)"', text, re.MULTILINE)))


class Scripts(unittest.TestCase):
    """What the scripts do, in a folder."""

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.machine = Machine(holder.name)

    def test_paddock_is_installed_if_it_is_the_right_one(self) -> None:
        install = step("paddock", "build", "Install")
        right = hashlib.sha256(b"program").hexdigest()
        self.machine.path("/tmp/paddock.download").write_bytes(b"program")
        refused = self.machine.run(install, Uri="s3://bucket/key", Sha256=right[::-1])
        self.assertNotEqual(refused.returncode, 0)
        self.assertEqual(refused.stderr.count("\n"), 1, refused.stderr)
        self.assertIn("s3://bucket/key", refused.stderr)
        self.assertFalse(self.machine.path("/usr/local/bin/paddock").exists())
        done = self.machine.run(install, Uri="s3://bucket/key", Sha256=right)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.machine.path("/usr/local/bin/paddock").stat().st_mode & 0o777, 0o755)

    def test_archive_is_installed_with_its_libraries(self) -> None:
        server = b'#!/bin/sh\nls "$(dirname "$(readlink -f "$0")")"\n'
        for folder in ("llama-b10375", "build/bin"):
            with self.subTest(folder):
                self.machine.path("/tmp/llama.tar.gz").write_bytes(archive(folder, server))
                done = self.machine.run(step("llama-archive", "build", "Install"), Tag="b10375")
                self.assertEqual(done.returncode, 0, done.stderr)
                said = subprocess.check_output([self.machine.path("/usr/local/bin/llama-server")], text=True)
                self.assertEqual(said.split(), ["libllama.so", "llama-server"], "they are beside it")
                self.assertFalse(self.machine.path("/tmp/llama.tar.gz").exists())

    def test_archive_without_a_server_is_refused(self) -> None:
        self.machine.path("/tmp/llama.tar.gz").write_bytes(archive("llama-b10375", None))
        refused = self.machine.run(step("llama-archive", "build", "Install"), Tag="b10375")
        self.assertNotEqual(refused.returncode, 0)
        self.assertEqual(refused.stderr, "the archive of b10375 has no llama-server\n")

    def test_another_commit_is_refused(self) -> None:
        for document in ("llama-archive", "llama-cuda"):
            for phase in ("validate", "test"):
                check = step(document, phase, "Version")
                with self.subTest(f"{document} {phase}"):
                    self.machine.program("/usr/local/bin/llama-server", f"version: 10375 ({COMMIT[:9]})")
                    self.assertEqual(self.machine.run(check, Commit=COMMIT).returncode, 0)
                    self.machine.program("/usr/local/bin/llama-server", "version: 10375 (0123456)")
                    refused = self.machine.run(check, Commit=COMMIT)
                    self.assertNotEqual(refused.returncode, 0)
                    self.assertIn("(0123456)", refused.stderr)

    def test_an_image_without_a_gpu_is_refused(self) -> None:
        check = step("llama-cuda", "test", "Device")
        self.machine.program("/usr/local/bin/llama-server", "Available devices: CUDA0: Tesla T4")
        self.assertEqual(self.machine.run(check).returncode, 0)
        self.machine.program("/usr/local/bin/llama-server", "Available devices:")
        self.assertNotEqual(self.machine.run(check).returncode, 0)

    def test_a_tag_that_stands_for_another_commit_is_refused(self) -> None:
        tool.needed("git", "Debian: apt-get install git")
        origin = self.machine.root / "origin"
        origin.mkdir()

        def git(*words: str) -> str:
            who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
            return subprocess.check_output(["git", *who, *words], cwd=origin, text=True, timeout=30).strip()

        git("init", "--quiet")
        git("commit", "--quiet", "--allow-empty", "--message=one")
        git("tag", "b10375")
        commit = git("rev-parse", "HEAD")
        source = step("llama-cuda", "build", "Source")
        source = source.replace("https://github.com/ggml-org/llama.cpp", f"file://{origin}")
        refused = self.machine.run(source, Tag="b10375", Commit=COMMIT)
        self.assertNotEqual(refused.returncode, 0)
        self.assertEqual(refused.stderr.count("\n"), 1, refused.stderr)
        self.assertIn(f"stands for '{commit}'", refused.stderr)
        done = self.machine.run(source, Tag="b10375", Commit=commit)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(self.machine.path("/opt/llama.cpp/.git").is_dir())


if __name__ == "__main__":
    unittest.main()
