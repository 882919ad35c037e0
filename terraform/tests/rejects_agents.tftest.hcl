# Mistakes about groups and model: each refused in one line.

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

run "a_key_for_what_is_not_in_s3" {
  command = plan

  variables {
    model = { source = "hf://someone/something/model.gguf", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", size_gb = 4.7, kms_key_arn = "arn:aws:kms:eu-central-1:111122223333:key/22222222-2222-3333-4444-555555555555" }
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
