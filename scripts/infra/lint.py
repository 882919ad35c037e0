"""What a schema cannot know: values of enumerations, names of IAM actions, rights that are missing or too wide.

It reads what was applied, so it sees values, not expressions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from policy_sentry.shared.iam_data import get_service_prefix_data

import enums
from offline import ROOT
from render import Resource, policies_of, unpacked, user_data_of

CALLED = [ROOT / "terraform" / "actions.json", ROOT / "infra" / "boot" / "actions.json"]
"""What the program and the boot scripts call, by role."""

HARMLESS = ("List", "Read")
"""Access levels that may be allowed on everything."""

CALLED_BY_AWS = {
    "ec2messages:AcknowledgeMessage",
    "ec2messages:DeleteMessage",
    "ec2messages:FailMessage",
    "ec2messages:GetEndpoint",
    "ec2messages:GetMessages",
    "ec2messages:SendReply",
    "kms:Decrypt",
    "kms:Encrypt",
    "ssm:DescribeAssociation",
    "ssm:DescribeDocument",
    "ssm:GetDeployablePatchSnapshotForInstance",
    "ssm:GetDocument",
    "ssm:GetManifest",
    "ssm:ListAssociations",
    "ssm:ListInstanceAssociations",
    "ssm:PutConfigurePackageResult",
    "ssm:UpdateAssociationStatus",
    "ssm:UpdateInstanceAssociationStatus",
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
}
"""What AWS calls on a role's behalf: Systems Manager for sessions and for the association that refreshes the balancer, and
its parameters with a customer's key."""


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


# --- Enumerations ----------------------------------------------------------------------------------------------------


def values_at(values: Any, path: str) -> Iterator[str]:
    """Every value at `a.b.c`, through lists of blocks."""
    head, _, rest = path.partition(".")
    for one in as_list(values):
        inner = one.get(head) if isinstance(one, dict) else None
        if rest:
            yield from values_at(inner, rest)
        else:
            yield from (value for value in as_list(inner) if value not in (None, ""))


def enum_mistakes(resources: list[Resource]) -> Iterator[str]:
    for one in resources:
        for path, rule in enums.ENUMS.get(one["type"], {}).items():
            allowed = enums.allowed(rule)
            for value in values_at(one["values"], path):
                # What the stand-in chose for AWS is nobody's mistake.
                if value not in allowed and not value.startswith(f"{path.split('.')[-1].replace('_', '-')}-"):
                    few = ", ".join(allowed) if len(allowed) < 20 else f"one of AWS's {len(allowed)} values"
                    yield f"{one['address']}: {path} = \"{value}\": it must be {few}"


# --- IAM -------------------------------------------------------------------------------------------------------------


@cache
def access_levels(service: str) -> dict[str, str]:
    """By lower-case name: IAM does not look at the case."""
    privileges = (get_service_prefix_data(service) or {}).get("privileges", {})
    return {name.lower(): privilege["access_level"] for name, privilege in privileges.items()}


def level_of(action: str) -> str | None:
    service, _, name = action.partition(":")
    return access_levels(service).get(name.lower())


def action_mistakes(address: str, statement: dict[str, Any]) -> Iterator[str]:
    allows = statement["Effect"] == "Allow"
    everywhere = "*" in as_list(statement.get("Resource")) and not statement.get("Condition")
    if allows and (statement.get("NotAction") or statement.get("NotResource")):
        yield f"{address}: an Allow with NotAction or NotResource allows what nobody listed"
    for action in as_list(statement.get("Action")):
        if "*" in action:
            service, _, pattern = action.partition(":")
            if allows:
                yield f"{address}: {action}: write the actions out"
            elif action != "*" and not any(fnmatchcase(name, pattern.lower()) for name in access_levels(service)):
                yield f"{address}: {action}: no IAM action is like this"
            continue
        level = level_of(action)
        if level is None:
            yield f"{address}: {action}: there is no such IAM action"
        elif allows and everywhere and level not in HARMLESS:
            yield f"{address}: {action} (access level {level}) on every resource without a condition: name the resource, or add a condition"


def policy_mistakes(resources: list[Resource]) -> Iterator[str]:
    for policy in policies_of(resources):
        for statement in as_list(policy["document"]["Statement"]):
            yield from action_mistakes(policy["address"], statement)


# --- Rights against calls --------------------------------------------------------------------------------------------


@cache
def called(role: str) -> frozenset[str]:
    files = [json.loads(file.read_text()) for file in CALLED if file.exists()]
    return frozenset(action for calls in files for action in calls.get(role, []))


def plain(address: str) -> str:
    """Without the index of one among many."""
    return re.sub(r"\[[^]]*\]$", "", address)


def allowed_actions(resources: list[Resource], role: str) -> set[str]:
    """What the inline policy of this role allows."""
    return {
        action
        for policy in policies_of(resources)
        if plain(policy["address"]).endswith(f"aws_iam_role_policy.{role}")
        for statement in as_list(policy["document"]["Statement"])
        if statement["Effect"] == "Allow"
        for action in as_list(statement.get("Action"))
    }


def settings_of(resources: list[Resource]) -> dict[str, str]:
    """The balancer's settings object."""
    for one in resources:
        if one["type"] == "aws_s3_object" and "balancer_settings" in one["address"]:
            return dict(line.split("=", 1) for line in one["values"]["content"].splitlines())
    return {}


def keeps_failed_boots(resources: list[Resource]) -> bool:
    texts = [unpacked(encoded)[1] for encoded in user_data_of(resources).values()]
    return any(re.search(r"^\s*BOOT_KEEP_FAILED=true$", text, re.M) for text in texts) or not texts


def optional(role: str, resources: list[Resource]) -> set[str]:
    """What is called in some configurations only, and not in this one."""
    settings = settings_of(resources)
    unused: set[str] = set()
    if role == "balancer" and settings.get("PADDOCK_FLEET") == "none":
        unused |= {action for action in called(role) if action.startswith(("autoscaling:", "ec2:"))}
    if role == "balancer" and settings and settings.get("PADDOCK_ASG_WAKE") != "launch-instances":
        unused |= {"autoscaling:LaunchInstances", "ec2:CreateFleet", "ec2:DescribeLaunchTemplateVersions"}
    if role == "agent" and not keeps_failed_boots(resources):
        unused |= {"autoscaling:DescribeAutoScalingGroups", "autoscaling:EnterStandby"}
    return unused


def right_mistakes(resources: list[Resource]) -> Iterator[str]:
    for role in ("balancer", "agent"):
        if not any(plain(one["address"]).endswith(f"aws_iam_role.{role}") for one in resources):
            continue
        allowed = allowed_actions(resources, role)
        if not allowed:
            yield f"the {role}'s role has no policy: aws_iam_role_policy.{role} is missing, or allows nothing"
            continue
        for action in sorted(called(role) - allowed - optional(role, resources)):
            yield f"the {role}'s policy lacks {action}, which its code calls"
        for action in sorted(allowed - called(role) - CALLED_BY_AWS):
            yield f"the {role}'s policy allows {action}, which nothing calls"


def mistakes(resources: list[Resource]) -> list[str]:
    return [*enum_mistakes(resources), *policy_mistakes(resources), *right_mistakes(resources)]
