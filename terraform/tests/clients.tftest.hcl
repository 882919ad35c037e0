# Who reaches what, and how clients must show themselves.

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

run "clients_reach_the_proxy_and_nothing_else" {
  command = plan

  variables {
    client_cidrs = ["203.0.113.7/32", "2001:db8::/32"]
  }

  assert {
    condition = length(aws_vpc_security_group_ingress_rule.clients) == 2 && alltrue([
      for rule in aws_vpc_security_group_ingress_rule.clients : rule.from_port == 8080 && rule.to_port == 8080 && rule.ip_protocol == "tcp"
    ])
    error_message = "Each client network reaches the proxy's port."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.clients["203.0.113.7/32"].cidr_ipv4 == "203.0.113.7/32" && aws_vpc_security_group_ingress_rule.clients["2001:db8::/32"].cidr_ipv6 == "2001:db8::/32"
    error_message = "IPv4 and IPv6 networks each go where they belong."
  }
}

run "no_client_network_opens_nothing" {
  command = plan

  variables {
    client_cidrs = []
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.clients) == 0
    error_message = "Without client networks the proxy is reached through Session Manager only."
  }
}

# Applied, so that the groups' ids are known: the rule must name the agents' group.
run "only_agents_reach_management" {
  command = apply

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.inside["management"].from_port == 8085 && aws_vpc_security_group_ingress_rule.inside["management"].to_port == 8085
      && aws_vpc_security_group_ingress_rule.inside["management"].security_group_id == aws_security_group.balancer.id
      && aws_vpc_security_group_ingress_rule.inside["management"].referenced_security_group_id == aws_security_group.agents.id
    )
    error_message = "The management port admits the agents' security group, and nobody else."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.inside["management"].cidr_ipv4 == null && aws_vpc_security_group_ingress_rule.inside["management"].cidr_ipv6 == null
    error_message = "No network reaches the management port."
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.inside["llamacpp"].from_port == 8088 && aws_vpc_security_group_ingress_rule.inside["llamacpp"].to_port == 8088
      && aws_vpc_security_group_ingress_rule.inside["llamacpp"].security_group_id == aws_security_group.agents.id
      && aws_vpc_security_group_ingress_rule.inside["llamacpp"].referenced_security_group_id == aws_security_group.balancer.id
    )
    error_message = "llama.cpp admits the balancer, and nobody else."
  }

  # Every rule that lets something in: another one would have to be added to the module's files.
  assert {
    condition = toset(flatten([for file in fileset(path.module, "*.tf") : regexall(
      "resource \"aws_vpc_security_group_ingress_rule\" \"([a-z0-9_]+)\"", file("${path.module}/${file}")
    )])) == toset(["clients", "inside", "endpoints"]) && toset(keys(aws_vpc_security_group_ingress_rule.inside)) == toset(["management", "llamacpp"])
    error_message = "These rules let something in, and no other."
  }

  assert {
    condition     = !anytrue([for file in fileset(path.module, "*.tf") : can(regex("(?m)^ *(ingress|egress) \\{|key_name|port *= 22\\b", file("${path.module}/${file}")))])
    error_message = "No rules inside of groups, no SSH."
  }

  assert {
    condition     = aws_instance.balancer.primary_network_interface[0].network_interface_id == aws_network_interface.balancer.id
    error_message = "The balancer is on the interface that outlives it."
  }

  assert {
    condition     = strcontains(aws_s3_object.agent_settings["cpu"].content, "PADDOCK_MANAGEMENT_ADDR=${one(aws_network_interface.balancer.private_ips)}:8085\n")
    error_message = "Agents call the interface's address."
  }
}

run "api_keys_reach_the_balancer_as_hashes" {
  command = plan

  variables {
    client_cidrs     = ["0.0.0.0/0"]
    allow_plain_http = true
    api_keys         = ["alice sha256:1a36d78d6a0a331c09eea85ff57df837adb9468f44e8f25fe5bfede08e67456a"]
  }

  assert {
    condition     = aws_s3_object.api_keys[0].content == "alice sha256:1a36d78d6a0a331c09eea85ff57df837adb9468f44e8f25fe5bfede08e67456a\n"
    error_message = "The object is the file of --api-keys-file."
  }

  assert {
    condition = (
      strcontains(aws_s3_object.balancer_settings.content, "FETCH_API_KEYS_URI=s3://${aws_s3_bucket.this.bucket}/${aws_s3_object.api_keys[0].key}\n")
      && strcontains(aws_s3_object.balancer_settings.content, "FETCH_API_KEYS_SHA256=${sha256(aws_s3_object.api_keys[0].content)}\n")
    )
    error_message = "The balancer fetches the keys' file by its checksum."
  }
}

run "with_tls_the_port_is_443" {
  command = plan

  variables {
    client_cidrs = ["0.0.0.0/0"]
    api_keys     = ["alice sha256:1a36d78d6a0a331c09eea85ff57df837adb9468f44e8f25fe5bfede08e67456a"]
    tls          = { certificate_parameter = "/paddock/tls-certificate", key_parameter = "/paddock/tls-key" }
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.clients["0.0.0.0/0"].from_port == 443
    error_message = "Clients expect TLS at 443."
  }

  assert {
    condition = alltrue([for line in ["PROXY_PORT=443", "FETCH_TLS_CERT_PARAMETER=/paddock/tls-certificate", "FETCH_TLS_KEY_PARAMETER=/paddock/tls-key"] :
      strcontains(aws_s3_object.balancer_settings.content, "${line}\n")
    ])
    error_message = "The balancer is told where its certificate is."
  }

  assert {
    condition = anytrue([for statement in jsondecode(aws_iam_role_policy.balancer.policy).Statement :
      try(statement.Sid, "") == "ReadTheCertificate" && statement.Resource == [
        "arn:aws:ssm:eu-central-1:111122223333:parameter/paddock/tls-certificate",
        "arn:aws:ssm:eu-central-1:111122223333:parameter/paddock/tls-key",
    ]])
    error_message = "The balancer may read these two parameters."
  }
}
