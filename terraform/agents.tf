# The groups. Paddock changes nothing of a group but its desired capacity and one tag; docs/aws-groups.md has the reason of
# each setting.

locals {
  terminating_hook = "drain"
  launching_hook   = "launch"

  model_gib = ceil(var.model.size_gb * 1000000000 / pow(2, 30))
  model_mib = var.model.size_gb * 1000000000 / pow(2, 20)
  image_gib = { for name, image in data.aws_ami.agent : name => max(concat([8], [
    for device in image.block_device_mappings : tonumber(device.ebs["volume_size"]) if device.device_name == image.root_device_name
  ])...) }
  # The image, the model, and room for llama.cpp, logs and a download's rest.
  root_gib = { for name, group in local.groups : name => coalesce(group.root_volume_gib, local.image_gib[name] + local.model_gib + 6) }
  # gp3 without surcharge reads 125 MiB/s. Above that, what reads the model in 30 s, up to what an instance can use.
  throughput_mibps = { for name, group in local.groups : name => coalesce(group.throughput_mibps, min(1000, max(125, ceil(local.model_mib / 30)))) }
  # A gp3 volume has at most a quarter MiB/s for each IOPS.
  iops = { for name, throughput in local.throughput_mibps : name => max(3000, throughput * 4) }
}

module "agent_user_data" {
  source   = "./modules/user-data"
  for_each = local.groups

  role = "agent"
  settings = {
    BOOT_REGION          = local.region
    BOOT_BUCKET          = local.bucket
    BOOT_SETTINGS_KEY    = local.agent_settings_keys[each.key]
    BOOT_TOKEN_PARAMETER = local.token_parameter
    BOOT_LOG_GROUP       = local.log_group
    BOOT_KEEP_FAILED     = tostring(var.keep_failed_boot)
  }
}

resource "aws_launch_template" "agent" {
  for_each = local.groups

  name                   = local.asg_names[each.key]
  description            = "Agents of ${local.asg_names[each.key]}"
  image_id               = local.group_image[each.key]
  instance_type          = each.value.instance_types[0]
  user_data              = module.agent_user_data[each.key].base64
  update_default_version = true
  ebs_optimized          = true
  tags                   = merge(local.tags, { Name = local.asg_names[each.key] })

  iam_instance_profile {
    arn = aws_iam_instance_profile.agent.arn
  }

  network_interfaces {
    associate_public_ip_address = tostring(!var.private)
    security_groups             = [aws_security_group.agents.id]
    delete_on_termination       = "true"
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "enabled"
  }

  block_device_mappings {
    device_name = data.aws_ami.agent[each.key].root_device_name

    ebs {
      volume_type           = "gp3"
      volume_size           = local.root_gib[each.key]
      throughput            = local.throughput_mibps[each.key]
      iops                  = local.iops[each.key]
      encrypted             = "true"
      delete_on_termination = "true"
    }
  }

  # With several types, the group's policy says what is spot.
  dynamic "instance_market_options" {
    for_each = each.value.spot && length(each.value.instance_types) == 1 ? ["spot"] : []

    content {
      market_type = instance_market_options.value
    }
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume", "network-interface"]

    content {
      resource_type = tag_specifications.value
      tags          = merge(local.tags, { Name = local.asg_names[each.key] })
    }
  }

  lifecycle {
    precondition {
      condition     = length(local.group_archs[each.key]) == 1
      error_message = "groups: ${each.key} mixes architectures (${join(", ", local.group_archs[each.key])}); one image serves one of them, so make two groups."
    }

    precondition {
      condition     = data.aws_ami.agent[each.key].architecture == local.group_arch[each.key]
      error_message = "groups: the image of ${each.key} is for ${data.aws_ami.agent[each.key].architecture}, its instance types are ${local.group_arch[each.key]}; choose the image or the types anew."
    }

    precondition {
      condition     = contains(keys(var.paddock_binary), local.group_arch[each.key])
      error_message = "paddock_binary: ${each.key} needs the program for ${local.group_arch[each.key]}; build it, and name its file."
    }

    precondition {
      condition     = !local.group_has_gpu[each.key] || each.value.ami_id != null || each.value.llama_cpp != null
      error_message = "groups: ${each.key} has GPUs, and llama.cpp publishes no build for CUDA on Linux; name an image with llama-server (ami_id, infra/image makes one), or an archive (llama_cpp)."
    }

    precondition {
      condition     = !var.private || !var.vpc_endpoints || try(startswith(local.group_llama_cpp[each.key].uri, "s3://"), true)
      error_message = "groups: ${each.key} would fetch llama.cpp from the internet, which private = true cuts off; copy the archive to S3 and name it in llama_cpp, or use an image that has it."
    }
  }
}

