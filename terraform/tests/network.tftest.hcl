# Where things stand: the own VPC, a given one, and one without the internet.

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

run "subnets_where_the_types_are_offered" {
  command = plan

  override_data {
    target = data.aws_availability_zones.available
    values = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c", "eu-central-1d"] }
  }

  override_data {
    target = data.aws_ec2_instance_type_offerings.agent["cpu"]
    values = { locations = ["eu-central-1b", "eu-central-1d"] }
  }

  override_data {
    target = data.aws_ec2_instance_type_offerings.balancer
    values = { locations = ["eu-central-1c", "eu-central-1d"] }
  }

  assert {
    condition     = keys(aws_subnet.this) == ["eu-central-1b", "eu-central-1c", "eu-central-1d"]
    error_message = "There are subnets where the types are offered, one for the balancer, and none elsewhere."
  }

  assert {
    condition     = aws_subnet.this["eu-central-1b"].cidr_block == "10.85.16.0/20" && aws_subnet.this["eu-central-1c"].cidr_block == "10.85.32.0/20"
    error_message = "A zone's network does not depend on which other zones are used."
  }

  assert {
    condition     = one(aws_network_interface.balancer.private_ips) == "10.85.32.10"
    error_message = "The balancer stands in the first zone that offers it, whatever the groups want."
  }

  assert {
    condition     = strcontains(aws_s3_object.agent_settings["cpu"].content, "PADDOCK_MANAGEMENT_ADDR=10.85.32.10:8085\n")
    error_message = "Agents call the balancer's private address."
  }
}

run "a_given_vpc_is_used_as_it_is" {
  command = apply

  variables {
    vpc_id              = "vpc-0123456789abcdef0"
    subnet_ids          = ["subnet-a", "subnet-b"]
    balancer_subnet_id  = "subnet-a"
    balancer_private_ip = "172.31.5.9"
    route_table_ids     = ["rtb-1"]
  }

  override_data {
    target = data.aws_subnet.agent[0]
    values = { id = "subnet-a", availability_zone = "eu-central-1a" }
  }

  override_data {
    target = data.aws_subnet.agent[1]
    values = { id = "subnet-b", availability_zone = "eu-central-1c" }
  }

  assert {
    condition     = length(aws_vpc.this) + length(aws_subnet.this) + length(aws_internet_gateway.this) + length(aws_route_table.this) == 0
    error_message = "No network is made."
  }

  assert {
    condition     = aws_autoscaling_group.agent["cpu"].vpc_zone_identifier == toset(["subnet-a"])
    error_message = "A subnet whose zone does not offer the types is left out."
  }

  assert {
    condition     = aws_vpc_endpoint.s3[0].route_table_ids == toset(["rtb-1"]) && aws_vpc_endpoint.s3[0].vpc_id == "vpc-0123456789abcdef0"
    error_message = "The route tables that were named get the way to S3."
  }

  assert {
    condition     = strcontains(aws_s3_object.agent_settings["cpu"].content, "PADDOCK_MANAGEMENT_ADDR=172.31.5.9:8085\n")
    error_message = "Agents call the address that was given."
  }
}

run "private_has_endpoints_in_place_of_the_internet" {
  command = plan

  variables {
    private        = true
    public_address = "none"
    groups         = [{ name = "own", instance_types = ["c7g.large"], ami_id = "ami-0123456789abcdef0" }]
    model = {
      source  = "s3://models/model.gguf"
      sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
      size_gb = 4.7
    }
  }

  assert {
    condition     = toset(keys(aws_vpc_endpoint.interface)) == toset(["autoscaling", "ec2messages", "logs", "monitoring", "ssm", "ssmmessages"])
    error_message = "What is called has an endpoint."
  }

  assert {
    condition     = alltrue([for endpoint in aws_vpc_endpoint.interface : endpoint.private_dns_enabled])
    error_message = "The endpoints answer to AWS's usual names."
  }

  assert {
    condition     = length(aws_internet_gateway.this) + length(aws_route.internet) + length(aws_eip.balancer) == 0
    error_message = "There is no way to the internet, and none from it."
  }

  assert {
    condition     = aws_launch_template.agent["own"].network_interfaces[0].associate_public_ip_address == "false"
    error_message = "Agents have no public address."
  }

  # 6 endpoints in one zone at $0.01 an hour.
  assert {
    condition     = output.monthly_floor.items.endpoints == 43.8 && output.monthly_floor.items.public_ipv4 == 0
    error_message = "What the endpoints cost is told."
  }
}

run "ipv6_in_place_of_an_elastic_ip" {
  command = plan

  variables {
    public_address = "ipv6"
  }

  assert {
    condition     = length(aws_eip.balancer) == 0 && aws_network_interface.balancer.ipv6_address_count == 1
    error_message = "One IPv6 address, and no Elastic IP."
  }

  assert {
    condition     = aws_vpc.this[0].assign_generated_ipv6_cidr_block && aws_route.internet_ipv6[0].destination_ipv6_cidr_block == "::/0"
    error_message = "The VPC has IPv6, and a way out for it."
  }

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "AWS_USE_DUALSTACK_ENDPOINT=true\n") && strcontains(module.balancer_user_data.text, "BOOT_DUALSTACK=true")
    error_message = "The balancer calls AWS by the endpoints that have IPv6."
  }

  assert {
    condition     = output.monthly_floor.items.public_ipv4 == 0
    error_message = "It saves the price of the address."
  }
}
