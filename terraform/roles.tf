locals {
  for_ec2 = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

# The Region in the names: roles are of the account, deployments of a Region.
resource "aws_iam_role" "balancer" {
  name               = "${var.name}-balancer-${local.region}"
  description        = "The balancer of ${var.name}"
  assume_role_policy = local.for_ec2
  tags               = local.tags
}

resource "aws_iam_role_policy" "balancer" {
  name   = "paddock"
  role   = aws_iam_role.balancer.id
  policy = local.balancer_policy
}

resource "aws_iam_instance_profile" "balancer" {
  name = aws_iam_role.balancer.name
  role = aws_iam_role.balancer.name
  tags = local.tags
}

resource "aws_iam_role" "agent" {
  name               = "${var.name}-agent-${local.region}"
  description        = "The agents of ${var.name}"
  assume_role_policy = local.for_ec2
  tags               = local.tags
}

resource "aws_iam_role_policy" "agent" {
  name   = "paddock"
  role   = aws_iam_role.agent.id
  policy = local.agent_policy
}

resource "aws_iam_instance_profile" "agent" {
  name = aws_iam_role.agent.name
  role = aws_iam_role.agent.name
  tags = local.tags
}
