# What the groups become: order, types, spot, volumes, images, warm pools.

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

run "two_groups_are_tried_in_order" {
  command = plan

  variables {
    groups = [
      { name = "spot", instance_types = ["c7g.large", "c8g.large"], spot = true, max_size = 2 },
      { name = "on-demand", instance_types = ["c7g.large"], max_size = 3 },
    ]
  }

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_ASG_NAME=paddock-spot,paddock-on-demand\n")
    error_message = "The first in the list is tried first."
  }

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_MAX_INSTANCES=3\n")
    error_message = "As many instances as the largest group may have."
  }

  assert {
    condition = (
      one(one(aws_autoscaling_group.agent["spot"].mixed_instances_policy).instances_distribution).on_demand_percentage_above_base_capacity == 0
      && one(one(aws_autoscaling_group.agent["spot"].mixed_instances_policy).instances_distribution).on_demand_base_capacity == 0
    )
    error_message = "A spot group of several types is all spot."
  }

  assert {
    condition     = one(one(aws_autoscaling_group.agent["spot"].mixed_instances_policy).launch_template).override[*].instance_type == tolist(["c7g.large", "c8g.large"])
    error_message = "The group chooses among the types that were named."
  }

  assert {
    condition     = length(aws_launch_template.agent["spot"].instance_market_options) == 0
    error_message = "With several types the group's policy says what is spot; a template that says so too is refused by AWS."
  }

  assert {
    condition     = length(aws_launch_template.agent["on-demand"].instance_market_options) == 0 && length(aws_autoscaling_group.agent["on-demand"].mixed_instances_policy) == 0
    error_message = "The fallback is on demand."
  }

  assert {
    condition     = aws_autoscaling_policy.wake.autoscaling_group_name == "paddock-spot"
    error_message = "The alarm wakes the first group."
  }

  assert {
    condition     = alltrue([for group in aws_autoscaling_group.agent : group.protect_from_scale_in && group.min_size == 0])
    error_message = "Every group is protected, and returns to 0."
  }
}

run "volumes_fit_the_model" {
  command = plan

  variables {
    model = {
      source  = "s3://models/large.gguf"
      sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
      size_gb = 20
    }
  }

  # 8 GiB of image, 19 of model, 6 to spare; 20 GB in 30 s are 636 MiB/s.
  assert {
    condition     = aws_launch_template.agent["cpu"].block_device_mappings[0].ebs[0].volume_size == 33
    error_message = "The volume holds the image, the model, and room to spare."
  }

  assert {
    condition     = aws_launch_template.agent["cpu"].block_device_mappings[0].ebs[0].throughput == 636 && aws_launch_template.agent["cpu"].block_device_mappings[0].ebs[0].iops == 3000
    error_message = "It reads the model within half a minute."
  }
}

run "a_small_model_takes_the_volume_without_surcharge" {
  command = plan

  variables {
    model = {
      source  = "s3://models/small.gguf"
      sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
      size_gb = 0.5
    }
  }

  assert {
    condition     = aws_launch_template.agent["cpu"].block_device_mappings[0].ebs[0].throughput == 125 && aws_launch_template.agent["cpu"].block_device_mappings[0].ebs[0].iops == 3000
    error_message = "125 MiB/s and 3000 IOPS cost nothing more."
  }
}

run "a_huge_model_is_read_as_fast_as_it_can_be" {
  command = plan

  variables {
    model = {
      source  = "s3://models/huge.gguf"
      sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
      size_gb = 70
    }
  }

  assert {
    condition     = aws_launch_template.agent["cpu"].block_device_mappings[0].ebs[0].throughput == 1000 && aws_launch_template.agent["cpu"].block_device_mappings[0].ebs[0].iops == 4000
    error_message = "At most 1000 MiB/s, with the IOPS that they need."
  }
}

