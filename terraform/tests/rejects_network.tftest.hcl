# Mistakes about network and alarms: each refused in one line.

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

run "a_vpc_by_its_name" {
  command = plan

  variables {
    vpc_id             = "main"
    subnet_ids         = ["subnet-1"]
    balancer_subnet_id = "subnet-1"
  }

  expect_failures = [var.vpc_id]
}

run "a_vpc_without_subnets" {
  command = plan

  variables {
    vpc_id             = "vpc-0123456789abcdef0"
    balancer_subnet_id = "subnet-1"
  }

  expect_failures = [var.subnet_ids]
}

run "a_vpc_without_the_balancers_subnet" {
  command = plan

  variables {
    vpc_id     = "vpc-0123456789abcdef0"
    subnet_ids = ["subnet-1"]
  }

  expect_failures = [var.balancer_subnet_id]
}

run "a_network_too_small" {
  command = plan

  variables {
    vpc_cidr = "10.0.0.0/28"
  }

  expect_failures = [var.vpc_cidr]
}

run "an_address_in_the_modules_own_vpc" {
  command = plan

  variables {
    balancer_private_ip = "10.0.0.5"
  }

  expect_failures = [var.balancer_private_ip]
}

run "route_tables_without_their_vpc" {
  command = plan

  variables {
    route_table_ids = ["rtb-1"]
  }

  expect_failures = [var.route_table_ids]
}

run "no_endpoints_in_the_modules_own_vpc" {
  command = plan

  variables {
    vpc_endpoints = false
  }

  expect_failures = [var.vpc_endpoints]
}

run "a_namespace_of_aws" {
  command = plan

  variables {
    cloudwatch_namespace = "AWS/EC2"
  }

  expect_failures = [var.cloudwatch_namespace]
}

run "a_topic_that_is_none" {
  command = plan

  variables {
    alarm_topic_arns = ["me@example.com"]
  }

  expect_failures = [var.alarm_topic_arns]
}

run "an_alarm_that_nobody_hears" {
  command = plan

  variables {
    alarm_instance_hours_per_day = 6
  }

  expect_failures = [var.alarm_instance_hours_per_day]
}

run "an_alarm_after_no_hours" {
  command = plan

  variables {
    alarm_instance_hours_per_day = 0
    alarm_topic_arns             = ["arn:aws:sns:eu-central-1:111122223333:operators"]
  }

  expect_failures = [var.alarm_instance_hours_per_day]
}
