# What stands when one says no more than one must: nothing runs, and nothing costs but the balancer.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  paddock_binary = { arm64 = { file = "tests/fixtures/paddock" } }
  client_cidrs   = ["203.0.113.7/32"]
  groups         = [{ name = "cpu", instance_types = ["c7g.large"], spot = true }]
  model = {
    source  = "hf://someone/something/model.gguf"
    sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
    size_gb = 4.7
  }
}

run "nothing_runs_until_somebody_calls" {
  command = plan

  assert {
    condition     = data.aws_ssm_parameter.agent_image["cpu"].name == "/aws/service/deeplearning/ami/arm64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
    error_message = "The image follows the types' architecture, and has the libraries that llama.cpp's own builds need."
  }

  assert {
    condition     = aws_autoscaling_group.agent["cpu"].min_size == 0 && aws_autoscaling_group.agent["cpu"].desired_capacity == 0
    error_message = "A group begins with, and returns to, 0 instances."
  }

  assert {
    condition     = aws_autoscaling_group.agent["cpu"].max_size == 1
    error_message = "One instance at most, unless more are asked for."
  }

  assert {
    condition     = length(aws_autoscaling_group.agent["cpu"].warm_pool) == 0
    error_message = "A warm pool costs, so there is none unless it is asked for."
  }
}

run "aws_ends_no_instance_that_serves" {
  command = plan

  assert {
    condition     = aws_autoscaling_group.agent["cpu"].protect_from_scale_in
    error_message = "New instances are protected from scale-in."
  }

  assert {
    condition     = contains(aws_autoscaling_group.agent["cpu"].suspended_processes, "AZRebalance")
    error_message = "AZRebalance is suspended: it ends instances to balance zones."
  }

  assert {
    condition     = aws_autoscaling_group.agent["cpu"].capacity_rebalance == false
    error_message = "Capacity rebalancing replaces instances on a mere recommendation."
  }

  assert {
    condition     = length(aws_autoscaling_group.agent["cpu"].instance_refresh) == 0
    error_message = "An instance refresh ends instances that serve."
  }

  assert {
    condition     = aws_autoscaling_group.agent["cpu"].max_instance_lifetime == null
    error_message = "A maximum lifetime ends instances that serve."
  }

  assert {
    condition     = aws_autoscaling_lifecycle_hook.drain["cpu"].lifecycle_transition == "autoscaling:EC2_INSTANCE_TERMINATING"
    error_message = "The hook holds the end of an instance."
  }

  assert {
    condition     = aws_autoscaling_lifecycle_hook.drain["cpu"].heartbeat_timeout == 300 && aws_autoscaling_lifecycle_hook.drain["cpu"].default_result == "CONTINUE"
    error_message = "The hook lasts 300 s, and lets go when nobody answers."
  }

  assert {
    condition     = aws_autoscaling_group.agent["cpu"].force_delete
    error_message = "Without force_delete, protection and hook hold a destroy up."
  }
}

# Neither shows in a plan, so they are read in the file.
run "groups_come_after_and_go_before_the_balancer" {
  command = plan

  assert {
    condition     = can(regex("resource \"aws_autoscaling_group\" \"agent\" \\{(?:\n(?:[^}\n].*)?)*ignore_changes = \\[desired_capacity, tag, initial_lifecycle_hook\\]", file("${path.module}/agents.tf")))
    error_message = "The balancer writes the desired capacity; Terraform must not take it back, and a hook of the group's own must not replace the group."
  }

  assert {
    condition     = can(regex("resource \"aws_autoscaling_group\" \"agent\" \\{(?:\n(?:[^}\n].*)?)*depends_on = \\[\n    aws_instance\\.balancer,", file("${path.module}/agents.tf")))
    error_message = "Instances without a balancer would end themselves only after --orphan-timeout."
  }

  assert {
    condition     = can(regex("resource \"aws_instance\" \"balancer\" \\{(?:\n(?:[^}\n].*)?)*ignore_changes = \\[ami, user_data, user_data_base64\\]", file("${path.module}/balancer.tf")))
    error_message = "A newer image or script does not replace the balancer."
  }
}

run "no_nat_and_no_interface_endpoint" {
  command = plan

  assert {
    condition     = length(aws_vpc_endpoint.interface) == 0
    error_message = "Interface endpoints cost, so there are none unless private asks for them."
  }

  assert {
    condition     = aws_vpc_endpoint.s3[0].vpc_endpoint_type == "Gateway"
    error_message = "S3 has a gateway endpoint, which is free."
  }

  assert {
    condition     = aws_route.internet[0].destination_cidr_block == "0.0.0.0/0" && length(aws_route.internet) == 1
    error_message = "One way to the internet: the gateway's."
  }

  # The resources of the module by type: a NAT gateway or a load balancer would have to be added to its files.
  assert {
    condition = !anytrue([for file in fileset(path.module, "**/*.tf") : can(regex(
      "resource \"aws_(nat_gateway|lb|alb|elb)\"", file("${path.module}/${file}")
    ))])
    error_message = "Neither a NAT gateway nor a load balancer: each costs several times what the balancer does."
  }
}

run "metadata_only_with_a_session" {
  command = plan

  assert {
    condition     = aws_instance.balancer.metadata_options[0].http_tokens == "required" && aws_instance.balancer.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "The balancer's metadata needs IMDSv2, and goes no further than the instance."
  }

  assert {
    condition     = aws_launch_template.agent["cpu"].metadata_options[0].http_tokens == "required" && aws_launch_template.agent["cpu"].metadata_options[0].http_put_response_hop_limit == 1
    error_message = "The agents' metadata needs IMDSv2, and goes no further than the instance."
  }

  assert {
    condition     = aws_launch_template.agent["cpu"].metadata_options[0].instance_metadata_tags == "enabled"
    error_message = "The agent reads its group's name from the metadata."
  }
}

