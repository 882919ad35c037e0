# One VPC with public subnets, no NAT gateway and no load balancer: each would cost several times what the balancer
# costs. Who needs one brings a VPC of their own.

data "aws_availability_zones" "available" {
  state = "available"

  # Without local zones, which offer little and cost more.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_ec2_instance_type_offerings" "agent" {
  for_each = local.groups

  location_type = "availability-zone"

  filter {
    name   = "instance-type"
    values = each.value.instance_types
  }
}

data "aws_ec2_instance_type_offerings" "balancer" {
  location_type = "availability-zone"

  filter {
    name   = "instance-type"
    values = [var.balancer_instance_type]
  }
}

data "aws_subnet" "agent" {
  count = local.own_vpc ? 0 : length(var.subnet_ids)

  id = var.subnet_ids[count.index]
}

locals {
  # By the list and not by vpc_id, whose value is not known at the plan when the same configuration makes the VPC.
  own_vpc = var.subnet_ids == null
  ipv6    = var.public_address == "ipv6"

  zones_offering = { for name in local.group_order : name => distinct(data.aws_ec2_instance_type_offerings.agent[name].locations) }
  zones_useful = [
    for zone in data.aws_availability_zones.available.names : zone
    if contains(flatten(values(local.zones_offering)), zone)
  ]
  zones_for_balancer = [
    for zone in data.aws_availability_zones.available.names : zone
    if contains(data.aws_ec2_instance_type_offerings.balancer.locations, zone)
  ]
  # Not chosen by the groups: another group's types must not move the balancer, and its address with it.
  balancer_zone = try(local.zones_for_balancer[0], "none")
  # A zone's network depends on its place among all zones, so that another group's types move no subnet.
  own_zones = local.own_vpc ? {
    for index, zone in data.aws_availability_zones.available.names : zone => index
    if contains(local.zones_useful, zone) || zone == local.balancer_zone
  } : {}

  vpc_id             = local.own_vpc ? aws_vpc.this[0].id : var.vpc_id
  balancer_subnet_id = local.own_vpc ? aws_subnet.this[local.balancer_zone].id : var.balancer_subnet_id
  balancer_ip        = local.own_vpc ? cidrhost(cidrsubnet(var.vpc_cidr, 4, lookup(local.own_zones, local.balancer_zone, 0)), 10) : var.balancer_private_ip
  group_subnets = { for name in local.group_order : name => local.own_vpc ? [
    for zone in keys(local.own_zones) : aws_subnet.this[zone].id if contains(local.zones_offering[name], zone)
    ] : [
    for subnet in data.aws_subnet.agent : subnet.id if contains(local.zones_offering[name], subnet.availability_zone)
  ] }
}

resource "aws_vpc" "this" {
  count = local.own_vpc ? 1 : 0

  cidr_block                       = var.vpc_cidr
  assign_generated_ipv6_cidr_block = local.ipv6
  enable_dns_hostnames             = true
  enable_dns_support               = true
  tags                             = merge(local.tags, { Name = var.name })

  lifecycle {
    precondition {
      condition     = local.balancer_zone != "none"
      error_message = "No zone of this Region offers ${var.balancer_instance_type}; choose another balancer_instance_type."
    }
  }
}

# The VPC's default group admits its members to each other; nothing of ours uses it.
resource "aws_default_security_group" "this" {
  count = local.own_vpc ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = merge(local.tags, { Name = "${var.name}-default-unused" })
}

resource "aws_internet_gateway" "this" {
  count = local.own_vpc && !var.private ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = merge(local.tags, { Name = var.name })
}

resource "aws_subnet" "this" {
  for_each = local.own_zones

  vpc_id                  = aws_vpc.this[0].id
  availability_zone       = each.key
  cidr_block              = cidrsubnet(var.vpc_cidr, 4, each.value)
  ipv6_cidr_block         = local.ipv6 ? cidrsubnet(aws_vpc.this[0].ipv6_cidr_block, 8, each.value) : null
  map_public_ip_on_launch = false
  tags                    = merge(local.tags, { Name = "${var.name}-${each.key}" })
}

resource "aws_route_table" "this" {
  count = local.own_vpc ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = merge(local.tags, { Name = var.name })
}

resource "aws_route" "internet" {
  count = length(aws_internet_gateway.this)

  route_table_id         = aws_route_table.this[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route" "internet_ipv6" {
  count = local.ipv6 ? length(aws_internet_gateway.this) : 0

  route_table_id              = aws_route_table.this[0].id
  destination_ipv6_cidr_block = "::/0"
  gateway_id                  = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "this" {
  for_each = aws_subnet.this

  subnet_id      = each.value.id
  route_table_id = aws_route_table.this[0].id
}
