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
  vpc_id     = "vpc-0123456789abcdef0"
  subnet_ids = ["subnet-0123456789abcdef0"]
}

run "no_network_of_its_own" {
  command = apply

  assert {
    condition     = output.group_names == ["paddock-cpu"]
    error_message = "The group stands in the subnets that were given."
  }

  assert {
    condition     = output.monthly_floor.items.public_ipv4 == 3.65
    error_message = "The balancer has a public address."
  }
}
