# What an image is made of, how it is built, and what is refused.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  kind           = "gpu"
  paddock_uri    = "s3://some-bucket/paddock/x86_64/paddock"
  paddock_sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
}

run "gpu_builds_llama_cpp_from_the_pinned_commit" {
  command = plan

  assert {
    condition     = aws_imagebuilder_image_recipe.this.parent_image == "ssm:/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
    error_message = "The driver is AWS's own."
  }

  assert {
    condition = { for parameter in aws_imagebuilder_image_recipe.this.component[0].parameter : parameter.name => parameter.value } == {
      Tag = "b10375", Commit = "ba360efe1f574ebae727aad64112d18ecedca85a", Architectures = "75;86;89"
    }
    error_message = "llama.cpp comes first, by tag and commit, for T4, A10G and L4."
  }

  assert {
    condition = { for parameter in aws_imagebuilder_image_recipe.this.component[1].parameter : parameter.name => parameter.value } == {
      Uri = var.paddock_uri, Sha256 = var.paddock_sha256
    }
    error_message = "Then the program, checked by its SHA-256."
  }

  assert {
    condition     = toset(keys(aws_imagebuilder_component.this)) == toset(["llama-cuda", "paddock"])
    error_message = "There is nothing else in it."
  }

  assert {
    condition     = output.architecture == "x86_64" && aws_imagebuilder_infrastructure_configuration.this.instance_types == toset(["g4dn.2xlarge"])
    error_message = "It is built, and tested, where there is a GPU."
  }
}

run "cpu_takes_the_archive_for_arm64" {
  command = plan

  variables {
    kind = "cpu"
  }

  assert {
    condition     = aws_imagebuilder_image_recipe.this.parent_image == "ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id"
    error_message = "The base is Canonical's Ubuntu for arm64."
  }

  assert {
    condition = { for parameter in aws_imagebuilder_image_recipe.this.component[0].parameter : parameter.name => parameter.value } == {
      Tag    = "b10375"
      Commit = "ba360efe1f574ebae727aad64112d18ecedca85a"
      Sha256 = "36fb8a1d1836f575db78e56a875d040ddcd19694a60b67f4cce8bb6531d872ac"
    }
    error_message = "llama.cpp's archive is checked by its SHA-256."
  }

  assert {
    condition     = output.architecture == "arm64" && aws_imagebuilder_infrastructure_configuration.this.instance_types == toset(["c7g.large"])
    error_message = "The architecture follows the kind."
  }
}

run "nothing_is_open_or_unencrypted" {
  command = plan

  assert {
    condition     = aws_imagebuilder_infrastructure_configuration.this.instance_metadata_options[0].http_tokens == "required" && aws_imagebuilder_infrastructure_configuration.this.instance_metadata_options[0].http_put_response_hop_limit == 1
    error_message = "IMDSv2 is required of the machines that build."
  }

  assert {
    condition     = one([for mapping in aws_imagebuilder_image_recipe.this.block_device_mapping : "${mapping.device_name} ${mapping.ebs[0].encrypted} ${mapping.ebs[0].volume_type} ${mapping.ebs[0].volume_size}"]) == "/dev/sda1 true gp3 100"
    error_message = "The root volume is encrypted gp3."
  }

  assert {
    condition     = one([for distribution in aws_imagebuilder_distribution_configuration.this.distribution : "${distribution.region} ${length(distribution.ami_distribution_configuration[0].launch_permission)}"]) == "eu-central-1 0"
    error_message = "The images are this account's alone."
  }

  assert {
    condition     = aws_imagebuilder_infrastructure_configuration.this.key_pair == null && !aws_imagebuilder_image_recipe.this.systems_manager_agent[0].uninstall_after_build
    error_message = "Systems Manager instead of SSH, in the image too."
  }

  assert {
    condition     = aws_imagebuilder_infrastructure_configuration.this.terminate_instance_on_failure
    error_message = "A build that failed costs nothing further."
  }
}

run "builds_only_when_told_and_tests_what_it_built" {
  command = plan

  assert {
    condition     = length(aws_imagebuilder_image_pipeline.this.schedule) == 0
    error_message = "Nothing is built by itself."
  }

  assert {
    condition     = aws_imagebuilder_image_pipeline.this.image_tests_configuration[0].image_tests_enabled
    error_message = "An image that fails its tests is not handed out."
  }
}

run "a_schedule_builds_only_for_a_newer_base" {
  command = plan

  variables {
    schedule = "cron(0 3 ? * sun *)"
  }

  assert {
    condition     = aws_imagebuilder_image_pipeline.this.schedule[0].schedule_expression == "cron(0 3 ? * sun *)" && aws_imagebuilder_image_pipeline.this.schedule[0].pipeline_execution_start_condition == "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE"
    error_message = "A schedule looks, and builds if there is something new."
  }
}

