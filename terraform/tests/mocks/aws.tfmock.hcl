# What AWS would say: inputs of the tests, never what they assert.

mock_data "aws_region" {
  defaults = { region = "eu-central-1" }
}

mock_data "aws_caller_identity" {
  defaults = { account_id = "111122223333" }
}

mock_data "aws_partition" {
  defaults = { partition = "aws" }
}

mock_data "aws_availability_zones" {
  defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
}

mock_data "aws_ec2_instance_type_offerings" {
  defaults = { locations = ["eu-central-1a", "eu-central-1b"] }
}

mock_data "aws_ec2_instance_type" {
  defaults = {
    supported_architectures = ["arm64"]
    default_vcpus           = 2
    gpus                    = []
  }
}

mock_data "aws_ssm_parameter" {
  defaults = { insecure_value = "ami-0a0a0a0a0a0a0a0a0" }
}

mock_data "aws_ami" {
  defaults = {
    architecture          = "arm64"
    root_device_name      = "/dev/sda1"
    block_device_mappings = [{ device_name = "/dev/sda1", ebs = { volume_size = "8" }, no_device = "", virtual_name = "" }]
  }
}

mock_data "aws_servicequotas_service_quota" {
  defaults = { value = 64 }
}

mock_data "aws_subnet" {
  defaults = { availability_zone = "eu-central-1a" }
}

mock_resource "aws_vpc" {
  defaults = { ipv6_cidr_block = "2001:db8:85::/56" }
}

mock_resource "aws_network_interface" {
  defaults = { ipv6_addresses = ["2001:db8:85::10"] }
}
