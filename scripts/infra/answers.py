"""What the stand-in provider answers where AWS would: made up, but of the right shape, and the same in each run."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Callable

REGION = "eu-central-1"
ACCOUNT = "123456789012"
ZONES = [REGION + letter for letter in "abc"]
VPC_CIDR = "10.0.0.0/16"

Config = dict[str, Any]


def digits(*parts: Any) -> str:
    """Hexadecimal digits that depend on nothing but the parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


# --- Resources: attributes that AWS chooses. -----------------------------------------------------------------------

ID_PREFIXES = {
    "aws_ebs_volume": "vol",
    "aws_egress_only_internet_gateway": "eigw",
    "aws_eip": "eipalloc",
    "aws_instance": "i",
    "aws_internet_gateway": "igw",
    "aws_launch_template": "lt",
    "aws_nat_gateway": "nat",
    "aws_network_interface": "eni",
    "aws_route_table": "rtb",
    "aws_security_group": "sg",
    "aws_subnet": "subnet",
    "aws_vpc": "vpc",
    "aws_vpc_endpoint": "vpce",
}
IDS_THAT_ARE_NAMES = {
    "aws_autoscaling_group": "name",
    "aws_cloudwatch_log_group": "name",
    "aws_cloudwatch_metric_alarm": "alarm_name",
    "aws_iam_instance_profile": "name",
    "aws_iam_role": "name",
    "aws_s3_bucket": "bucket",
    "aws_ssm_parameter": "name",
}
ARNS = {
    "aws_autoscaling_group": f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:{{hex}}:autoScalingGroupName/{{name}}",
    "aws_cloudwatch_log_group": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{name}}",
    "aws_cloudwatch_metric_alarm": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{{alarm_name}}",
    "aws_iam_instance_profile": f"arn:aws:iam::{ACCOUNT}:instance-profile/{{name}}",
    "aws_iam_policy": f"arn:aws:iam::{ACCOUNT}:policy/{{name}}",
    "aws_iam_role": f"arn:aws:iam::{ACCOUNT}:role/{{name}}",
    "aws_s3_bucket": "arn:aws:s3:::{bucket}",
    "aws_sns_topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:{{name}}",
    "aws_ssm_parameter": f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{{name}}",
}
ATTRIBUTES = {
    "account_id": ACCOUNT,
    "availability_zone": ZONES[0],
    "ipv6_address": "2001:db8::10",
    "owner_id": ACCOUNT,
    "private_ip": "10.0.0.10",
    "public_ip": "203.0.113.10",
    "region": REGION,
}
LISTS = {"ipv6_addresses": ["2001:db8::10"], "private_ips": ["10.0.0.10"]}


def chosen(kind: str, config: Config, name: str, schema: dict[str, Any]) -> Any:
    """The attribute `name` that `config` left to AWS."""
    unique = digits(kind, config)
    if name == "tags_all":
        return config.get("tags") or {}
    of_type = schema["type"]
    if isinstance(of_type, list):
        return LISTS.get(name, {} if of_type[0] in ("map", "object") else [])
    if of_type in ("number", "bool"):
        return {"latest_version": 1, "default_version": 1}.get(name, 0) if of_type == "number" else False
    if name in ATTRIBUTES:
        return ATTRIBUTES[name]
    title_of = IDS_THAT_ARE_NAMES.get(kind, "name")
    title = config.get(title_of)
    if not isinstance(title, str):
        prefix = config.get(f"{title_of}_prefix") or kind.removeprefix("aws_").replace("_", "-") + "-"
        title = f"{prefix}{unique[:12]}"
    if name == "arn":
        service = kind.split("_")[1]
        fallback = f"arn:aws:{service}:{REGION}:{ACCOUNT}:{kind.removeprefix(f'aws_{service}_')}/{title}"
        return ARNS.get(kind, fallback).format(hex=unique[:32], name=title, alarm_name=title, bucket=title)
    if name == "id" and kind in ID_PREFIXES:
        return f"{ID_PREFIXES[kind]}-0{unique[:16]}"
    if name in ("id", title_of):
        return title
    if name.endswith("cidr_block"):
        return "2001:db8::/56" if "v6" in name else VPC_CIDR
    return f"{name.replace('_', '-')}-{unique[:12]}"


# --- Data sources. ---------------------------------------------------------------------------------------------------

ARM_FAMILIES = ("a1", "c6g", "c7g", "c8g", "g5g", "m6g", "m7g", "m8g", "r6g", "r7g", "r8g", "t4g")
GPU_NAMES = {"g4dn": "T4", "g5": "A10G", "g5g": "T4g", "g6": "L4", "g6e": "L40S", "g6f": "L4", "p3": "V100", "p4d": "A100"}
GPU_MEMORY_MIB = 16384


def architecture(instance_type: str) -> str:
    family = instance_type.split(".")[0]
    return "arm64" if family.startswith(ARM_FAMILIES) else "x86_64"


def instance_type_of(config: Config) -> Config:
    kind = config["instance_type"]
    gpu = GPU_NAMES.get(kind.split(".")[0])
    gpus = [{"count": 1, "manufacturer": "NVIDIA", "memory_size": GPU_MEMORY_MIB, "name": gpu}] if gpu else []
    return {
        "id": kind,
        "current_generation": True,
        "default_cores": 2,
        "default_vcpus": 4,
        "gpus": gpus,
        "hypervisor": "nitro",
        "instance_disks": [],
        "instance_storage_supported": ".metal" in kind or "dn." in kind,
        "ipv6_supported": True,
        "memory_size": 16384,
        "supported_architectures": [architecture(kind)],
        "supported_usages_classes": ["on-demand", "spot"],
        "total_gpu_memory": GPU_MEMORY_MIB if gpu else 0,
    }


