# Clients reach the proxy, agents the management port, the balancer llama.cpp: nothing else reaches anything. There is
# no SSH; Session Manager needs no open port.

resource "aws_security_group" "balancer" {
  name        = "${var.name}-balancer"
  description = "The balancer of ${var.name}"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-balancer" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "agents" {
  name        = "${var.name}-agents"
  description = "The agents of ${var.name}"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-agents" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = toset(var.client_cidrs)

  security_group_id = aws_security_group.balancer.id
  description       = "Clients call the proxy"
  ip_protocol       = "tcp"
  from_port         = local.proxy_port
  to_port           = local.proxy_port
  cidr_ipv4         = strcontains(each.key, ":") ? null : each.key
  cidr_ipv6         = strcontains(each.key, ":") ? each.key : null
  tags              = local.tags
}

locals {
  # Between the two of us, and the only ways.
  inside = {
    management = {
      description = "Agents report to the management port"
      port        = local.management_port
      from        = aws_security_group.agents.id
      to          = aws_security_group.balancer.id
    }
    llamacpp = {
      description = "The balancer calls llama.cpp"
      port        = local.llamacpp_port
      from        = aws_security_group.balancer.id
      to          = aws_security_group.agents.id
    }
  }
}

resource "aws_vpc_security_group_ingress_rule" "inside" {
  for_each = local.inside

  security_group_id            = each.value.to
  description                  = each.value.description
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  referenced_security_group_id = each.value.from
  tags                         = local.tags
}

resource "aws_vpc_security_group_egress_rule" "inside" {
  for_each = local.inside

  security_group_id            = each.value.from
  description                  = each.value.description
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  referenced_security_group_id = each.value.to
  tags                         = local.tags
}

locals {
  https_egress = {
    balancer = aws_security_group.balancer.id
    agents   = aws_security_group.agents.id
  }
}

# AWS, the model and llama.cpp are fetched over HTTPS. Where there is no way to the internet, this leads to endpoints only.
resource "aws_vpc_security_group_egress_rule" "https" {
  for_each = local.https_egress

  security_group_id = each.value
  description       = "HTTPS to AWS and to where the model comes from"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
  tags              = local.tags
}

resource "aws_vpc_security_group_egress_rule" "https_ipv6" {
  for_each = local.ipv6 ? { balancer = aws_security_group.balancer.id } : {}

  security_group_id = each.value
  description       = "HTTPS to AWS"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv6         = "::/0"
  tags              = local.tags
}
