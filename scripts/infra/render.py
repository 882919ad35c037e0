"""Applies each example with the stand-in, and writes what would be sent to AWS, for the tests to read:

target/infra/rendered/EXAMPLE/
    resources.json           every resource: address, type, name, values
    outputs.json             the module's outputs
    policies.json            every IAM policy: address, document
    alarms.json              every alarm: address, values
    user-data/NAME.yaml      what cloud-init gets, unpacked; NAME is `balancer`, or that of the launch template
    user-data/NAME.packed    the same as it is sent
    settings/KEY             every text object that Terraform puts into S3, `/` of its key as `_`
    inputs.sha256            of the files that it was made from: an example is applied again only when these change
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import offline
from offline import CACHE, ROOT

RENDERED = CACHE / "rendered"
VARIABLES = Path(__file__).with_name("examples.tfvars")
INPUTS = [ROOT / "terraform", ROOT / "infra", Path(__file__).parent]
NO_INPUT = {".terraform", "__pycache__", ".terraform.lock.hcl"}
GZIP_MAGIC = b"\x1f\x8b"
POLICY_ATTRIBUTES = ("policy", "assume_role_policy")

Resource = dict[str, Any]


class ApplyFailed(Exception):
    """What terraform said."""


def terraform(folder: Path, words: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(["terraform", f"-chdir={folder}", *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ApplyFailed(f"terraform {words[0]}:\n{done.stdout}{done.stderr}")
    return done.stdout


def applied(folder: Path, into: Path, environment: dict[str, str], variables: Path | None = None) -> dict[str, Any]:
    """The state after an apply of the configuration in `folder`, as `terraform show -json` tells it."""
    into.mkdir(parents=True, exist_ok=True)
    inside = environment | {"TF_DATA_DIR": str(into / "data")}
    state = into / "terraform.tfstate"
    state.unlink(missing_ok=True)
    terraform(folder, ["init", "-backend=false"], inside)
    given = [f"-var-file={variables}"] if variables else []
    terraform(folder, ["apply", "-auto-approve", f"-state={state}", "-backup=-", *given], inside)
    return json.loads(terraform(folder, ["show", "-json", str(state)], inside))


def resources_of(state: dict[str, Any]) -> list[Resource]:
    """Every managed resource of every module."""
    found: list[Resource] = []

    def walk(module: dict[str, Any]) -> None:
        found.extend(one for one in module.get("resources", []) if one["mode"] == "managed")
        for child in module.get("child_modules", []):
            walk(child)

    walk(state.get("values", {}).get("root_module", {}))
    return [{key: one[key] for key in ("address", "type", "name", "values")} for one in found]


def unpacked(encoded: str) -> tuple[bytes, str]:
    """The user data as it is sent, and as text."""
    packed = base64.b64decode(encoded)
    return packed, (gzip.decompress(packed) if packed.startswith(GZIP_MAGIC) else packed).decode()


def user_data_of(resources: list[Resource]) -> dict[str, str]:
    """The encoded user data of the balancer and of each launch template, by name."""
    found: dict[str, str] = {}
    for one in resources:
        values = one["values"]
        if one["type"] == "aws_instance" and values.get("user_data_base64"):
            found["balancer"] = values["user_data_base64"]
        if one["type"] == "aws_launch_template" and values.get("user_data"):
            is_balancer = "balancer" in one["address"]
            found["balancer" if is_balancer else values["name"]] = values["user_data"]
    return found


def policies_of(resources: list[Resource]) -> list[dict[str, Any]]:
    return [
        {"address": one["address"], "attribute": name, "document": json.loads(one["values"][name])}
        for one in resources
        for name in POLICY_ATTRIBUTES
        if str(one["values"].get(name) or "").startswith("{")
    ]


def write(state: dict[str, Any], into: Path) -> list[Resource]:
    shutil.rmtree(into, ignore_errors=True)
    for folder in ("user-data", "settings"):
        (into / folder).mkdir(parents=True)
    resources = resources_of(state)
    outputs = {name: one["value"] for name, one in state.get("values", {}).get("outputs", {}).items()}
    alarms = [one for one in resources if one["type"] == "aws_cloudwatch_metric_alarm"]
    files = {"resources": resources, "outputs": outputs, "policies": policies_of(resources), "alarms": alarms}
    for name, content in files.items():
        (into / f"{name}.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    for name, encoded in user_data_of(resources).items():
        packed, text = unpacked(encoded)
        (into / "user-data" / f"{name}.packed").write_bytes(packed)
        (into / "user-data" / f"{name}.yaml").write_text(text)
    for one in resources:
        if one["type"] == "aws_s3_object" and one["values"].get("content") is not None:
            (into / "settings" / one["values"]["key"].replace("/", "_")).write_text(one["values"]["content"])
    return resources


def inputs_sha256(folder: Path) -> str:
    """Of everything that the configuration in `folder` depends on."""
    digest = hashlib.sha256()
    for top in [*INPUTS, folder]:
        for file in sorted(file for file in top.rglob("*") if file.is_file() and not NO_INPUT.intersection(file.parts)):
            digest.update(str(file).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def render(folder: Path, environment: dict[str, str]) -> list[Resource]:
    into = RENDERED / folder.name
    stamp, fresh = into / "inputs.sha256", inputs_sha256(folder)
    if stamp.exists() and stamp.read_text() == fresh:
        return json.loads((into / "resources.json").read_text())
    variables = VARIABLES if VARIABLES.exists() else None
    resources = write(applied(folder, CACHE / "applied" / folder.name, environment, variables), into)
    stamp.write_text(fresh)
    return resources


def main() -> int:
    if shutil.which("terraform") is None:
        print("render: SKIPPED: terraform is not installed, so nothing of the examples is checked")
        return 0
    with offline.stand_in() as environment:
        for folder in offline.applicable():
            try:
                render(folder, environment)
            except ApplyFailed as failure:
                sys.exit(f"{folder}: {failure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
