# Mistakes about the balancer: each refused in one line.

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

run "a_balancer_of_another_kind" {
  command = plan

  variables {
    balancer_instance_type = "m7i.large"
  }

  expect_failures = [var.balancer_instance_type]
}

run "an_image_that_is_none" {
  command = plan

  variables {
    balancer_ami_id = "al2023"
  }

  expect_failures = [var.balancer_ami_id]
}

run "a_volume_below_the_image" {
  command = plan

  variables {
    balancer_volume_gib = 4
  }

  expect_failures = [var.balancer_volume_gib]
}

run "an_unknown_kind_of_address" {
  command = plan

  variables {
    public_address = "dns"
  }

  expect_failures = [var.public_address]
}

run "a_public_address_in_private" {
  command = plan

  variables {
    private = true
    model   = { source = "s3://models/model.gguf", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", size_gb = 4.7 }
    groups  = [{ name = "cpu", instance_types = ["c7g.large"], ami_id = "ami-0123456789abcdef0" }]
  }

  expect_failures = [var.public_address]
}

run "no_way_to_aws" {
  command = plan

  variables {
    public_address = "none"
  }

  expect_failures = [var.public_address]
}

run "the_management_port_for_clients" {
  command = plan

  variables {
    proxy_port = 8085
  }

  expect_failures = [var.proxy_port]
}

run "an_idle_time_of_nothing" {
  command = plan

  variables {
    idle_timeout_minutes = 0
  }

  expect_failures = [var.idle_timeout_minutes]
}

run "a_boot_of_half_a_minute" {
  command = plan

  variables {
    boot_timeout_minutes = 0.5
  }

  expect_failures = [var.boot_timeout_minutes]
}

run "no_instances_at_all" {
  command = plan

  variables {
    max_instances = 0
  }

  expect_failures = [var.max_instances]
}

run "an_unknown_wake" {
  command = plan

  variables {
    asg_wake = "run-instances"
  }

  expect_failures = [var.asg_wake]
}

run "a_secret_in_the_state" {
  command = plan

  variables {
    balancer_settings = { PADDOCK_LLAMACPP_API_KEY = "secret" }
  }

  expect_failures = [var.balancer_settings]
}

run "management_without_a_token" {
  command = plan

  variables {
    balancer_settings = { PADDOCK_MANAGEMENT_NO_AUTH = "true" }
  }

  expect_failures = [var.balancer_settings]
}

run "a_setting_that_is_the_modules" {
  command = plan

  variables {
    balancer_settings = { PADDOCK_ASG_NAME = "other" }
  }

  expect_failures = [var.balancer_settings]
}

run "a_wake_that_the_role_does_not_know" {
  command = plan

  variables {
    balancer_settings = { PADDOCK_ASG_WAKE = "launch-instances" }
  }

  expect_failures = [var.balancer_settings]
}

run "a_namespace_that_no_alarm_looks_at" {
  command = plan

  variables {
    balancer_settings = { PADDOCK_CLOUDWATCH_NAMESPACE = "Other" }
  }

  expect_failures = [var.balancer_settings]
}

run "prices_that_no_check_sees" {
  command = plan

  variables {
    balancer_settings = { PADDOCK_PRICE_PER_HOUR = "0.1" }
  }

  expect_failures = [var.balancer_settings]
}

run "a_limit_that_no_check_sees" {
  command = plan

  variables {
    balancer_settings = { PADDOCK_MAX_COST_PER_DAY = "5" }
  }

  expect_failures = [var.balancer_settings]
}

run "a_directory_that_the_unit_may_not_write" {
  command = plan

  variables {
    balancer_settings = { PADDOCK_STATE_DIR = "/srv/paddock" }
  }

  expect_failures = [var.balancer_settings]
}

run "a_setting_that_is_no_flag" {
  command = plan

  variables {
    balancer_settings = { PATH = "/tmp" }
  }

  expect_failures = [var.balancer_settings]
}

run "a_setting_of_two_lines" {
  command = plan

  variables {
    balancer_settings = { PADDOCK_LOG_FORMAT = "text\nPATH=/tmp" }
  }

  expect_failures = [var.balancer_settings]
}

run "the_cloudwatch_agent_on_a_nano" {
  command = plan

  variables {
    cloudwatch_agent = true
  }

  expect_failures = [var.cloudwatch_agent]
}
