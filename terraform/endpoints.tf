locals {
  s3_route_tables = local.own_vpc ? aws_route_table.this[*].id : var.route_table_ids

  # What the balancer, the agents and Session Manager call. In one zone, the balancer's: each costs by the zone.
  interface_endpoints = var.private && var.vpc_endpoints ? toset([
    "autoscaling", "ec2messages", "logs", "monitoring", "ssm", "ssmmessages"
  ]) : toset([])
}

resource "aws_vpc_endpoint" "s3" {
  count = local.own_vpc || length(var.route_table_ids) > 0 ? 1 : 0

  vpc_id            = local.vpc_id
  vpc_endpoint_type = "Gateway"
  service_name      = "com.amazonaws.${local.region}.s3"
  route_table_ids   = local.s3_route_tables
  tags              = merge(local.tags, { Name = "${var.name}-s3" })
}

resource "aws_vpc_endpoint" "interface" {
  for_each = local.interface_endpoints

  vpc_id              = local.vpc_id
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${local.region}.${each.key}"
  subnet_ids          = [local.balancer_subnet_id]
  security_group_ids  = aws_security_group.endpoints[*].id
  private_dns_enabled = true
  tags                = merge(local.tags, { Name = "${var.name}-${each.key}" })

  # Else one of them may be given the balancer's address.
  depends_on = [aws_network_interface.balancer]
}

resource "aws_security_group" "endpoints" {
  count = length(local.interface_endpoints) > 0 ? 1 : 0

  name        = "${var.name}-endpoints"
  description = "AWS endpoints, called by the balancer and the agents"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-endpoints" })
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  for_each = length(local.interface_endpoints) > 0 ? {
    balancer = aws_security_group.balancer.id
    agents   = aws_security_group.agents.id
  } : {}

  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "HTTPS from the ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = each.value
  tags                         = local.tags
}
