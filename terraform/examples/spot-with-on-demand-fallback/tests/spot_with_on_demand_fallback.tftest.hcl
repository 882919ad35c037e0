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
  llama_cpp_archive = { uri = "s3://builds/llama-cuda.tar.gz", sha256 = "1111111111111111111111111111111111111111111111111111111111111111" }
}

override_data {
  target = module.paddock.data.aws_ec2_instance_type.agent["g6.xlarge"]
  values = { supported_architectures = ["x86_64"], default_vcpus = 4, gpus = [{ count = 1, manufacturer = "NVIDIA", memory_size = 16384, name = "GPU" }] }
}

override_data {
  target = module.paddock.data.aws_ec2_instance_type.agent["g5.xlarge"]
  values = { supported_architectures = ["x86_64"], default_vcpus = 4, gpus = [{ count = 1, manufacturer = "NVIDIA", memory_size = 16384, name = "GPU" }] }
}

override_data {
  target = module.paddock.data.aws_ec2_instance_type.agent["g4dn.xlarge"]
  values = { supported_architectures = ["x86_64"], default_vcpus = 4, gpus = [{ count = 1, manufacturer = "NVIDIA", memory_size = 16384, name = "GPU" }] }
}

override_data {
  target = module.paddock.data.aws_ami.agent["spot"]
  values = {
    architecture          = "x86_64"
    root_device_name      = "/dev/sda1"
    block_device_mappings = [{ device_name = "/dev/sda1", ebs = { volume_size = "75" }, no_device = "", virtual_name = "" }]
  }
}

override_data {
  target = module.paddock.data.aws_ami.agent["on-demand"]
  values = {
    architecture          = "x86_64"
    root_device_name      = "/dev/sda1"
    block_device_mappings = [{ device_name = "/dev/sda1", ebs = { volume_size = "75" }, no_device = "", virtual_name = "" }]
  }
}

run "spot_comes_first" {
  command = apply

  assert {
    condition     = output.group_names == ["paddock-spot", "paddock-on-demand"]
    error_message = "The order of the groups is the order of the tries."
  }
}
