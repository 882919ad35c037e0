mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  client_cidrs  = ["203.0.113.7/32"]
  paddock_files = { arm64 = "../../tests/fixtures/paddock", x86_64 = "../../tests/fixtures/paddock" }
  model = {
    source  = "hf://someone/something/model.gguf"
    sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
    size_gb = 4.7
  }
  arm64_ami_id  = "ami-0a640123456789abc"
  x86_64_ami_id = "ami-08640123456789abc"
}

override_data {
  target = module.paddock.data.aws_ec2_instance_type.agent["g5g.xlarge"]
  values = { supported_architectures = ["arm64"], default_vcpus = 4, gpus = [{ count = 1, manufacturer = "NVIDIA", memory_size = 16384, name = "GPU" }] }
}

override_data {
  target = module.paddock.data.aws_ec2_instance_type.agent["g6.xlarge"]
  values = { supported_architectures = ["x86_64"], default_vcpus = 4, gpus = [{ count = 1, manufacturer = "NVIDIA", memory_size = 16384, name = "GPU" }] }
}

override_data {
  target = module.paddock.data.aws_ami.agent["g5g"]
  values = {
    architecture          = "arm64"
    root_device_name      = "/dev/sda1"
    block_device_mappings = [{ device_name = "/dev/sda1", ebs = { volume_size = "40" }, no_device = "", virtual_name = "" }]
  }
}

override_data {
  target = module.paddock.data.aws_ami.agent["g6"]
  values = {
    architecture          = "x86_64"
    root_device_name      = "/dev/sda1"
    block_device_mappings = [{ device_name = "/dev/sda1", ebs = { volume_size = "40" }, no_device = "", virtual_name = "" }]
  }
}

run "the_cheaper_one_first" {
  command = apply

  assert {
    condition     = output.group_names == ["paddock-g5g", "paddock-g6"]
    error_message = "The order of the groups is the order of the tries."
  }
}
