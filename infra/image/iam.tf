# Two roles: the machine that builds, and Image Builder itself where it deletes old images. What else Image Builder does, it
# does by the service-linked role that it makes for itself.

locals {
  components_arn = "${local.arn}:imagebuilder:${local.region}:${local.account}:component/${local.name}-*"
  images_arn     = "${local.arn}:imagebuilder:${local.region}:${local.account}:image/${local.name}/*"
  log_group_arn  = "${local.arn}:logs:${local.region}:${local.account}:log-group:/aws/imagebuilder/${local.name}"
  paddock_arn    = "${local.arn}:s3:::${trimprefix(var.paddock_uri, "s3://")}"
  made_by_it     = { StringEquals = { "aws:ResourceTag/CreatedBy" = "EC2 Image Builder" } }

  build_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ReadComponents"
        Effect   = "Allow"
        Action   = "imagebuilder:GetComponent"
        Resource = local.components_arn
      },
      {
        Sid      = "ReadPaddock"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = local.paddock_arn
      },
      {
        # AWS's own buckets: the program that runs components.
        Sid      = "ReadImageBuilder"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = "${local.arn}:s3:::ec2imagebuilder*"
      },
      {
        Sid      = "WriteLogs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = [local.log_group_arn, "${local.log_group_arn}:*"]
      },
    ]
  }

  expire_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Look"
        Effect   = "Allow"
        Action   = ["ec2:DescribeImages", "tag:GetResources"]
        Resource = "*"
      },
      {
        Sid       = "DeleteImages"
        Effect    = "Allow"
        Action    = ["ec2:DeregisterImage", "ec2:DescribeImageAttribute"]
        Resource  = "${local.arn}:ec2:${local.region}::image/*"
        Condition = local.made_by_it
      },
      {
        Sid       = "DeleteSnapshots"
        Effect    = "Allow"
        Action    = "ec2:DeleteSnapshot"
        Resource  = "${local.arn}:ec2:${local.region}::snapshot/*"
        Condition = local.made_by_it
      },
      {
        Sid      = "ForgetImages"
        Effect   = "Allow"
        Action   = "imagebuilder:DeleteImage"
        Resource = local.images_arn
      },
    ]
  }
}

resource "aws_iam_role" "build" {
  name_prefix = "${local.name}-build-"
  tags        = local.tags

  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy" "build" {
  name   = "build"
  role   = aws_iam_role.build.id
  policy = jsonencode(local.build_policy)
}

# Systems Manager is how Image Builder reaches the machine, and AWS asks for this very policy: with less, builds wait for it in vain.
resource "aws_iam_role_policy_attachment" "commanded" {
  role       = aws_iam_role.build.name
  policy_arn = "${local.arn}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_instance_profile" "build" {
  name_prefix = "${local.name}-build-"
  role        = aws_iam_role.build.name
  tags        = local.tags
}

resource "aws_iam_role" "expire" {
  name_prefix = "${local.name}-expire-"
  tags        = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "imagebuilder.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy" "expire" {
  name   = "expire"
  role   = aws_iam_role.expire.id
  policy = jsonencode(local.expire_policy)
}