resource "aws_autoscaling_group" "agent" {
  for_each = local.groups

  name                      = local.asg_names[each.key]
  min_size                  = 0
  max_size                  = each.value.max_size
  desired_capacity          = 0
  desired_capacity_type     = "units"
  vpc_zone_identifier       = local.group_subnets[each.key]
  protect_from_scale_in     = local.scales
  suspended_processes       = ["AZRebalance"]
  capacity_rebalance        = false
  health_check_type         = "EC2"
  wait_for_capacity_timeout = "0"
  enabled_metrics           = ["GroupInServiceInstances"]
  metrics_granularity       = "1Minute"

  # Instances that are protected, and hooks, would hold the end of everything up.
  force_delete           = true
  force_delete_warm_pool = true

  dynamic "launch_template" {
    for_each = length(each.value.instance_types) == 1 ? [aws_launch_template.agent[each.key]] : []

    content {
      id      = launch_template.value.id
      version = tostring(launch_template.value.latest_version)
    }
  }

  dynamic "mixed_instances_policy" {
    for_each = length(each.value.instance_types) > 1 ? [aws_launch_template.agent[each.key]] : []

    content {
      instances_distribution {
        on_demand_base_capacity                  = 0
        on_demand_percentage_above_base_capacity = each.value.spot ? 0 : 100
        on_demand_allocation_strategy            = "prioritized"
        spot_allocation_strategy                 = "price-capacity-optimized"
      }

      launch_template {
        launch_template_specification {
          launch_template_id = mixed_instances_policy.value.id
          version            = tostring(mixed_instances_policy.value.latest_version)
        }

        dynamic "override" {
          for_each = each.value.instance_types

          content {
            instance_type = override.value
          }
        }
      }
    }
  }

  dynamic "warm_pool" {
    for_each = each.value.warm_pool[*]

    content {
      pool_state                  = warm_pool.value.state
      min_size                    = warm_pool.value.min_size
      max_group_prepared_capacity = warm_pool.value.max_group_prepared_capacity
    }
  }

  # The pool's first instances start with the group, before a hook of its own resource would exist.
  dynamic "initial_lifecycle_hook" {
    for_each = each.value.warm_pool[*]

    content {
      name                 = local.launching_hook
      lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
      heartbeat_timeout    = var.boot_timeout_minutes * 60
      default_result       = "CONTINUE"
    }
  }

  dynamic "tag" {
    for_each = merge(local.tags, { Name = local.asg_names[each.key] })

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  lifecycle {
    # The balancer writes the first two: the wish, and its claim, which is a tag. Read back, the claim would be a difference at
    # each plan. The hook cannot be changed without another group, which would cut running answers; aws_autoscaling_lifecycle_hook
    # carries what changes later.
    ignore_changes = [desired_capacity, tag, initial_lifecycle_hook]

    precondition {
      condition     = length(local.group_subnets[each.key]) > 0
      error_message = "groups: no zone of the subnets offers an instance type of ${each.key}; add a subnet in another zone, or choose another type."
    }

    precondition {
      condition     = !local.runs_warm[each.key] || local.group_prices[each.key] != null
      error_message = "groups: the warm pool of ${each.key} is Running and costs like instances that serve, at a price that is not known: give the group a price_per_hour, or leave the pool Stopped."
    }
  }

  # Made after the balancer and ended before it, so that no instance is ever without one.
  depends_on = [
    aws_instance.balancer,
    aws_iam_role_policy.agent,
    aws_iam_service_linked_role.spot,
    aws_s3_object.agent_settings,
    aws_s3_object.agent_boot,
    aws_vpc_security_group_ingress_rule.inside,
    aws_vpc_security_group_egress_rule.inside,
    aws_vpc_security_group_egress_rule.https,
  ]
}

# Gives running answers time when AWS ends an instance by itself. The balancer completes it; in "metrics-only" nobody would,
# and each end would be paid for 5 minutes longer.
resource "aws_autoscaling_lifecycle_hook" "drain" {
  for_each = local.scales ? local.groups : {}

  name                   = local.terminating_hook
  autoscaling_group_name = aws_autoscaling_group.agent[each.key].name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = 300
  default_result         = "CONTINUE"
}

# Holds an instance of the warm pool until the agent says that it is ready. One that never does is stopped all the same: an
# ABANDON would launch the next, and pay for a boot that fails again and again.
resource "aws_autoscaling_lifecycle_hook" "launch" {
  for_each = { for name, group in local.groups : name => group if group.warm_pool != null }

  name                   = local.launching_hook
  autoscaling_group_name = aws_autoscaling_group.agent[each.key].name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_LAUNCHING"
  heartbeat_timeout      = var.boot_timeout_minutes * 60
  default_result         = "CONTINUE"
}

# Once in an account: whoever launched a spot instance by hand has it already.
resource "aws_iam_service_linked_role" "spot" {
  count = var.create_spot_service_linked_role ? 1 : 0

  aws_service_name = "spot.amazonaws.com"
  description      = "Lets EC2 launch spot instances"
}