run "old_images_expire_with_their_snapshots" {
  command = plan

  variables {
    keep_images = 2
  }

  assert {
    condition = one([for detail in aws_imagebuilder_lifecycle_policy.this.policy_detail :
      detail.action[0].type == "DELETE" && detail.action[0].include_resources[0].amis && detail.action[0].include_resources[0].snapshots && detail.filter[0].type == "COUNT" && detail.filter[0].value == 2
    ])
    error_message = "All but the newest are deleted, with what they cost."
  }

  assert {
    condition     = one([for detail in aws_imagebuilder_lifecycle_policy.this.policy_detail : detail.exclusion_rules[0].amis[0].last_launched[0].unit == "DAYS" && detail.exclusion_rules[0].amis[0].last_launched[0].value == 30])
    error_message = "What was launched lately stays."
  }

  assert {
    condition     = one([for recipe in aws_imagebuilder_lifecycle_policy.this.resource_selection[0].recipe : recipe.name == "paddock-gpu" && recipe.semantic_version == "x.x.x"])
    error_message = "Only images of this name and kind, whatever their version."
  }
}

run "another_program_is_another_version" {
  command = plan

  variables {
    paddock_sha256 = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
  }

  assert {
    condition     = aws_imagebuilder_image_recipe.this.version != run.gpu_builds_llama_cpp_from_the_pinned_commit.version
    error_message = "Image Builder never changes a version."
  }

  assert {
    condition     = can(regex("^1\\.0\\.[0-9]{1,9}$", aws_imagebuilder_image_recipe.this.version)) && alltrue([for component in aws_imagebuilder_component.this : can(regex("^1\\.0\\.[0-9]{1,9}$", component.version))])
    error_message = "A version is one that Image Builder takes."
  }
}

run "builds_in_the_network_that_is_named" {
  command = plan

  variables {
    network = { subnet_id = "subnet-0123456789abcdef0", security_group_ids = ["sg-0123456789abcdef0"] }
  }

  assert {
    condition     = aws_imagebuilder_infrastructure_configuration.this.subnet_id == "subnet-0123456789abcdef0" && aws_imagebuilder_infrastructure_configuration.this.security_group_ids == toset(["sg-0123456789abcdef0"])
    error_message = "The subnet and its groups are used."
  }
}

run "tells_how_to_start_and_to_find" {
  command = apply

  assert {
    condition     = startswith(output.start_build, "aws imagebuilder start-image-pipeline-execution --region eu-central-1 --image-pipeline-arn arn:")
    error_message = "The command line starts the pipeline."
  }

  assert {
    condition     = strcontains(output.newest_ami, "Name=tag:Name,Values=paddock-gpu") && output.ami_filter.tags == { app = "paddock", Name = "paddock-gpu" }
    error_message = "The images are found by their tags."
  }

  assert {
    condition     = one([for distribution in aws_imagebuilder_distribution_configuration.this.distribution : distribution.ami_distribution_configuration[0].ami_tags["Name"] == "paddock-gpu" && distribution.ami_distribution_configuration[0].ami_tags["app"] == "paddock" && strcontains(distribution.ami_distribution_configuration[0].name, "{{ imagebuilder:buildDate }}")])
    error_message = "The images have these tags."
  }
}

run "refuses_an_unknown_kind" {
  command         = plan
  expect_failures = [var.kind]

  variables {
    kind = "tpu"
  }
}

run "refuses_a_program_from_elsewhere" {
  command         = plan
  expect_failures = [var.paddock_uri, var.paddock_sha256]

  variables {
    paddock_uri    = "https://example.com/paddock"
    paddock_sha256 = "unknown"
  }
}

run "refuses_a_release_that_is_not_pinned" {
  command         = plan
  expect_failures = [var.llama_cpp]

  variables {
    llama_cpp = { tag = "master", commit = "ba360efe1", archive_sha256 = "" }
  }
}

run "refuses_to_build_a_gpu_image_without_a_gpu" {
  command         = plan
  expect_failures = [var.instance_types]

  variables {
    instance_types = ["c7i.2xlarge"]
  }
}

run "refuses_another_architecture_than_the_kinds" {
  command         = plan
  expect_failures = [var.instance_types]

  variables {
    kind           = "cpu"
    instance_types = ["c7i.large"]
  }
}

run "refuses_a_cron_expression_of_five_fields" {
  command         = plan
  expect_failures = [var.schedule]

  variables {
    schedule = "cron(0 3 * * *)"
  }
}

run "refuses_half_a_network" {
  command         = plan
  expect_failures = [var.network]

  variables {
    network = { subnet_id = "subnet-0123456789abcdef0", security_group_ids = [] }
  }
}

run "refuses_to_keep_no_image" {
  command         = plan
  expect_failures = [var.keep_images]

  variables {
    keep_images = 0
  }
}
