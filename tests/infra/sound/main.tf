# A small configuration without a mistake, of the kinds of resources that the module has.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.25"
    }
  }
}

variable "name" {
  type    = string
  default = "sound"
}

locals {
  actions = jsondecode(file("actions.json"))
  looks   = [for action in local.actions.balancer : action if startswith(split(":", action)[1], "Describe")]
  writes  = [for action in local.actions.balancer : action if !contains(local.looks, action)]
}

resource "aws_launch_template" "agent" {
  name          = var.name
  instance_type = "c7g.large"

  block_device_mappings {
    device_name = "/dev/sda1"

    ebs {
      encrypted   = true
      volume_size = 20
      volume_type = "gp3"
    }
  }

  metadata_options {
    http_tokens = "required"
  }
}

resource "aws_autoscaling_group" "agent" {
  name               = "${var.name}-agent"
  availability_zones = ["eu-central-1a"]
  min_size           = 0
  max_size           = 1

  launch_template {
    id = aws_launch_template.agent.id
  }
}

resource "aws_iam_role" "balancer" {
  name = var.name
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy" "balancer" {
  role = aws_iam_role.balancer.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = local.looks, Resource = "*" },
      { Effect = "Allow", Action = local.writes, Resource = aws_autoscaling_group.agent.arn },
    ]
  })
}
