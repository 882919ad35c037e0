"""An instance that failed to boot: kept in Standby for somebody to look at, one of a group; or ended, if nobody knows of it."""

from __future__ import annotations

import sys
import unittest
from typing import Any
from unittest import mock

from instance import BOOT, REGION, CloudCase

sys.path.insert(0, str(BOOT))
import aws  # noqa: E402
import keep_failed  # noqa: E402


class KeepFailed(CloudCase):
    def setUp(self) -> None:
        super().setUp()
        self.groups, ec2 = self.cloud.client("autoscaling"), self.cloud.client("ec2")
        image = ec2.describe_images()["Images"][0]["ImageId"]
        self.groups.create_launch_configuration(LaunchConfigurationName="l", ImageId=image, InstanceType="t4g.small")
        self.groups.create_auto_scaling_group(AutoScalingGroupName="paddock-g", LaunchConfigurationName="l", MinSize=0, MaxSize=3,
                                              DesiredCapacity=2, AvailabilityZones=[REGION + "a"])
        self.instances = [one["InstanceId"] for one in self.group()["Instances"]]
        # The metadata and the environment of an instance, for the script's own functions here.
        self.agent = self.instance("agent")
        patch = mock.patch.dict("os.environ", self.agent.environment)
        patch.start()
        self.addCleanup(patch.stop)
        self.addCleanup(aws._kept.clear)

    def group(self) -> dict[str, Any]:
        return self.groups.describe_auto_scaling_groups(AutoScalingGroupNames=["paddock-g"])["AutoScalingGroups"][0]

    def states(self) -> list[str]:
        return sorted(one["LifecycleState"] for one in self.group()["Instances"])

    def test_it_goes_into_standby_and_the_group_shrinks(self) -> None:
        said = keep_failed.keep(self.instances[0])
        self.assertTrue(said.startswith("kept in Standby"), said)
        self.assertIn(f"ssm start-session --target {self.instances[0]}", said)
        self.assertEqual((self.states(), self.group()["DesiredCapacity"]), (["InService", "Standby"], 1))

    def test_one_at_a_time(self) -> None:
        keep_failed.keep(self.instances[0])
        said = keep_failed.keep(self.instances[1])
        self.assertIn("another instance of the group is in Standby", said)
        self.assertEqual(self.states(), ["InService", "Standby"])
        self.assertIn("only InService can go", keep_failed.keep(self.instances[0]))

    def test_an_instance_of_no_group(self) -> None:
        self.assertIn("in no Auto Scaling group", keep_failed.keep("i-00000000000000000"))

    def test_nobody_knows_of_it(self) -> None:
        with mock.patch.object(keep_failed, "agent_runs", return_value=False), \
                mock.patch.object(keep_failed, "age_seconds", return_value=901.0):
            said = keep_failed.end_if_nobody_knows(self.instances[0])
        self.assertIn("it ends itself", said)
        left = [one["InstanceId"] for one in self.group()["Instances"]]
        self.assertEqual((left, self.group()["DesiredCapacity"]), ([self.instances[1]], 1))

    def test_it_gives_the_agent_the_time_to_come(self) -> None:
        runs = iter([False, False, True])
        with mock.patch.object(keep_failed, "agent_runs", side_effect=lambda: next(runs)), \
                mock.patch.object(keep_failed, "age_seconds", return_value=60.0), \
                mock.patch.object(keep_failed.time, "sleep"):
            said = keep_failed.end_if_nobody_knows(self.instances[0])
        self.assertIn("its agent runs", said)
        self.assertEqual(len(self.group()["Instances"]), 2)

    def test_it_is_ended_also_when_it_cannot_be_kept(self) -> None:
        self.cloud.front.refused["/"] = (403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
        self.agent.program("systemctl", "exit 0\n")
        done = self.agent.run("keep_failed.py", BOOT_KEEP_FAILED="true")
        self.assertEqual((done.returncode, len(done.stdout.splitlines())), (0, 2), done)
        self.assertIn("not kept: autoscaling DescribeAutoScalingInstances in eu-central-1: AccessDenied", done.stdout)
        self.assertIn("its agent runs", done.stdout)

    def test_the_script(self) -> None:
        self.agent.program("systemctl", "exit 0\n")
        done = self.agent.run("keep_failed.py", BOOT_KEEP_FAILED="true")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(done.stdout.splitlines()), 2, done.stdout)
        self.assertIn("not kept: it is in no Auto Scaling group", done.stdout)
        done = self.agent.run("keep_failed.py", BOOT_KEEP_FAILED="false")
        self.assertEqual(done.stdout, "i-0123456789abcdef0: its agent runs: the balancer ends it, or --orphan-timeout\n")


if __name__ == "__main__":
    unittest.main()
