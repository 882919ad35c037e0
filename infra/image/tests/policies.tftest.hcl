# What the two roles may do: exactly this.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  kind           = "cpu"
  paddock_uri    = "s3://some-bucket/paddock/aarch64/paddock"
  paddock_sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
}

run "the_machine_that_builds" {
  command = plan

  assert {
    condition = toset(flatten([for statement in jsondecode(aws_iam_role_policy.build.policy).Statement : statement.Action])) == toset([
      "imagebuilder:GetComponent", "s3:GetObject",
      "logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents",
    ])
    error_message = "It reads what it builds from, and writes its log."
  }

  assert {
    condition     = endswith(aws_iam_role_policy_attachment.commanded.policy_arn, ":policy/AmazonSSMManagedInstanceCore")
    error_message = "Systems Manager reaches it."
  }

  assert {
    condition = alltrue([for statement in jsondecode(aws_iam_role_policy.build.policy).Statement :
      statement.Resource != "*"
    ])
    error_message = "Each right is for what it is needed for."
  }

  assert {
    condition = toset([for statement in jsondecode(aws_iam_role_policy.build.policy).Statement : statement.Resource if statement.Action == "s3:GetObject"]) == toset([
      "arn:aws:s3:::some-bucket/paddock/aarch64/paddock", "arn:aws:s3:::ec2imagebuilder*",
    ])
    error_message = "Of S3 it reads the program, and Image Builder's own."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.build.policy).Statement : statement.Resource if statement.Sid == "ReadComponents"] == ["arn:aws:imagebuilder:eu-central-1:111122223333:component/paddock-cpu-*"]
    error_message = "It reads its own components."
  }

  assert {
    condition     = jsondecode(aws_iam_role.build.assume_role_policy).Statement[0].Principal == { Service = "ec2.amazonaws.com" }
    error_message = "The role is a machine's."
  }
}

run "what_deletes_old_images" {
  command = plan

  assert {
    condition = toset(flatten([for statement in jsondecode(aws_iam_role_policy.expire.policy).Statement : statement.Action])) == toset([
      "ec2:DescribeImages", "tag:GetResources", "ec2:DeregisterImage", "ec2:DescribeImageAttribute", "ec2:DeleteSnapshot", "imagebuilder:DeleteImage",
    ])
    error_message = "It finds images and deletes them."
  }

  assert {
    condition = alltrue([for statement in jsondecode(aws_iam_role_policy.expire.policy).Statement :
      try(statement.Condition.StringEquals["aws:ResourceTag/CreatedBy"], "") == "EC2 Image Builder"
      if length(setintersection(flatten([statement.Action]), ["ec2:DeregisterImage", "ec2:DeleteSnapshot"])) > 0
    ])
    error_message = "It deletes nothing of EC2 that Image Builder has not made."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.expire.policy).Statement : statement.Resource if statement.Action == "imagebuilder:DeleteImage"] == ["arn:aws:imagebuilder:eu-central-1:111122223333:image/paddock-cpu/*"]
    error_message = "It forgets images of this name alone."
  }

  assert {
    condition     = jsondecode(aws_iam_role.expire.assume_role_policy).Statement[0].Principal == { Service = "imagebuilder.amazonaws.com" } && jsondecode(aws_iam_role.expire.assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "111122223333"
    error_message = "Image Builder takes the role for this account only."
  }
}
