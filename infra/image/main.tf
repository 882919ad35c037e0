data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  name    = "${var.name}-${var.kind}"
  region  = data.aws_region.current.region
  account = data.aws_caller_identity.current.account_id
  arn     = "arn:${data.aws_partition.current.partition}"
  tags    = merge(var.tags, { app = "paddock" })

  # The public parameters are read by Image Builder at each build, so each starts from the newest base image.
  by_kind = {
    gpu = {
      parent         = "ssm:/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
      instance_types = ["g4dn.2xlarge"]
      volume_gib     = 100
    }
    cpu = {
      parent         = "ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id"
      instance_types = ["c7g.large"]
      volume_gib     = 16
    }
  }
  base = local.by_kind[var.kind]

  # In the order in which they build.
  components = {
    gpu = [
      {
        file = "llama-cuda"
        parameters = {
          Tag           = var.llama_cpp.tag
          Commit        = var.llama_cpp.commit
          Architectures = join(";", var.cuda_architectures)
        }
      },
      local.paddock_component,
    ]
    cpu = [
      {
        file = "llama-archive"
        parameters = {
          Tag    = var.llama_cpp.tag
          Commit = var.llama_cpp.commit
          Sha256 = var.llama_cpp.archive_sha256
        }
      },
      local.paddock_component,
    ]
  }[var.kind]
  paddock_component = {
    file       = "paddock"
    parameters = { Uri = var.paddock_uri, Sha256 = var.paddock_sha256 }
  }

  documents = { for component in local.components : component.file => file("${path.module}/components/${component.file}.yaml") }

  # Image Builder never changes a version, so the version is made of the content: seven hexadecimal digits fit into a
  # node, whose limit is 2^30 - 1.
  component_versions = { for name, document in local.documents : name => "1.0.${parseint(substr(sha256(document), 0, 7), 16)}" }
  recipe_version     = "1.0.${parseint(substr(sha256(jsonencode([local.components, local.documents, local.base, local.volume_gib, var.kms_key_arn])), 0, 7), 16)}"

  instance_types = coalesce(var.instance_types, local.base.instance_types)
  volume_gib     = coalesce(var.volume_gib, local.base.volume_gib)
}

resource "aws_imagebuilder_component" "this" {
  for_each = local.documents

  name     = "${local.name}-${each.key}"
  platform = "Linux"
  version  = local.component_versions[each.key]
  data     = each.value
  tags     = local.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_imagebuilder_image_recipe" "this" {
  name         = local.name
  version      = local.recipe_version
  parent_image = local.base.parent
  tags         = local.tags

  dynamic "component" {
    for_each = local.components

    content {
      component_arn = aws_imagebuilder_component.this[component.value.file].arn

      dynamic "parameter" {
        for_each = component.value.parameters

        content {
          name  = parameter.key
          value = parameter.value
        }
      }
    }
  }

  block_device_mapping {
    device_name = "/dev/sda1"

    ebs {
      encrypted             = true
      kms_key_id            = var.kms_key_arn
      delete_on_termination = true
      volume_type           = "gp3"
      volume_size           = local.volume_gib
    }
  }

  # The agents are reached by Systems Manager alone, so it stays.
  systems_manager_agent {
    uninstall_after_build = false
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_imagebuilder_infrastructure_configuration" "this" {
  name                          = local.name
  instance_profile_name         = aws_iam_instance_profile.build.name
  instance_types                = local.instance_types
  subnet_id                     = try(var.network.subnet_id, null)
  security_group_ids            = try(var.network.security_group_ids, null)
  terminate_instance_on_failure = true
  resource_tags                 = local.tags
  tags                          = local.tags

  instance_metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}

resource "aws_imagebuilder_distribution_configuration" "this" {
  name = local.name
  tags = local.tags

  distribution {
    region = local.region

    # Shared with nobody.
    ami_distribution_configuration {
      name        = "${local.name}-{{ imagebuilder:buildDate }}"
      description = "Paddock and llama.cpp ${var.llama_cpp.tag} (${var.kind})"
      kms_key_id  = var.kms_key_arn
      ami_tags    = merge(local.tags, { Name = local.name, llama_cpp = var.llama_cpp.tag })
    }
  }
}

resource "aws_imagebuilder_image_pipeline" "this" {
  name                             = local.name
  description                      = "Images of Paddock's agents (${var.kind})"
  image_recipe_arn                 = aws_imagebuilder_image_recipe.this.arn
  infrastructure_configuration_arn = aws_imagebuilder_infrastructure_configuration.this.arn
  distribution_configuration_arn   = aws_imagebuilder_distribution_configuration.this.arn
  tags                             = local.tags

  # It would need rights to write into the account's inventory.
  enhanced_image_metadata_enabled = false

  image_tests_configuration {
    image_tests_enabled = true
    timeout_minutes     = 60
  }

  dynamic "schedule" {
    for_each = var.schedule == null ? [] : [var.schedule]

    content {
      schedule_expression                = schedule.value
      pipeline_execution_start_condition = "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE"
    }
  }

  lifecycle {
    replace_triggered_by = [aws_imagebuilder_image_recipe.this]
  }

  depends_on = [aws_iam_role_policy.build, aws_iam_role_policy_attachment.commanded, aws_cloudwatch_log_group.build]
}

# Image Builder would make it by itself, and keep it for ever.
resource "aws_cloudwatch_log_group" "build" {
  name              = "/aws/imagebuilder/${local.name}"
  retention_in_days = var.log_retention_days
  tags              = local.tags
}

resource "aws_imagebuilder_lifecycle_policy" "this" {
  name           = local.name
  description    = "Keeps the newest images of ${local.name}"
  execution_role = aws_iam_role.expire.arn
  resource_type  = "AMI_IMAGE"
  tags           = local.tags

  policy_detail {
    action {
      type = "DELETE"

      include_resources {
        amis      = true
        snapshots = true
      }
    }

    filter {
      type  = "COUNT"
      value = var.keep_images
    }

    exclusion_rules {
      amis {
        last_launched {
          unit  = "DAYS"
          value = 30
        }
      }
    }
  }

  resource_selection {
    recipe {
      name             = local.name
      semantic_version = "x.x.x"
    }
  }

  depends_on = [aws_iam_role_policy.expire]
}
