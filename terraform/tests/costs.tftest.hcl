# What a month without calls costs, and the alarms that are asked for.

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

# t4g.nano 0.0042 $/h, public IPv4 0.005 $/h, 730 h; 8 GiB at 0.08; one alarm of high resolution 0.30, one other 0.10;
# 6 metrics at 0.30; a put a minute at 0.01 for 1000; 0.1 GB of logs at 0.53.
run "the_floor_is_itemised" {
  command = plan

  assert {
    condition     = output.monthly_floor.items.instance == 3.07 && output.monthly_floor.items.public_ipv4 == 3.65 && output.monthly_floor.items.volume == 0.64
    error_message = "The balancer's instance, address and volume."
  }

  assert {
    condition     = output.monthly_floor.items.alarms == 0.4 && abs(output.monthly_floor.items.metrics - 0.3 * length(jsondecode(file("metrics.json")).metrics)) < 0.001 && output.monthly_floor.items.metric_puts == 0.44 && output.monthly_floor.items.logs == 0.05
    error_message = "Alarms, metrics, their puts, logs."
  }

  assert {
    condition     = output.monthly_floor.items.endpoints == 0 && output.monthly_floor.items.warm_pool == 0 && output.monthly_floor.items.dashboard == 0
    error_message = "What was not asked for costs nothing."
  }

  assert {
    condition     = abs(output.monthly_floor.total - sum(values(output.monthly_floor.items))) < 0.05
    error_message = "The total is the sum of its items."
  }

  assert {
    condition     = output.monthly_floor.total < 12
    error_message = "A few dollars a month while nobody calls."
  }

  assert {
    condition     = output.monthly_floor.as_of == jsondecode(file("../infra/prices.json")).as_of
    error_message = "Prices are told with their date."
  }
}

# A volume of 8 + 19 + 6 GiB at 0.08, and 511 MiB/s above 125 at 0.04, for each of two instances.
run "a_warm_pool_costs_its_volumes" {
  command = plan

  variables {
    groups = [{ name = "warm", instance_types = ["c7g.large"], max_size = 2, warm_pool = { max_group_prepared_capacity = 2 } }]
    model  = { source = "s3://models/large.gguf", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", size_gb = 20 }
  }

  assert {
    condition     = abs(output.monthly_floor.items.warm_pool - 2 * (33 * 0.08 + 511 * 0.04)) < 0.01
    error_message = "Stopped instances cost their volumes."
  }
}

# Each of the two instances besides: $0.0725 and an address at $0.005, for 730 hours.
run "a_warm_pool_that_runs_costs_its_instances" {
  command = plan

  variables {
    groups = [{
      name           = "warm"
      instance_types = ["c7g.large"]
      max_size       = 2
      price_per_hour = 0.0725
      warm_pool      = { max_group_prepared_capacity = 2, state = "Running" }
    }]
    model = { source = "s3://models/large.gguf", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", size_gb = 20 }
  }

  assert {
    condition     = abs(output.monthly_floor.items.warm_pool - 2 * (33 * 0.08 + 511 * 0.04 + 730 * (0.0725 + 0.005))) < 0.01
    error_message = "Instances that run are paid for though nobody calls."
  }
}

run "a_warm_pool_that_runs_needs_a_price" {
  command = plan

  variables {
    groups = [{ name = "warm", instance_types = ["c7g.large"], warm_pool = { state = "Running" } }]
  }

  expect_failures = [aws_autoscaling_group.agent["warm"]]
}

run "the_balancer_may_be_larger" {
  command = plan

  variables {
    balancer_instance_type = "t4g.micro"
    cloudwatch_agent       = true
    dashboard              = true
  }

  assert {
    condition     = output.monthly_floor.items.instance == 6.13 && output.monthly_floor.items.dashboard == 3
    error_message = "A t4g.micro costs twice as much, a dashboard $3."
  }

  # 6 metrics twice, memory and disk; 60 puts an hour and 360.
  assert {
    condition     = abs(output.monthly_floor.items.metrics - (2 * length(jsondecode(file("metrics.json")).metrics) + 2) * 0.3) < 0.001 && output.monthly_floor.items.metric_puts == 3.07
    error_message = "What the CloudWatch Agent publishes costs too."
  }

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_MAX_BUFFERED_BYTES=256MiB\n") && strcontains(aws_s3_object.balancer_settings.content, "CLOUDWATCH_AGENT=true\n") && strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_STATSD_ADDR=127.0.0.1:8125\nPADDOCK_STATSD_REPORTING_INTERVAL=5s\n")
    error_message = "More memory holds more requests."
  }

  assert {
    condition     = length(aws_ssm_association.cloudwatch_agent) == 1
    error_message = "Systems Manager installs the CloudWatch Agent."
  }

  assert {
    condition = alltrue([for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : alltrue([
      for metric in widget.properties.metrics : metric[0] == "AWS/AutoScaling" || metric == [aws_cloudwatch_metric_alarm.wake.namespace, metric[1], "pool", "default"] && contains(jsondecode(file("metrics.json")).metrics, metric[1])
    ])])
    error_message = "The dashboard shows metrics that are published."
  }
}

