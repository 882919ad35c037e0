# What the balancer is told about money: the price of each group, and how much a day may cost.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  paddock_binary = { arm64 = { file = "tests/fixtures/paddock" }, x86_64 = { file = "tests/fixtures/paddock" } }
  client_cidrs   = ["203.0.113.7/32"]
  groups = [
    { name = "spot", instance_types = ["g6.xlarge", "g5.xlarge"], spot = true, price_per_hour = 0.35, ami_id = "ami-0123456789abcdef0" },
    { name = "on-demand", instance_types = ["g6.xlarge", "g5.xlarge"], ami_id = "ami-0123456789abcdef0" },
  ]
  model = {
    source  = "hf://someone/something/model.gguf"
    sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
    size_gb = 4.7
  }
}

# On demand the dearest of the types, as infra/prices.json has them.
run "every_group_has_a_price" {
  command = plan

  variables {
    max_cost_per_day = 7.5
  }

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_PRICE_PER_HOUR=0.35,${jsondecode(file("../infra/prices.json")).instance_hour["g5.xlarge"]}\n")
    error_message = "Prices stand in the order of the groups."
  }

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_MAX_COST_PER_DAY=7.5\n")
    error_message = "The balancer knows the limit."
  }
}

run "a_price_that_is_said_wins" {
  command = plan

  variables {
    groups = [{ name = "gpu", instance_types = ["g6.xlarge"], price_per_hour = 2, ami_id = "ami-0123456789abcdef0" }]
  }

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_PRICE_PER_HOUR=2\n")
    error_message = "Another Region has another price."
  }

  assert {
    condition     = !strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_MAX_COST_PER_DAY")
    error_message = "There is no limit unless it is asked for."
  }
}

run "no_price_is_guessed" {
  command = plan

  variables {
    groups = [
      { name = "spot", instance_types = ["g6.xlarge"], spot = true, ami_id = "ami-0123456789abcdef0" },
      { name = "on-demand", instance_types = ["g6.xlarge"], ami_id = "ami-0123456789abcdef0" },
    ]
  }

  assert {
    condition     = !strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_PRICE_PER_HOUR")
    error_message = "Spot has no fixed price: without one the balancer tells time, and no cost."
  }
}

run "a_type_that_is_not_in_the_list_has_no_price" {
  command = plan

  variables {
    groups = [{ name = "gpu", instance_types = ["g6.xlarge", "c7g.large"], ami_id = "ami-0123456789abcdef0" }]
  }

  assert {
    condition     = !strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_PRICE_PER_HOUR")
    error_message = "The dearest of the types is not known."
  }
}

run "a_price_that_is_of_no_use_is_told" {
  command = plan

  variables {
    groups = [
      { name = "spot", instance_types = ["g6.xlarge"], spot = true, price_per_hour = 0.35, ami_id = "ami-0123456789abcdef0" },
      { name = "cpu", instance_types = ["c7g.large"] },
    ]
  }

  expect_failures = [check.prices]
}

run "a_price_of_nothing" {
  command = plan

  variables {
    groups = [{ name = "gpu", instance_types = ["g6.xlarge"], price_per_hour = 0, ami_id = "ami-0123456789abcdef0" }]
  }

  expect_failures = [var.groups]
}

run "a_limit_of_nothing" {
  command = plan

  variables {
    max_cost_per_day = 0
  }

  expect_failures = [var.max_cost_per_day]
}

run "a_limit_without_a_price" {
  command = plan

  variables {
    groups           = [{ name = "cpu", instance_types = ["c7g.large"], spot = true }]
    max_cost_per_day = 5
  }

  expect_failures = [var.max_cost_per_day]
}

run "a_limit_where_alarms_start_instances" {
  command = plan

  variables {
    mode             = "metrics-only"
    groups           = [{ name = "cpu", instance_types = ["c7g.large"], price_per_hour = 0.1 }]
    max_cost_per_day = 5
  }

  expect_failures = [var.max_cost_per_day]
}

run "the_page_and_how_to_look_at_it" {
  command = plan

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_MANAGEMENT_DASHBOARD_ENABLE=true\n")
    error_message = "The page is there for who has the token."
  }

  assert {
    condition     = output.dashboard_url == "http://127.0.0.1:8085/dashboard" && output.dashboard_command == "PADDOCK_MANAGEMENT_TOKEN=\"$(${output.management_token_command})\" paddock dashboard --management-addr 127.0.0.1:8085"
    error_message = "Page and terminal are reached through the port forward."
  }
}

run "the_page_may_be_off" {
  command = plan

  variables {
    balancer_settings = { PADDOCK_MANAGEMENT_DASHBOARD_ENABLE = "false" }
  }

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_MANAGEMENT_DASHBOARD_ENABLE=false\n")
    error_message = "balancer_settings win."
  }
}
