"""A stand-in for the AWS provider: its schema over Terraform's plugin protocol 6, and made-up answers instead of AWS.

One process serves every terraform command: it prints what TF_REATTACH_PROVIDERS must hold, and ends with its stdin.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from concurrent import futures
from pathlib import Path
from typing import Any, Callable

import grpc
import msgpack
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc

import answers

UNKNOWN = msgpack.ExtType(0, b"\x00")
NESTING = {
    "single": pb.Schema.NestedBlock.SINGLE,
    "list": pb.Schema.NestedBlock.LIST,
    "set": pb.Schema.NestedBlock.SET,
}
Block = dict[str, Any]


def block_message(block: Block) -> pb.Schema.Block:
    attributes = [
        pb.Schema.Attribute(
            name=name,
            type=json.dumps(one["type"]).encode(),
            required=one.get("required", False),
            optional=one.get("optional", False),
            computed=one["computed"],
        )
        for name, one in sorted(block["attributes"].items())
        if name != "alias"  # Terraform's own, of every provider
    ]
    nested = [
        pb.Schema.NestedBlock(
            type_name=name,
            block=block_message(one["block"]),
            nesting=NESTING[one["nesting"]],
            min_items=one["min_items"],
            max_items=one["max_items"],
        )
        for name, one in sorted(block["block_types"].items())
    ]
    return pb.Schema.Block(attributes=attributes, block_types=nested)


def schema_message(schema: dict[str, Any]) -> pb.GetProviderSchema.Response:
    def messages(blocks: dict[str, Block]) -> dict[str, pb.Schema]:
        return {name: pb.Schema(block=block_message(block)) for name, block in blocks.items()}

    return pb.GetProviderSchema.Response(
        provider=pb.Schema(block=block_message(schema["provider"])),
        resource_schemas=messages(schema["resources"]),
        data_source_schemas=messages(schema["data"]),
        # So Terraform asks once in a command, and not once for each instance of the provider.
        server_capabilities=pb.ServerCapabilities(get_provider_schema_optional=True),
    )


def decode(value: pb.DynamicValue) -> Any:
    if value.json:
        return json.loads(value.json)
    return msgpack.unpackb(value.msgpack, strict_map_key=False, ext_hook=lambda code, body: UNKNOWN)


def encode(value: Any) -> pb.DynamicValue:
    return pb.DynamicValue(msgpack=msgpack.packb(value))


def replace(value: Any, block: Block, old: Any, new: Callable[[str, Block], Any]) -> None:
    """Each computed attribute that is `old`, in nested blocks too, becomes what `new` says."""
    for name, attribute in block["attributes"].items():
        if attribute["computed"] and value.get(name) == old:
            value[name] = new(name, attribute)
    for name, nested in block["block_types"].items():
        inner = value.get(name)
        for one in [inner] if isinstance(inner, dict) else inner if isinstance(inner, list) else []:
            replace(one, nested["block"], old, new)


class Provider(rpc.ProviderServicer):
    def __init__(self, schema: dict[str, Any]) -> None:
        self.resources: dict[str, Block] = schema["resources"]
        self.data: dict[str, Block] = schema["data"]
        self.schema = schema_message(schema)

    def GetMetadata(self, request: Any, context: Any) -> Any:
        return pb.GetMetadata.Response(
            resources=[pb.GetMetadata.ResourceMetadata(type_name=name) for name in self.resources],
            data_sources=[pb.GetMetadata.DataSourceMetadata(type_name=name) for name in self.data],
            server_capabilities=self.schema.server_capabilities,
        )

    def GetProviderSchema(self, request: Any, context: Any) -> Any:
        return self.schema

    def ValidateProviderConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request: Any, context: Any) -> Any:
        return pb.ConfigureProvider.Response()

    def GetFunctions(self, request: Any, context: Any) -> Any:
        return pb.GetFunctions.Response()

    def UpgradeResourceState(self, request: Any, context: Any) -> Any:
        return pb.UpgradeResourceState.Response(upgraded_state=encode(json.loads(request.raw_state.json)))

    def ReadResource(self, request: Any, context: Any) -> Any:
        return pb.ReadResource.Response(new_state=request.current_state, private=request.private)

    def PlanResourceChange(self, request: Any, context: Any) -> Any:
        planned = decode(request.proposed_new_state)
        if planned is not None:
            replace(planned, self.resources[request.type_name], None, lambda name, attribute: UNKNOWN)
        return pb.PlanResourceChange.Response(planned_state=encode(planned))

    def ApplyResourceChange(self, request: Any, context: Any) -> Any:
        kind, value = request.type_name, decode(request.planned_state)
        if value is not None:
            config = {name: one for name, one in value.items() if one != UNKNOWN}
            replace(value, self.resources[kind], UNKNOWN, lambda name, one: answers.chosen(kind, config, name, one))
        return pb.ApplyResourceChange.Response(new_state=encode(value))

    def ReadDataSource(self, request: Any, context: Any) -> Any:
        kind = request.type_name
        return pb.ReadDataSource.Response(state=encode(answers.data(kind, decode(request.config), self.data[kind])))

    def StopProvider(self, request: Any, context: Any) -> Any:
        return pb.StopProvider.Response()


def serve(schema: dict[str, Any], socket: Path) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=[("grpc.max_send_message_length", -1)])
    rpc.add_ProviderServicer_to_server(Provider(schema), server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    address = {"Network": "unix", "String": str(socket)}
    attach = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": address}
    print(json.dumps({"hashicorp/aws": attach}), flush=True)
    sys.stdin.read()
    server.stop(grace=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("schema", type=Path, help="a file that provider_schema.py wrote")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        serve(json.loads(arguments.schema.read_text()), Path(folder) / "socket")


if __name__ == "__main__":
    main()
