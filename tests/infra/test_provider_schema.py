"""The schema that is read from the npm package says what the provider's documentation says."""

from __future__ import annotations

import json
import re
import tempfile
import unittest
from pathlib import Path

from examples import ROOT

import answers
import offline
import provider_schema
import tool

FOLDERS = {
    "autoscaling-group",
    "data-aws-ec2-instance-type",
    "instance",
    "launch-template",
    "no-such-resource",
    "provider",
    "security-group",
}


class Schema(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        tool.needed("npm", "Debian: apt-get install nodejs npm")
        schema = json.loads(provider_schema.extract(FOLDERS, offline.CACHE).read_text())
        cls.provider, cls.resources, cls.data = schema["provider"], schema["resources"], schema["data"]

    def attribute(self, resource: str, name: str) -> dict[str, object]:
        return self.resources[resource]["attributes"][name]

    def test_required_optional_and_computed(self) -> None:
        self.assertTrue(self.attribute("aws_autoscaling_group", "max_size")["required"])
        self.assertEqual({"type": "number", "computed": True}, self.attribute("aws_launch_template", "latest_version"))
        name = self.attribute("aws_launch_template", "name")
        self.assertTrue(name["optional"] and name["computed"])
        image = self.attribute("aws_launch_template", "image_id")
        self.assertTrue(image["optional"] and not image["computed"])

    def test_types(self) -> None:
        self.assertEqual("bool", self.attribute("aws_instance", "monitoring")["type"])
        self.assertEqual(["map", "string"], self.attribute("aws_instance", "tags")["type"])
        self.assertEqual(["set", "string"], self.attribute("aws_instance", "vpc_security_group_ids")["type"])
        gpus = self.data["aws_ec2_instance_type"]["attributes"]["gpus"]
        self.assertEqual("set", gpus["type"][0])
        self.assertEqual("number", gpus["type"][1][1]["memory_size"])

    def test_blocks(self) -> None:
        blocks = self.resources["aws_launch_template"]["block_types"]
        self.assertEqual(1, blocks["metadata_options"]["max_items"])
        self.assertEqual(0, blocks["block_device_mappings"]["max_items"])
        ebs = blocks["block_device_mappings"]["block"]["block_types"]["ebs"]["block"]["attributes"]
        self.assertEqual("number", ebs["throughput"]["type"])
        self.assertEqual("single", self.resources["aws_instance"]["block_types"]["timeouts"]["nesting"])
        self.assertIn("tags", self.provider["block_types"]["default_tags"]["block"]["attributes"])

    def test_an_attribute_that_may_be_written_as_a_block(self) -> None:
        ingress = self.attribute("aws_security_group", "ingress")
        self.assertEqual("set", ingress["type"][0])
        self.assertEqual("number", ingress["type"][1][1]["from_port"])

    def test_what_the_package_does_not_have_is_left_out(self) -> None:
        self.assertNotIn("aws_no_such_resource", self.resources)


class UsedTypes(unittest.TestCase):
    def test_are_read_from_configurations_and_tests(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "main.tf").write_text('resource "aws_eip" "a" {}\ncheck "b" {\n  data "aws_ami" "c" {}\n}\n')
            self.assertEqual({"provider", "eip", "data-aws-ami"}, provider_schema.used_types([folder]))


class Answers(unittest.TestCase):
    def test_are_the_same_in_each_run_and_differ_between_resources(self) -> None:
        text = {"type": "string"}
        ids = [answers.chosen("aws_subnet", {"cidr_block": cidr}, "id", text) for cidr in ("10.0.0.0/24", "10.0.1.0/24")]
        self.assertNotEqual(*ids)
        self.assertEqual(ids[0], answers.chosen("aws_subnet", {"cidr_block": "10.0.0.0/24"}, "id", text))

    def test_architecture_follows_the_instance_type(self) -> None:
        for kind, expected in {"t4g.nano": "arm64", "g5g.xlarge": "arm64", "g5.xlarge": "x86_64", "c7i.large": "x86_64"}.items():
            self.assertEqual(expected, answers.architecture(kind), kind)

    def test_an_image_has_the_architecture_of_its_parameter(self) -> None:
        for word in ("arm64", "x86_64"):
            image = answers.parameter_of({"name": f"/images/{word}/id"})["value"]
            asked = {"filter": [{"name": "image-id", "values": [image]}]}
            self.assertEqual(word, answers.ami_of(asked)["architecture"])


class ModulesProvider(unittest.TestCase):
    def test_the_least_version_is_the_one_that_is_checked_here(self) -> None:
        checked = provider_schema.PROVIDER_VERSION.rsplit(".", 1)[0]
        for folder in (ROOT / "terraform", ROOT / "infra" / "image"):
            self.assertRegex((folder / "versions.tf").read_text(), rf'version\s*= ">= {re.escape(checked)}[".,]')


if __name__ == "__main__":
    unittest.main()
