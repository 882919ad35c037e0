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

run "from_nothing_to_an_endpoint" {
  command = apply

  assert {
    condition     = startswith(output.endpoint, "http://") && endswith(output.endpoint, ":8080")
    error_message = "Clients call the proxy's port."
  }

  assert {
    condition     = output.group_names == ["paddock-cpu"]
    error_message = "There is one group."
  }

  assert {
    condition     = output.monthly_floor.total < 12 && output.monthly_floor.items.endpoints == 0 && output.monthly_floor.items.warm_pool == 0
    error_message = "While nobody calls, only the balancer costs."
  }

  assert {
    condition     = strcontains(output.management_port_forward_command, "portNumber=8085,localPortNumber=8085")
    error_message = "The command brings the management port."
  }

  assert {
    condition     = strcontains(output.state_command, "/api/v1/state") && strcontains(output.state_command, "--name /paddock/management-token")
    error_message = "The token is read from SSM when it is needed."
  }
}
