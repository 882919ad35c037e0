# What only AWS knows: types, images and zones that do not fit.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  paddock_binary = { arm64 = { file = "tests/fixtures/paddock" }, x86_64 = { file = "tests/fixtures/paddock" } }
  client_cidrs   = ["203.0.113.7/32"]
  groups         = [{ name = "cpu", instance_types = ["c7g.large"] }]
  model = {
    source  = "hf://someone/something/model.gguf"
    sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
    size_gb = 4.7
  }
}

run "two_architectures_in_one_group" {
  command = plan

  variables {
    groups = [{ name = "cpu", instance_types = ["c7g.large", "c7i.large"] }]
  }

  override_data {
    target = data.aws_ec2_instance_type.agent["c7i.large"]
    values = { supported_architectures = ["x86_64"], default_vcpus = 2, gpus = [] }
  }

  expect_failures = [aws_launch_template.agent["cpu"]]
}

run "an_image_of_another_architecture" {
  command = plan

  variables {
    groups = [{ name = "cpu", instance_types = ["c7g.large"], ami_id = "ami-0123456789abcdef0" }]
  }

  override_data {
    target = data.aws_ec2_instance_type.agent["c7g.large"]
    values = { supported_architectures = ["x86_64"], default_vcpus = 2, gpus = [] }
  }

  expect_failures = [aws_launch_template.agent["cpu"]]
}

run "no_program_for_a_groups_architecture" {
  command = plan

  variables {
    paddock_binary = { arm64 = { file = "tests/fixtures/paddock" } }
  }

  override_data {
    target = data.aws_ec2_instance_type.agent["c7g.large"]
    values = { supported_architectures = ["x86_64"], default_vcpus = 2, gpus = [] }
  }

  override_data {
    target = data.aws_ami.agent["cpu"]
    values = { architecture = "x86_64", root_device_name = "/dev/sda1", block_device_mappings = [] }
  }

  expect_failures = [aws_launch_template.agent["cpu"]]
}

run "gpus_without_a_llama_cpp_for_them" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type.agent["c7g.large"]
    values = { supported_architectures = ["arm64"], default_vcpus = 2, gpus = [{ count = 1, manufacturer = "NVIDIA", memory_size = 16384, name = "T4g" }] }
  }

  expect_failures = [aws_launch_template.agent["cpu"]]
}

run "llama_cpp_from_the_internet_in_private" {
  command = plan

  variables {
    private        = true
    public_address = "none"
    model          = { source = "s3://models/model.gguf", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", size_gb = 4.7 }
  }

  expect_failures = [aws_launch_template.agent["cpu"]]
}

run "types_that_no_zone_offers" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type_offerings.agent["cpu"]
    values = { locations = [] }
  }

  expect_failures = [aws_autoscaling_group.agent["cpu"]]
}

run "a_balancer_that_no_zone_offers" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type_offerings.agent["cpu"]
    values = { locations = [] }
  }

  override_data {
    target = data.aws_ec2_instance_type_offerings.balancer
    values = { locations = [] }
  }

  expect_failures = [aws_vpc.this[0]]
}
