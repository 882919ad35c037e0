# Mistakes about the deployment, its program and its clients: each refused in one line.

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

run "a_name_that_no_bucket_can_have" {
  command = plan

  variables {
    name = "Paddock_1"
  }

  expect_failures = [var.name]
}

run "tags_that_the_metadata_cannot_show" {
  command = plan

  variables {
    tags = { "kubernetes.io/cluster" = "x" }
  }

  expect_failures = [var.tags]
}

run "the_modules_own_tags" {
  command = plan

  variables {
    tags = { app = "other" }
  }

  expect_failures = [var.tags]
}

run "an_unknown_mode" {
  command = plan

  variables {
    mode = "alarms"
  }

  expect_failures = [var.mode]
}

run "a_program_that_is_not_there" {
  command = plan

  variables {
    paddock_binary = { arm64 = { file = "tests/fixtures/nothing" } }
  }

  expect_failures = [var.paddock_binary]
}

run "no_program_for_the_balancer" {
  command = plan

  variables {
    paddock_binary = { x86_64 = { file = "tests/fixtures/paddock" } }
  }

  expect_failures = [var.paddock_binary]
}

run "a_program_for_another_architecture" {
  command = plan

  variables {
    paddock_binary = { arm64 = { file = "tests/fixtures/paddock" }, riscv64 = { file = "tests/fixtures/paddock" } }
  }

  expect_failures = [var.paddock_binary]
}

run "a_program_from_two_places" {
  command = plan

  variables {
    paddock_binary = { arm64 = { file = "tests/fixtures/paddock", s3_uri = "s3://releases/paddock", sha256 = "9fde252f2b9889693df38fefff7e3a6dd6835c999332598252839db1aa5aad72" } }
  }

  expect_failures = [var.paddock_binary]
}

run "a_program_from_nowhere" {
  command = plan

  variables {
    paddock_binary = { arm64 = {} }
  }

  expect_failures = [var.paddock_binary]
}

run "a_program_from_s3_without_its_sum" {
  command = plan

  variables {
    paddock_binary = { arm64 = { s3_uri = "s3://releases/paddock" } }
  }

  expect_failures = [var.paddock_binary]
}

run "a_program_from_elsewhere" {
  command = plan

  variables {
    paddock_binary = { arm64 = { s3_uri = "https://releases/paddock", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" } }
  }

  expect_failures = [var.paddock_binary]
}

run "a_sum_that_is_none" {
  command = plan

  variables {
    paddock_binary = { arm64 = { s3_uri = "s3://releases/paddock", sha256 = "abc" } }
  }

  expect_failures = [var.paddock_binary]
}

run "a_program_with_another_sum" {
  command = plan

  variables {
    paddock_binary = { arm64 = { file = "tests/fixtures/paddock", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" } }
  }

  expect_failures = [var.paddock_binary]
}

run "a_client_that_is_no_network" {
  command = plan

  variables {
    client_cidrs = ["203.0.113.7"]
  }

  expect_failures = [var.client_cidrs]
}

run "the_internet_without_keys" {
  command = plan

  variables {
    client_cidrs     = ["0.0.0.0/0"]
    allow_plain_http = true
  }

  expect_failures = [var.api_keys]
}

run "the_internet_by_ipv6_without_keys" {
  command = plan

  variables {
    client_cidrs     = ["::/0"]
    allow_plain_http = true
  }

  expect_failures = [var.api_keys]
}

run "half_of_the_internet_without_keys" {
  command = plan

  variables {
    client_cidrs     = ["0.0.0.0/1", "128.0.0.0/1"]
    allow_plain_http = true
  }

  expect_failures = [var.api_keys]
}

run "the_internet_in_the_clear" {
  command = plan

  variables {
    client_cidrs = ["0.0.0.0/0"]
    api_keys     = ["alice sha256:1a36d78d6a0a331c09eea85ff57df837adb9468f44e8f25fe5bfede08e67456a"]
  }

  expect_failures = [var.allow_plain_http]
}

run "a_key_in_place_of_its_hash" {
  command = plan

  variables {
    api_keys = ["pk-b0cc9d16e8af380f4856e4d2a20cefd4a73204c90007649ac058dc118d697d7c"]
  }

  expect_failures = [var.api_keys]
}

run "tls_by_files" {
  command = plan

  variables {
    tls = { certificate_parameter = "/etc/cert.pem chain", key_parameter = "/k" }
  }

  expect_failures = [var.tls]
}

run "a_token_in_place_of_its_name" {
  command = plan

  variables {
    management_token_parameter = "secret token"
  }

  expect_failures = [var.management_token_parameter]
}

run "an_alias_in_place_of_a_key" {
  command = plan

  variables {
    kms_key_arn = "alias/paddock"
  }

  expect_failures = [var.kms_key_arn]
}

run "a_retention_that_does_not_exist" {
  command = plan

  variables {
    log_retention_days = 31
  }

  expect_failures = [var.log_retention_days]
}
