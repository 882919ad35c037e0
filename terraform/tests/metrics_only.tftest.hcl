# The mode in which alarms start and end the one instance, and the balancer only publishes.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  paddock_binary = { arm64 = { file = "tests/fixtures/paddock" }, x86_64 = { file = "tests/fixtures/paddock" } }
  client_cidrs   = ["203.0.113.7/32"]
  mode           = "metrics-only"
  groups         = [{ name = "cpu", instance_types = ["c7g.large"] }]
  model = {
    source  = "hf://someone/something/model.gguf"
    sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
    size_gb = 4.7
  }
}

run "the_balancer_scales_nothing" {
  command = plan

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_FLEET=none\n") && !strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_ASG")
    error_message = "The balancer knows of no group."
  }

  assert {
    condition     = !anytrue([for action in flatten([for statement in jsondecode(aws_iam_role_policy.balancer.policy).Statement : statement.Action]) : startswith(action, "autoscaling:")])
    error_message = "What it does not call it may not call."
  }
}

run "no_hook_waits_for_a_balancer_that_does_not_know_the_group" {
  command = plan

  assert {
    condition     = length(aws_autoscaling_lifecycle_hook.drain) == 0
    error_message = "Nobody completes the hook, so each end would take its whole time."
  }
}

run "alarms_start_and_end_the_instance" {
  command = plan

  assert {
    condition     = aws_autoscaling_group.agent["cpu"].protect_from_scale_in == false && aws_autoscaling_group.agent["cpu"].max_size == 1
    error_message = "An alarm cannot shrink a group that protects its instances, and sets exactly 1."
  }

  assert {
    condition     = one(aws_autoscaling_policy.wake.step_adjustment).scaling_adjustment == 1 && one(aws_autoscaling_policy.rest[0].step_adjustment).scaling_adjustment == 0
    error_message = "Wake sets the group to 1, rest to 0."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.rest[0].comparison_operator == "LessThanThreshold" && one(aws_autoscaling_policy.rest[0].step_adjustment).metric_interval_upper_bound == "0"
    error_message = "The rest alarm is below its threshold, and so is its step."
  }

  assert {
    condition = alltrue([for query in aws_cloudwatch_metric_alarm.rest[0].metric_query :
      one(query.metric).period == 300 && one(query.metric).stat == (query.id == "present" ? "Minimum" : "Maximum") && one(query.metric).dimensions == tomap(jsondecode(file("metrics.json")).dimensions)
      && contains(jsondecode(file("metrics.json")).metrics, one(query.metric).metric_name) if length(query.metric) > 0
    ])
    error_message = "Rest looks at what is published, over the whole idle time."
  }

  assert {
    condition     = [for query in aws_cloudwatch_metric_alarm.rest[0].metric_query : query.expression if query.return_data == true] == ["IF(present > 0, waiting + computing, 1)"]
    error_message = "Without an agent nothing rests: the alarm neither repeats itself at zero nor ends what boots."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.rest[0].treat_missing_data == "notBreaching"
    error_message = "A balancer that is silent for a while ends no instance that may be at work."
  }
}

run "several_instances_need_the_balancer" {
  command = plan

  variables {
    groups = [{ name = "cpu", instance_types = ["c7g.large"], max_size = 2 }]
  }

  expect_failures = [var.groups]
}

run "launch_instances_needs_the_balancer" {
  command = plan

  variables {
    asg_wake = "launch-instances"
  }

  expect_failures = [var.asg_wake]
}