run "cpu_groups_fetch_the_release_of_llama_cpp_for_their_architecture" {
  command = plan

  assert {
    condition     = can(regex("(?m)^FETCH_LLAMA_URI=https://github.com/ggml-org/llama.cpp/releases/download/b[0-9]+/llama-b[0-9]+-bin-ubuntu-arm64.tar.gz$", aws_s3_object.agent_settings["cpu"].content))
    error_message = "An arm64 group fetches the arm64 release."
  }

  assert {
    condition     = can(regex("(?m)^FETCH_LLAMA_SHA256=[0-9a-f]{64}$", aws_s3_object.agent_settings["cpu"].content))
    error_message = "What is fetched is verified."
  }

  assert {
    condition     = strcontains(aws_s3_object.agent_settings["cpu"].content, "/paddock-arm64\n")
    error_message = "An arm64 group fetches the arm64 program."
  }

  assert {
    condition     = strcontains(aws_s3_object.agent_settings["cpu"].content, "PADDOCK_ORPHAN_TIMEOUT=15m\n")
    error_message = "An instance that no balancer hears ends itself."
  }
}

run "a_gpu_group_boots_the_image_with_the_driver" {
  command = plan

  variables {
    groups = [{
      name           = "gpu"
      instance_types = ["g6.xlarge"]
      llama_cpp      = { uri = "s3://builds/llama-cuda.tar.gz", sha256 = "1111111111111111111111111111111111111111111111111111111111111111" }
      llama_args     = "--parallel 4 --ctx-size 32768"
    }]
  }

  override_data {
    target = data.aws_ec2_instance_type.agent["g6.xlarge"]
    values = { supported_architectures = ["x86_64"], default_vcpus = 4, gpus = [{ count = 1, manufacturer = "NVIDIA", memory_size = 22888, name = "L4" }] }
  }

  override_data {
    target = data.aws_ami.agent["gpu"]
    values = {
      architecture          = "x86_64"
      root_device_name      = "/dev/sda1"
      block_device_mappings = [{ device_name = "/dev/sda1", ebs = { volume_size = "75" }, no_device = "", virtual_name = "" }]
    }
  }

  assert {
    condition     = data.aws_ssm_parameter.agent_image["gpu"].name == "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
    error_message = "The image is AWS's with the driver, for the types' architecture."
  }

  assert {
    condition     = aws_launch_template.agent["gpu"].block_device_mappings[0].ebs[0].volume_size == 75 + 5 + 6
    error_message = "The volume is not smaller than the image."
  }

  assert {
    condition     = strcontains(aws_s3_object.agent_settings["gpu"].content, "FETCH_LLAMA_URI=s3://builds/llama-cuda.tar.gz\n") && strcontains(aws_s3_object.agent_settings["gpu"].content, "LLAMA_ARGS=--parallel 4 --ctx-size 32768\n")
    error_message = "llama.cpp comes from the archive that was named, with the arguments that were given."
  }

  assert {
    condition     = strcontains(aws_iam_role_policy.agent.policy, "arn:aws:s3:::builds/llama-cuda.tar.gz")
    error_message = "The agents may read the archive."
  }

  assert {
    condition     = strcontains(aws_s3_object.agent_settings["gpu"].content, "/paddock-x86_64\n")
    error_message = "An x86_64 group fetches the x86_64 program."
  }
}

run "an_image_of_ones_own_brings_llama_cpp_along" {
  command = plan

  variables {
    groups = [{ name = "own", instance_types = ["c7g.large"], ami_id = "ami-0123456789abcdef0" }]
  }

  assert {
    condition     = aws_launch_template.agent["own"].image_id == "ami-0123456789abcdef0" && !strcontains(aws_s3_object.agent_settings["own"].content, "FETCH_LLAMA")
    error_message = "With an image of one's own nothing is fetched but program and model."
  }
}

