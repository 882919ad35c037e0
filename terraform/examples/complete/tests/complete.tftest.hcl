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
  api_keys          = ["alice sha256:1a36d78d6a0a331c09eea85ff57df837adb9468f44e8f25fe5bfede08e67456a"]
  kms_key_arn       = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"
  alarm_topic_arn   = "arn:aws:sns:eu-central-1:111122223333:operators"
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

run "everything_at_once" {
  command = apply

  variables {
    client_cidrs = ["0.0.0.0/0", "::/0"]
  }

  assert {
    condition     = startswith(output.endpoint, "https://") && endswith(output.endpoint, ":443")
    error_message = "The internet speaks TLS."
  }

  assert {
    condition     = output.group_names == ["llm-spot", "llm-on-demand"]
    error_message = "Spot is tried first."
  }

  # 75 GiB of image, 5 of model, 6 to spare at 0.08; 150 MiB/s, of which 25 at 0.04.
  assert {
    condition     = abs(output.monthly_floor.items.warm_pool - (86 * 0.08 + 25 * 0.04)) < 0.01 && output.monthly_floor.items.dashboard == 3
    error_message = "What was asked for is priced: one warm instance's volume, and the dashboard."
  }
}
