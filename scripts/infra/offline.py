"""Terraform's environment: the real AWS provider where it can be fetched, else the stand-in for it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import provider_schema

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "target" / "infra"
MODULE = ROOT / "terraform"
IMAGE = ROOT / "infra" / "image"
CONFIGURED = [MODULE, IMAGE]
"""Whose resources and data sources the stand-in knows."""

CHOICE = "PADDOCK_TERRAFORM_PROVIDER"
DOWNLOAD_SECONDS_MAX = 300
REGISTRY_SECONDS_MAX = 5

PROBE = 'terraform {\n  required_providers {\n    aws = {\n      source = "hashicorp/aws"\n    }\n  }\n}\n'


def applicable() -> list[Path]:
    """The configurations that somebody applies: the examples, and the pipeline of images."""
    examples = [folder for folder in sorted((MODULE / "examples").glob("*")) if any(folder.glob("*.tf"))]
    return examples + ([IMAGE] if any(IMAGE.glob("*.tf")) else [])


def quiet_environment() -> dict[str, str]:
    """Terraform as a program calls it: no colours, no questions, no talk with anybody but the registry."""
    return os.environ | {
        "CHECKPOINT_DISABLE": "1",
        "TF_CLI_ARGS": "-no-color",
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "TF_REGISTRY_CLIENT_TIMEOUT": str(REGISTRY_SECONDS_MAX),
        "TF_REGISTRY_DISCOVERY_RETRY": "0",
    }


def real_environment() -> dict[str, str]:
    plugins = CACHE / "plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    return quiet_environment() | {"TF_PLUGIN_CACHE_DIR": str(plugins)}


def real_provider_can_be_fetched() -> bool:
    choice = os.environ.get(CHOICE, "auto")
    if choice not in ("auto", "real", "offline"):
        sys.exit(f"{CHOICE}={choice}: it is auto, real or offline")
    if choice != "auto":
        return choice == "real"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "main.tf").write_text(PROBE)
        command = ["terraform", f"-chdir={folder}", "init"]
        try:
            done = subprocess.run(
                command, env=real_environment(), capture_output=True, timeout=DOWNLOAD_SECONDS_MAX, check=False
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0


@contextmanager
def stand_in(folders: list[Path] | None = None) -> Iterator[dict[str, str]]:
    """The environment in which terraform talks to the stand-in, while that runs."""
    known = provider_schema.extract(provider_schema.used_types(folders or CONFIGURED), CACHE)
    command = [sys.executable, str(Path(__file__).with_name("provider.py")), str(known)]
    # The stand-in ends when its stdin does, and leaving `with` waits for that.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        attach = process.stdout.readline().strip()
        if not attach:
            sys.exit("the stand-in for the AWS provider does not start; its words are above")
        yield quiet_environment() | {"TF_REATTACH_PROVIDERS": attach, "TF_CLI_CONFIG_FILE": os.devnull}


@contextmanager
def best() -> Iterator[tuple[str, dict[str, str]]]:
    """What is used, in words, and the environment for it."""
    if real_provider_can_be_fetched():
        yield "the real AWS provider", real_environment()
        return
    words = f"a stand-in with the schema of the AWS provider {provider_schema.PROVIDER_VERSION} (the real one cannot be fetched)"
    with stand_in() as environment:
        yield words, environment