run "a_warm_pool_is_bounded_and_held_by_a_hook" {
  command = plan

  variables {
    groups = [{ name = "warm", instance_types = ["c7g.large"], max_size = 3, warm_pool = {} }]
  }

  assert {
    condition     = one(aws_autoscaling_group.agent["warm"].warm_pool).max_group_prepared_capacity == 1 && one(aws_autoscaling_group.agent["warm"].warm_pool).pool_state == "Stopped"
    error_message = "Without a bound the pool would be as large as the group may become."
  }

  assert {
    condition = (
      aws_autoscaling_lifecycle_hook.launch["warm"].lifecycle_transition == "autoscaling:EC2_INSTANCE_LAUNCHING"
      && aws_autoscaling_lifecycle_hook.launch["warm"].heartbeat_timeout == 600
      && one(aws_autoscaling_group.agent["warm"].initial_lifecycle_hook).name == aws_autoscaling_lifecycle_hook.launch["warm"].name
    )
    error_message = "The hook keeps the first boot from being stopped half way."
  }

  assert {
    condition     = aws_autoscaling_lifecycle_hook.launch["warm"].default_result == "CONTINUE" && one(aws_autoscaling_group.agent["warm"].initial_lifecycle_hook).default_result == "CONTINUE"
    error_message = "A boot that fails is not repeated for ever at your cost."
  }

  assert {
    condition     = strcontains(aws_s3_object.agent_settings["warm"].content, "PADDOCK_LAUNCHING_HOOK=${aws_autoscaling_lifecycle_hook.launch["warm"].name}\n")
    error_message = "The agent knows the hook that it completes."
  }
}

run "without_a_warm_pool_no_hook_holds_a_launch" {
  command = plan

  assert {
    condition     = length(aws_autoscaling_lifecycle_hook.launch) == 0 && !strcontains(aws_s3_object.agent_settings["cpu"].content, "PADDOCK_LAUNCHING_HOOK")
    error_message = "A hook that nobody needs delays each launch."
  }
}

run "a_release_is_a_new_object" {
  command = plan

  assert {
    condition     = aws_s3_object.paddock["arm64"].key == "paddock/${filesha256("tests/fixtures/paddock")}/paddock-arm64"
    error_message = "The program's key changes with its bytes."
  }

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "FETCH_PADDOCK_SHA256=${filesha256("tests/fixtures/paddock")}\n")
    error_message = "A changed program changes the settings."
  }
}

run "a_program_in_s3_is_copied" {
  command = plan

  variables {
    paddock_binary = { arm64 = { s3_uri = "s3://releases/paddock-arm64", sha256 = "2222222222222222222222222222222222222222222222222222222222222222" } }
  }

  assert {
    condition     = aws_s3_object_copy.paddock["arm64"].source == "releases/paddock-arm64" && aws_s3_object_copy.paddock["arm64"].key == "paddock/2222222222222222222222222222222222222222222222222222222222222222/paddock-arm64"
    error_message = "The program is copied into the module's bucket."
  }
}

run "user_data_is_the_same_for_every_release" {
  command = plan

  assert {
    condition     = !strcontains(module.balancer_user_data.text, filesha256("tests/fixtures/paddock")) && !strcontains(module.agent_user_data["cpu"].text, "model.gguf")
    error_message = "What changes is in the settings object."
  }

  assert {
    condition     = strcontains(module.agent_user_data["cpu"].text, "BOOT_SETTINGS_KEY=${aws_s3_object.agent_settings["cpu"].key}") && strcontains(module.balancer_user_data.text, "BOOT_SETTINGS_KEY=${aws_s3_object.balancer_settings.key}")
    error_message = "Each instance is told which settings object is its own."
  }

  assert {
    condition     = aws_s3_object.balancer_boot.key == "balancer/settings.env.boot.json" && aws_s3_object.agent_boot["cpu"].key == "agent/cpu/settings.env.boot.json"
    error_message = "The scripts that user data has no room for lie where the role may read, beside its settings."
  }

  assert {
    condition     = length(jsondecode(aws_s3_object.balancer_boot.content)) > 0
    error_message = "The scripts are there."
  }
}
