mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  client_cidrs  = ["203.0.113.7/32"]
  paddock_files = { arm64 = "../../tests/fixtures/paddock" }
  model = {
    source  = "hf://someone/something/model.gguf"
    sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
    size_gb = 0.4
  }
}

run "alarms_do_it" {
  command = apply

  # The wake alarm at 0.30, those of the silent balancer and of rest (three metrics) at 0.10 each.
  assert {
    condition     = output.monthly_floor.items.alarms == 0.7
    error_message = "Three alarms, of five metrics in all."
  }

  assert {
    condition     = output.group_names == ["paddock-cpu"]
    error_message = "One group."
  }
}
