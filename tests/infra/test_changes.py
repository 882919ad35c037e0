"""A deployment that stands is changed: what Terraform would make anew, and what stays."""

from __future__ import annotations

import json
import unittest
from contextlib import ExitStack
from typing import Any

from examples import ROOT

import offline
import render
import tool

FOLDER = ROOT / "tests" / "infra" / "changing"
INTO = offline.CACHE / "applied" / FOLDER.name
KEY = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"

Change = dict[str, Any]


class Changes(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        tool.terraform()
        running = ExitStack()
        cls.addClassCleanup(running.close)
        cls.environment = running.enter_context(offline.stand_in()) | {"TF_DATA_DIR": str(INTO / "data")}
        render.applied(FOLDER, INTO, cls.environment)

    def planned(self, **variables: Any) -> dict[str, Change]:
        """What would be done to each resource of the module, by its address there."""
        (INTO / "changed.tfvars.json").write_text(json.dumps(variables))
        words = [f"-state={INTO}/terraform.tfstate", f"-var-file={INTO}/changed.tfvars.json", f"-out={INTO}/plan"]
        render.terraform(FOLDER, ["plan", *words], self.environment)
        said = json.loads(render.terraform(FOLDER, ["show", "-json", f"{INTO}/plan"], self.environment))
        changes = {one["address"].removeprefix("module.paddock."): one["change"] for one in said["resource_changes"]}
        return {address: change for address, change in changes.items() if change["actions"] not in (["no-op"], ["read"])}

    def test_nothing_changes_by_itself(self) -> None:
        self.assertEqual(self.planned(), {})

    def test_the_hook_of_a_group_changes_without_the_group(self) -> None:
        """The provider makes another group for another initial_lifecycle_hook."""
        changes = self.planned(boot_timeout_minutes=30)
        self.assertNotIn('aws_autoscaling_group.agent["cpu"]', set(changes))
        self.assertEqual(changes['aws_autoscaling_lifecycle_hook.launch["cpu"]']["after"]["heartbeat_timeout"], 1800)
        group = self.planned(warm_pool=None)['aws_autoscaling_group.agent["cpu"]']
        self.assertEqual(group["before"]["initial_lifecycle_hook"], group["after"]["initial_lifecycle_hook"])

    def test_what_only_the_first_boot_reads_makes_another_balancer_at_its_address(self) -> None:
        others = {"management_token_parameter": "/other/token", "kms_key_arn": KEY, "public_address": "ipv6"}
        for name, value in others.items():
            with self.subTest(name):
                changes = self.planned(**{name: value})
                self.assertIn("aws_instance.balancer", set(changes))
                self.assertEqual(changes["aws_instance.balancer"]["actions"], ["delete", "create"])
                kept = changes.get("aws_network_interface.balancer", {"actions": ["no-op"]})["actions"]
                self.assertNotIn("delete", kept, "its address stays")
                user_data = render.unpacked(changes["aws_instance.balancer"]["after"]["user_data_base64"])[1]
                self.assertIn({"public_address": "BOOT_DUALSTACK=true"}.get(name, f"={value}"), user_data)
        self.assertNotIn("aws_instance.balancer", set(self.planned(boot_timeout_minutes=30)))

    def test_changed_settings_are_waited_for(self) -> None:
        """The provider waits for an association's success only when it makes one."""
        for changed in ({"boot_timeout_minutes": 30}, {"api_keys": ["alice sha256:" + "0" * 64]}):
            with self.subTest(changed):
                refresh = self.planned(**changed).get("aws_ssm_association.refresh", {"actions": []})
                self.assertEqual(refresh["actions"], ["delete", "create"])
                self.assertEqual(refresh["after"]["wait_for_success_timeout_seconds"], 900)
        self.assertIn("create", self.planned(kms_key_arn=KEY)["aws_ssm_association.refresh"]["actions"])


if __name__ == "__main__":
    unittest.main()
