"""The container file, by hadolint; the compose file, by a parser of its specification; and what both must hold."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import yaml
from compose_spec import PyOptions

import tool

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "container"
HARDENED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}


def hadolint(text: str) -> subprocess.CompletedProcess[str]:
    """Lints the container file; the program is beside the interpreter, as pip installs it."""
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        raise AssertionError("no hadolint: install tests/infra/requirements.txt")
    words = [program, "--no-color", "--failure-threshold=style", "-"]
    return subprocess.run(words, input=text, capture_output=True, text=True, timeout=60, check=False)


def instructions() -> list[tuple[str, str]]:
    """The container file's instructions with their arguments."""
    lines = (FOLDER / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    split = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in split]


def final_stage() -> dict[str, str]:
    """The instructions of the image that is shipped."""
    all_of_them = instructions()
    (_, start) = max((word, index) for index, (word, _) in enumerate(all_of_them) if word == "FROM")
    return dict(all_of_them[start:])


def services() -> dict[str, dict]:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]


def filled(text: str) -> str:
    """The compose file as it is with MODEL set, and all else by default."""
    text = text.replace("${MODEL:?set MODEL to the full path of a GGUF file}", "/models/model.gguf")
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def context(into: Path) -> None:
    """Copies what .dockerignore lets into the build."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "everything is left out"
    for line in lines[1:]:
        assert line.startswith("!"), "but for what is named"
        source, target = ROOT / line[1:], into / line[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


class Container(unittest.TestCase):
    """infra/container/Containerfile and .dockerignore."""

    def test_hadolint_finds_nothing(self) -> None:
        text = (FOLDER / "Containerfile").read_text()
        self.assertNotIn("hadolint ignore", text)
        result = hadolint(text)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertNotEqual(hadolint(text.replace(":nonroot", ":latest")).returncode, 0)

    def test_image_has_no_shell_and_no_root(self) -> None:
        stage = final_stage()
        self.assertRegex(stage["FROM"], r"^gcr\.io/distroless/[a-z0-9-]+:nonroot$")
        self.assertNotIn("RUN", stage)
        self.assertRegex(stage["USER"], r"^[1-9]\d*:[1-9]\d*$")
        self.assertIn("--chown=0:0 --chmod=755", stage["COPY"], "the user cannot change the program")

    def test_program_is_started_without_a_shell(self) -> None:
        stage = final_stage()
        self.assertEqual(json.loads(stage["ENTRYPOINT"]), ["/usr/local/bin/paddock"])
        self.assertEqual(json.loads(stage["CMD"]), ["--help"])
        self.assertTrue(stage["COPY"].endswith(" /usr/local/bin/paddock"))
        self.assertNotIn("HEALTHCHECK", stage, "nothing in the image could ask")

    def test_build_gets_all_that_cargo_needs(self) -> None:
        tool.needed("cargo", "install Rust")
        with tempfile.TemporaryDirectory() as folder:
            context(Path(folder))
            # Unlike others, this command reads the manifest as a build does, and compiles nothing.
            host = re.findall(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True))[0]
            words = ["cargo", "fetch", "--locked", "--target", host]
            result = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
            self.assertEqual(result.returncode, 0, result.stderr)
            named = re.compile(r'include_(?:str|bytes)!\("([^"]+)"\)')
            included = [
                source.parent / name
                for source in Path(folder, "src").rglob("*.rs")
                for name in named.findall(source.read_text())
            ]
            self.assertEqual([str(file) for file in included if not file.is_file()], [])
            self.assertTrue((Path(folder) / ".cargo" / "config.toml").is_file(), "it sets the allocator's options")


PROGRAM = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "paddock"
# What Amazon Linux 2023 has, and the container's build beside it.
MACHINES_GLIBC, BUILDS_GLIBC = (2, 34), (2, 36)


@unittest.skipUnless(PROGRAM.is_file(), f"{PROGRAM} is not built: what it asks of a machine is not checked")
class Program(unittest.TestCase):
    """The program that the container's build gives for machines."""

    def test_it_runs_with_the_c_library_of_the_machines(self) -> None:
        here = tuple(int(part) for part in platform.libc_ver()[1].split("."))
        if here > BUILDS_GLIBC:
            self.skipTest(f"built with glibc {here}, which may ask for more than the container's build does")
        symbols = subprocess.check_output(["objdump", "-T", str(PROGRAM)], text=True)
        asked = {tuple(int(part) for part in version.split(".")) for version in re.findall(r"GLIBC_([0-9.]+)", symbols)}
        self.assertGreater(len(asked), 3)
        self.assertLessEqual(max(asked), MACHINES_GLIBC)


class Compose(unittest.TestCase):
    """infra/container/compose.yaml."""

    def test_is_of_the_specification(self) -> None:
        text = filled((FOLDER / "compose.yaml").read_text())
        self.assertNotIn("$", text, "every variable is known to this test")
        options = PyOptions(apply_merge=True)
        options.from_yaml(text).validate()
        for right, wrong in (("read_only: true", "readonly: true"), ("file: ./", "fil: ./"), ("40s", "forty")):
            self.assertIn(right, text)
            with self.assertRaises(ValueError, msg=wrong):
                options.from_yaml(text.replace(right, wrong)).validate()

    def test_only_loopback_is_reached_from_outside(self) -> None:
        published = [port for service in services().values() for port in service.get("ports", [])]
        self.assertEqual(published, ["127.0.0.1:8080:8080", "127.0.0.1:8085:8085"])

    def test_services_are_hardened(self) -> None:
        for name, service in services().items():
            with self.subTest(name):
                wanted = {key: value for key, value in HARDENED.items() if key != "read_only" or name != "llama"}
                self.assertEqual({key: service.get(key) for key in wanted}, wanted)
                self.assertNotIn("privileged", service)
                self.assertNotIn("user", service, "the image's own")

    def test_token_is_a_file(self) -> None:
        for name in ("balancer", "agent"):
            service = services()[name]
            self.assertIn("--management-token-file=/run/secrets/management_token", service["command"])
            self.assertEqual(service["secrets"], ["management_token"])
            self.assertEqual(service["environment"], {"AWS_EC2_METADATA_DISABLED": "true"})

    def test_agent_shares_the_network_of_its_server(self) -> None:
        agent, llama = services()["agent"], services()["llama"]
        self.assertEqual(agent["network_mode"], "service:llama")
        port = llama["command"][llama["command"].index("--port") + 1]
        self.assertIn(f"--local-llamacpp-addr=127.0.0.1:{port}", agent["command"])
        self.assertIn(f"--external-llamacpp-addr=llama:{port}", agent["command"])

    def test_answers_may_finish(self) -> None:
        balancer = services()["balancer"]
        (grace,) = [word.partition("=")[2] for word in balancer["command"] if word.startswith("--shutdown-grace=")]
        self.assertLess(int(grace.removesuffix("s")), int(balancer["stop_grace_period"].removesuffix("s")))


if __name__ == "__main__":
    unittest.main()
