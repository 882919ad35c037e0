#!/usr/bin/python3
"""What becomes of an instance whose model or llama.cpp failed for good.

With BOOT_KEEP_FAILED=true it goes into Standby, for somebody to look at it; one of a group at a time. Otherwise the balancer
ends it. Where not even the agent runs nobody knows of it: such an instance ends itself when it is 15 minutes old.
"""

import os
import re
import subprocess
import sys
import time
import urllib.parse
from typing import Dict, List

import aws

NOBODY_KNOWS_SECONDS = 15 * 60
LOOK_AGAIN_SECONDS = 20
VERSION = "2011-01-01"


def autoscaling(action: str, said: Dict[str, str]) -> str:
    body = urllib.parse.urlencode({"Action": action, "Version": VERSION, **said}).encode()
    return aws.call("autoscaling", action, ["Content-Type: application/x-www-form-urlencoded"], body).decode()


def values(tag: str, text: str) -> List[str]:
    return re.findall(f"<{tag}>([^<]*)</{tag}>", text)


def keep(instance: str) -> str:
    """Into Standby, unless another one is there already; one line about it."""
    own = autoscaling("DescribeAutoScalingInstances", {"InstanceIds.member.1": instance})
    groups, states = values("AutoScalingGroupName", own), values("LifecycleState", own)
    if not groups or states[:1] != ["InService"]:
        return f"not kept: it is {states[0] if states else 'in no Auto Scaling group'}, and only InService can go into Standby"
    group = autoscaling("DescribeAutoScalingGroups", {"AutoScalingGroupNames.member.1": groups[0]})
    if any(state in ("Standby", "EnteringStandby") for state in values("LifecycleState", group)):
        return "not kept: another instance of the group is in Standby already"
    autoscaling("EnterStandby", {"AutoScalingGroupName": groups[0], "InstanceIds.member.1": instance,
                                 "ShouldDecrementDesiredCapacity": "true"})
    return (f"kept in Standby for you to look at, and billed until you end it: `aws ssm start-session --target {instance}`, "
            f"then `aws autoscaling terminate-instance-in-auto-scaling-group --instance-id {instance} "
            "--no-should-decrement-desired-capacity`: the group does not count it")


def agent_runs() -> bool:
    return subprocess.run(["systemctl", "--quiet", "is-active", "paddock-agent.service"]).returncode == 0


def age_seconds() -> float:
    with open("/proc/uptime") as file:
        return float(file.read().split()[0])


def end_if_nobody_knows(instance: str) -> str:
    while not agent_runs():
        if age_seconds() > NOBODY_KNOWS_SECONDS:
            autoscaling("TerminateInstanceInAutoScalingGroup",
                        {"InstanceId": instance, "ShouldDecrementDesiredCapacity": "true"})
            return "its agent does not run, so nobody else would end it: it ends itself"
        time.sleep(LOOK_AGAIN_SECONDS)
    return "its agent runs: the balancer ends it, or --orphan-timeout"


def main() -> int:
    try:
        instance = aws.imds("instance-id")
        if os.environ.get("BOOT_KEEP_FAILED") == "true":
            try:
                said = keep(instance)
            except aws.Trouble as trouble:
                said = f"not kept: {trouble}"
            print(f"{instance}: {said}", flush=True)
            if said.startswith("kept"):
                return 0
        print(f"{instance}: {end_if_nobody_knows(instance)}")
    except (aws.Trouble, OSError) as trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
