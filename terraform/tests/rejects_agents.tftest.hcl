# Mistakes about groups, model, network and alarms: each refused in one line.

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

run "no_group" {
  command = plan

  variables {
    groups = []
  }

  expect_failures = [var.groups]
}

run "two_groups_of_one_name" {
  command = plan

  variables {
    groups = [{ name = "cpu", instance_types = ["c7g.large"] }, { name = "cpu", instance_types = ["c8g.large"] }]
  }

  expect_failures = [var.groups]
}

run "a_group_of_a_strange_name" {
  command = plan

  variables {
    groups = [{ name = "My group", instance_types = ["c7g.large"] }]
  }

  expect_failures = [var.groups]
}

run "a_group_without_types" {
  command = plan

  variables {
    groups = [{ name = "cpu", instance_types = [] }]
  }

  expect_failures = [var.groups]
}

run "a_group_that_can_hold_nothing" {
  command = plan

  variables {
    groups = [{ name = "cpu", instance_types = ["c7g.large"], max_size = 0 }]
  }

  expect_failures = [var.groups]
}

run "an_archive_without_its_sum" {
  command = plan

  variables {
    groups = [{ name = "cpu", instance_types = ["c7g.large"], llama_cpp = { uri = "s3://builds/llama.tar.gz", sha256 = "" } }]
  }

  expect_failures = [var.groups]
}

run "arguments_with_quotes" {
  command = plan

  variables {
    groups = [{ name = "cpu", instance_types = ["c7g.large"], llama_args = "--alias 'x'" }]
  }

  expect_failures = [var.groups]
}

run "a_warm_pool_of_spot" {
  command = plan

  variables {
    groups = [{ name = "cpu", instance_types = ["c7g.large"], spot = true, warm_pool = {} }]
  }

  expect_failures = [var.groups]
}

run "a_warm_pool_of_an_unknown_state" {
  command = plan

  variables {
    groups = [{ name = "cpu", instance_types = ["c7g.large"], warm_pool = { state = "Asleep" } }]
  }

  expect_failures = [var.groups]
}

run "a_warm_pool_below_its_minimum" {
  command = plan

  variables {
    groups = [{ name = "cpu", instance_types = ["c7g.large"], warm_pool = { min_size = 2 } }]
  }

  expect_failures = [var.groups]
}

run "a_volume_faster_than_gp3" {
  command = plan

  variables {
    groups = [{ name = "cpu", instance_types = ["c7g.large"], throughput_mibps = 5000 }]
  }

  expect_failures = [var.groups]
}

run "a_model_from_nowhere" {
  command = plan

  variables {
    model = { source = "/models/model.gguf", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", size_gb = 4.7 }
  }

  expect_failures = [var.model]
}

run "a_model_without_its_sum" {
  command = plan

  variables {
    model = { source = "hf://someone/something/model.gguf", sha256 = "unknown", size_gb = 4.7 }
  }

  expect_failures = [var.model]
}

run "a_model_of_no_size" {
  command = plan

  variables {
    model = { source = "hf://someone/something/model.gguf", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", size_gb = 0 }
  }

  expect_failures = [var.model]
}

run "a_token_for_s3" {
  command = plan

  variables {
    model = { source = "s3://models/model.gguf", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", size_gb = 4.7, token_parameter = "/paddock/token" }
  }

  expect_failures = [var.model]
}

run "a_token_itself" {
  command = plan

  variables {
    model = { source = "hf://someone/something/model.gguf", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", size_gb = 4.7, token_parameter = "hf_abc def" }
  }

  expect_failures = [var.model]
}

run "a_model_from_the_internet_in_private" {
  command = plan

  variables {
    private        = true
    public_address = "none"
    groups         = [{ name = "cpu", instance_types = ["c7g.large"], ami_id = "ami-0123456789abcdef0" }]
  }

  expect_failures = [var.model]
}

run "an_orphan_within_a_minute" {
  command = plan

  variables {
    orphan_timeout_minutes = 1
  }

  expect_failures = [var.orphan_timeout_minutes]
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