run "volumes_are_encrypted" {
  command = plan

  assert {
    condition     = aws_instance.balancer.root_block_device[0].encrypted && aws_instance.balancer.root_block_device[0].volume_type == "gp3"
    error_message = "The balancer's volume is an encrypted gp3."
  }

  assert {
    condition     = aws_launch_template.agent["cpu"].block_device_mappings[0].ebs[0].encrypted == "true" && aws_launch_template.agent["cpu"].block_device_mappings[0].ebs[0].volume_type == "gp3"
    error_message = "The agents' volumes are encrypted gp3."
  }
}

run "the_balancer_is_small_and_stays" {
  command = plan

  assert {
    condition     = aws_instance.balancer.instance_type == "t4g.nano"
    error_message = "The balancer is a t4g.nano."
  }

  assert {
    condition     = aws_instance.balancer.user_data_replace_on_change == false
    error_message = "New scripts do not replace the balancer."
  }

  assert {
    condition     = aws_instance.balancer.maintenance_options[0].auto_recovery == "default"
    error_message = "AWS moves the balancer off failing hardware."
  }

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_MAX_BUFFERED_BYTES=96MiB\n") && strcontains(aws_s3_object.balancer_settings.content, "MEMORY_MAX=400M\n")
    error_message = "What waits must fit into 512 MiB."
  }
}

run "agents_have_public_addresses_only_while_they_run" {
  command = plan

  assert {
    condition     = aws_launch_template.agent["cpu"].network_interfaces[0].associate_public_ip_address == "true"
    error_message = "In a public subnet agents fetch the model by an address of their own."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.this : !subnet.map_public_ip_on_launch])
    error_message = "Nothing else that is put into the subnets gets a public address."
  }
}

run "spot_is_what_was_asked_for" {
  command = plan

  assert {
    condition     = aws_launch_template.agent["cpu"].instance_market_options[0].market_type == "spot"
    error_message = "A spot group of one type says so in its template."
  }
}

run "an_alarm_stands_by" {
  command = plan

  assert {
    condition     = aws_cloudwatch_metric_alarm.wake.metric_name == "wake_wanted" && aws_cloudwatch_metric_alarm.wake.period == 10 && aws_cloudwatch_metric_alarm.wake.evaluation_periods == 1
    error_message = "The wake alarm looks every 10 s."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.wake.statistic == "Maximum" && aws_cloudwatch_metric_alarm.wake.comparison_operator == "GreaterThanThreshold" && aws_cloudwatch_metric_alarm.wake.threshold == 0
    error_message = "One request that waits is enough."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.wake.treat_missing_data == "notBreaching"
    error_message = "Silence wakes nothing."
  }

  assert {
    condition     = aws_autoscaling_policy.wake.adjustment_type == "ExactCapacity" && one(aws_autoscaling_policy.wake.step_adjustment).scaling_adjustment == 1
    error_message = "The alarm sets the first group to exactly 1."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.silent_balancer.treat_missing_data == "breaching" && aws_cloudwatch_metric_alarm.silent_balancer.statistic == "SampleCount"
    error_message = "A balancer that publishes nothing raises the alarm."
  }

  assert {
    condition     = length(aws_autoscaling_policy.rest) == 0 && length(aws_cloudwatch_metric_alarm.rest) == 0
    error_message = "No alarm ends instances where the balancer does."
  }
}

# One source for what the balancer publishes and what is alarmed on.
run "alarms_have_the_dimensions_that_are_published" {
  command = plan

  assert {
    condition = alltrue([for alarm in [aws_cloudwatch_metric_alarm.wake, aws_cloudwatch_metric_alarm.silent_balancer] :
      alarm.dimensions == tomap(jsondecode(file("metrics.json")).dimensions) && contains(jsondecode(file("metrics.json")).metrics, alarm.metric_name)
    ])
    error_message = "An alarm on another dimension, or on another metric, sees nothing."
  }

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_CLOUDWATCH_NAMESPACE=${aws_cloudwatch_metric_alarm.wake.namespace}\n")
    error_message = "The balancer publishes in the namespace that the alarms look at."
  }
}

run "the_bucket_is_closed" {
  command = plan

  assert {
    condition = (
      aws_s3_bucket_public_access_block.this.block_public_acls && aws_s3_bucket_public_access_block.this.block_public_policy
      && aws_s3_bucket_public_access_block.this.ignore_public_acls && aws_s3_bucket_public_access_block.this.restrict_public_buckets
    )
    error_message = "Nothing in the bucket can be made public."
  }

  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "Versions are kept, so that a bad settings object can be taken back."
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "Objects are encrypted."
  }
}

run "logs_do_not_stay_for_ever" {
  command = plan

  assert {
    condition     = aws_cloudwatch_log_group.this.retention_in_days == 30
    error_message = "Logs are kept for a month."
  }
}

run "the_role_of_spot_is_the_accounts" {
  command = plan

  assert {
    condition     = length(aws_iam_service_linked_role.spot) == 0
    error_message = "It exists once in an account, so it is not made unasked."
  }
}

run "the_role_of_spot_when_it_is_asked_for" {
  command = plan

  variables {
    create_spot_service_linked_role = true
  }

  assert {
    condition     = one(aws_iam_service_linked_role.spot).aws_service_name == "spot.amazonaws.com"
    error_message = "A new account has none, and cannot launch spot instances without it."
  }
}