def ami_of(config: Config) -> Config:
    filters = {one["name"]: list(one["values"]) for one in config.get("filter") or []}
    asked = filters.get("image-id") or [config.get("id") or f"ami-0{digits(filters)[:16]}"]
    words = json.dumps([filters, config.get("name_regex")])
    device = "/dev/sda1" if "ubuntu" in words else "/dev/xvda"
    disk = {"delete_on_termination": "true", "encrypted": "false", "volume_size": "8", "volume_type": "gp3"}
    return {
        "id": asked[0],
        "image_id": asked[0],
        "arn": f"arn:aws:ec2:{REGION}::image/{asked[0]}",
        # An image whose id comes from the parameter below says its architecture by its id.
        "architecture": "arm64" if "arm64" in words or asked[0].startswith("ami-0a64") else "x86_64",
        "block_device_mappings": [{"device_name": device, "ebs": disk, "no_device": "", "virtual_name": ""}],
        "root_device_name": device,
        "root_device_type": "ebs",
        "state": "available",
    }


def parameter_of(config: Config) -> Config:
    name = config["name"]
    value = f"ami-0{'a64' if 'arm64' in name else '864'}{digits(name)[:13]}"
    return {"value": value, "insecure_value": value, "type": "String", "version": 1, "id": name}


def zones_of(_: Config) -> Config:
    return {"id": REGION, "names": ZONES, "zone_ids": [f"euc1-az{n}" for n in (1, 2, 3)], "group_names": [REGION]}


def offerings_of(config: Config) -> Config:
    filters = {one["name"]: list(one["values"]) for one in config.get("filter") or []}
    places = filters.get("location") or ZONES
    kinds = filters.get("instance-type") or ["t4g.nano"]
    pairs = [(place, kind) for place in places for kind in kinds]
    return {
        "id": REGION,
        "instance_types": [kind for _, kind in pairs],
        "locations": [place for place, _ in pairs],
        "location_types": [config.get("location_type") or "region" for _ in pairs],
    }


def subnet_of(config: Config) -> Config:
    number = int(digits(config.get("id"))[:6], 16)
    return {
        "id": config.get("id") or "subnet-0123456789abcdef0",
        "arn": f"arn:aws:ec2:{REGION}:{ACCOUNT}:subnet/{config.get('id')}",
        "availability_zone": config.get("availability_zone") or ZONES[number % len(ZONES)],
        "cidr_block": f"10.0.{number % 256}.0/24",
        "ipv6_cidr_block": "2001:db8::/64",
        "map_public_ip_on_launch": True,
        "available_ip_address_count": 250,
        "vpc_id": config.get("vpc_id") or "vpc-0123456789abcdef0",
    }


def vpc_of(config: Config) -> Config:
    name = config.get("id") or "vpc-0123456789abcdef0"
    return {
        "id": name,
        "arn": f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/{name}",
        "cidr_block": VPC_CIDR,
        "cidr_block_associations": [],
        "enable_dns_hostnames": True,
        "enable_dns_support": True,
        "ipv6_cidr_block": "2001:db8::/56",
        "main_route_table_id": "rtb-0123456789abcdef0",
    }


def region_of(config: Config) -> Config:
    region = config.get("region") or config.get("name") or REGION
    return {"id": region, "name": region, "region": region, "endpoint": f"ec2.{region}.amazonaws.com"}


DATA: dict[str, Callable[[Config], Config]] = {
    "aws_ami": ami_of,
    "aws_availability_zones": zones_of,
    "aws_caller_identity": lambda _: {
        "id": ACCOUNT,
        "account_id": ACCOUNT,
        "arn": f"arn:aws:iam::{ACCOUNT}:user/example",
        "user_id": "AIDAEXAMPLE",
    },
    "aws_ec2_instance_type": instance_type_of,
    "aws_ec2_instance_type_offerings": offerings_of,
    "aws_ec2_managed_prefix_list": lambda _: {"id": "pl-0123456789abcdef0"},
    "aws_partition": lambda _: {"id": "aws", "partition": "aws", "dns_suffix": "amazonaws.com", "reverse_dns_prefix": "com.amazonaws"},
    "aws_region": region_of,
    "aws_route_table": lambda config: {"id": "rtb-0123456789abcdef0", "route_table_id": "rtb-0123456789abcdef0", "vpc_id": config.get("vpc_id")},
    "aws_route_tables": lambda _: {"ids": ["rtb-0123456789abcdef0"]},
    "aws_servicequotas_service_quota": lambda _: {"value": 8, "default_value": 0, "adjustable": True},
    "aws_ssm_parameter": parameter_of,
    "aws_subnet": subnet_of,
    "aws_subnets": lambda _: {"id": REGION, "ids": ["subnet-0000000000000000a", "subnet-0000000000000000b"]},
    "aws_vpc": vpc_of,
}


def data(kind: str, config: Config, schema: dict[str, Any]) -> Config:
    """`config` with what AWS would tell."""
    told = DATA.get(kind, lambda _: {})(config)
    return {
        name: told[name] if name in told
        else chosen(kind, config, name, schema["attributes"][name])
        if value is None and schema["attributes"].get(name, {}).get("computed") else value
        for name, value in config.items()
    }