run "hours_are_alarmed_on_over_all_groups" {
  command = plan

  variables {
    groups = [
      { name = "spot", instance_types = ["c7g.large"], spot = true },
      { name = "on-demand", instance_types = ["c7g.large"] },
    ]
    alarm_topic_arns             = ["arn:aws:sns:eu-central-1:111122223333:operators"]
    alarm_instance_hours_per_day = 6
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.instance_hours[0].threshold == 6 && aws_cloudwatch_metric_alarm.instance_hours[0].alarm_actions == toset(["arn:aws:sns:eu-central-1:111122223333:operators"])
    error_message = "The topic is told after 6 hours."
  }

  assert {
    condition     = toset([for query in aws_cloudwatch_metric_alarm.instance_hours[0].metric_query : one(query.metric).dimensions["AutoScalingGroupName"] if length(query.metric) > 0]) == toset(["paddock-spot", "paddock-on-demand"])
    error_message = "All groups count."
  }

  # The sum of a value each minute, so minutes: 60 to the hour.
  assert {
    condition     = one([for query in aws_cloudwatch_metric_alarm.instance_hours[0].metric_query : query.expression if query.return_data]) == "(FILL(group0, 0) + FILL(group1, 0)) / 60"
    error_message = "Minutes become hours."
  }

  assert {
    condition     = alltrue([for group in aws_autoscaling_group.agent : contains(group.enabled_metrics, "GroupInServiceInstances") && group.metrics_granularity == "1Minute"])
    error_message = "The groups publish what the alarm counts."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.silent_balancer.alarm_actions == toset(["arn:aws:sns:eu-central-1:111122223333:operators"])
    error_message = "The topic is told of a silent balancer."
  }
}

run "a_group_within_the_quotas_is_no_matter" {
  command = plan

  variables {
    groups = [{ name = "gpu", instance_types = ["g6.xlarge"], max_size = 2, spot = true, ami_id = "ami-0123456789abcdef0" }]
  }

  override_data {
    target = data.aws_ec2_instance_type.agent["g6.xlarge"]
    values = { supported_architectures = ["arm64"], default_vcpus = 4, gpus = [] }
  }

  override_data {
    target = data.aws_servicequotas_service_quota.spot
    values = { value = 8 }
  }

  # Nobody asks for these.
  override_data {
    target = data.aws_servicequotas_service_quota.on_demand
    values = { value = 0 }
  }
}

run "a_quota_for_spot_that_is_too_low_is_told" {
  command = plan

  variables {
    groups = [{ name = "gpu", instance_types = ["g6.xlarge"], max_size = 2, spot = true, ami_id = "ami-0123456789abcdef0" }]
  }

  override_data {
    target = data.aws_ec2_instance_type.agent["g6.xlarge"]
    values = { supported_architectures = ["arm64"], default_vcpus = 4, gpus = [] }
  }

  override_data {
    target = data.aws_servicequotas_service_quota.spot
    values = { value = 7 }
  }

  expect_failures = [check.spot_gpu_quota]
}

run "a_quota_on_demand_of_zero_is_told" {
  command = plan

  variables {
    groups = [{ name = "gpu", instance_types = ["g6.xlarge"], ami_id = "ami-0123456789abcdef0" }]
  }

  override_data {
    target = data.aws_servicequotas_service_quota.on_demand
    values = { value = 0 }
  }

  expect_failures = [check.on_demand_gpu_quota]
}
