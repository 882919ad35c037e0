# Two roles, each with one policy: what the program calls (actions.json), what its boot calls (infra/boot/actions.json),
# and Session Manager. docs/aws-groups.md says what each right is for, and what happens without it.

locals {
  arn_of_region = "arn:${local.partition}:%s:${local.region}:${local.account}:%s"
  bucket_arn    = "arn:${local.partition}:s3:::${local.bucket}"
  log_group_arn = format(local.arn_of_region, "logs", "log-group:${local.log_group}")
  group_arns = [for name in local.group_order : format(
    local.arn_of_region, "autoscaling", "autoScalingGroup:*:autoScalingGroupName/${local.asg_names[name]}"
  )]
  parameter_arns = { for use, parameter in {
    token       = local.token_parameter
    model_token = var.model.token_parameter
    certificate = try(var.tls.certificate_parameter, null)
    key         = try(var.tls.key_parameter, null)
  } : use => format(local.arn_of_region, "ssm", "parameter/${trimprefix(parameter, "/")}") if parameter != null }

  # Only groups of this deployment, even if another's name begins like this one's.
  only_tagged_groups = { StringEquals = { "autoscaling:ResourceTag/app" = var.name } }
  # For what knows no resource.
  only_this_region = { StringEquals = { "aws:RequestedRegion" = local.region } }

  fetched_from_s3 = [for uri in concat([var.model.source], [for name in local.group_order : try(local.group_llama_cpp[name].uri, "")]) :
    "arn:${local.partition}:s3:::${trimprefix(uri, "s3://")}" if startswith(uri, "s3://")
  ]
}

locals {
  scaling_rights = [
    {
      Sid    = "Look"
      Effect = "Allow"
      Action = [
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeLifecycleHooks",
        "autoscaling:DescribeScalingActivities",
      ]
      Resource = "*"
    },
    {
      Sid    = "WakeDrainAndEnd"
      Effect = "Allow"
      Action = [
        "autoscaling:CompleteLifecycleAction",
        "autoscaling:RecordLifecycleActionHeartbeat",
        "autoscaling:SetDesiredCapacity",
        "autoscaling:TerminateInstanceInAutoScalingGroup",
      ]
      Resource  = local.group_arns
      Condition = local.only_tagged_groups
    },
    {
      # This one key: else the role could give any group the tag that opens it.
      Sid      = "ClaimTheGroup"
      Effect   = "Allow"
      Action   = "autoscaling:CreateOrUpdateTags"
      Resource = local.group_arns
      Condition = {
        StringEquals                = { "autoscaling:ResourceTag/app" = var.name }
        "ForAllValues:StringEquals" = { "aws:TagKeys" = ["paddock:balancers"] }
        Null                        = { "aws:TagKeys" = "false" }
      }
    },
  ]

  launching_rights = [
    {
      Sid       = "LaunchInstances"
      Effect    = "Allow"
      Action    = "autoscaling:LaunchInstances"
      Resource  = local.group_arns
      Condition = local.only_tagged_groups
    },
    {
      # Auto Scaling calls these for who calls LaunchInstances.
      Sid       = "LaunchInstancesCalls"
      Effect    = "Allow"
      Action    = ["ec2:CreateFleet", "ec2:DescribeLaunchTemplateVersions"]
      Resource  = "*"
      Condition = local.only_this_region
    },
  ]

  agent_rights = [
    {
      Sid      = "Look"
      Effect   = "Allow"
      Action   = ["autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeLifecycleHooks"]
      Resource = "*"
    },
    {
      Sid       = "EndItself"
      Effect    = "Allow"
      Action    = ["autoscaling:CompleteLifecycleAction", "autoscaling:TerminateInstanceInAutoScalingGroup"]
      Resource  = local.group_arns
      Condition = local.only_tagged_groups
    },
  ]

  keeping_rights = [
    {
      Sid       = "KeepAFailedBoot"
      Effect    = "Allow"
      Action    = "autoscaling:EnterStandby"
      Resource  = local.group_arns
      Condition = local.only_tagged_groups
    },
    {
      Sid      = "KeepOnlyOne"
      Effect   = "Allow"
      Action   = "autoscaling:DescribeAutoScalingGroups"
      Resource = "*"
    },
  ]

  log_rights = {
    Sid      = "Log"
    Effect   = "Allow"
    Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    Resource = "${local.log_group_arn}:*"
  }

  # Session Manager instead of SSH. Systems Manager's calls know no resource.
  session_rights = {
    Sid    = "SessionManager"
    Effect = "Allow"
    Action = [
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    Resource  = "*"
    Condition = local.only_this_region
  }

  # What the SSM agent calls to carry out the association that refreshes the balancer.
  association_rights = {
    Sid    = "RefreshByAssociation"
    Effect = "Allow"
    Action = [
      "ec2messages:AcknowledgeMessage",
      "ec2messages:DeleteMessage",
      "ec2messages:FailMessage",
      "ec2messages:GetEndpoint",
      "ec2messages:GetMessages",
      "ec2messages:SendReply",
      "ssm:DescribeAssociation",
      "ssm:DescribeDocument",
      "ssm:GetDocument",
      "ssm:ListAssociations",
      "ssm:ListInstanceAssociations",
      "ssm:UpdateAssociationStatus",
      "ssm:UpdateInstanceAssociationStatus",
    ]
    Resource  = "*"
    Condition = local.only_this_region
  }

  package_rights = {
    Sid    = "CloudwatchAgentsPackage"
    Effect = "Allow"
    Action = [
      "ssm:GetDeployablePatchSnapshotForInstance",
      "ssm:GetManifest",
      "ssm:PutConfigurePackageResult",
    ]
    Resource  = "*"
    Condition = local.only_this_region
  }
}

locals {
  balancer_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [for statement in local.scaling_rights : statement if local.scales],
      [for statement in local.launching_rights : statement if local.scales && var.asg_wake == "launch-instances"],
      [
        {
          Sid       = "Metrics"
          Effect    = "Allow"
          Action    = "cloudwatch:PutMetricData"
          Resource  = "*"
          Condition = { StringEquals = { "cloudwatch:namespace" = local.namespace } }
        },
        {
          Sid      = "FetchSettingsAndProgram"
          Effect   = "Allow"
          Action   = "s3:GetObject"
          Resource = ["${local.bucket_arn}/balancer/*", "${local.bucket_arn}/paddock/*"]
        },
        {
          Sid      = "MakeAndReadTheToken"
          Effect   = "Allow"
          Action   = ["ssm:GetParameter", "ssm:PutParameter"]
          Resource = local.parameter_arns.token
        },
        local.log_rights,
        local.session_rights,
        local.association_rights,
      ],
      [for statement in [{
        Sid      = "ReadTheCertificate"
        Effect   = "Allow"
        Action   = "ssm:GetParameter"
        Resource = [for use in ["certificate", "key"] : try(local.parameter_arns[use], "")]
      }] : statement if var.tls != null],
      [for statement in [{
        Sid       = "UseTheCustomerKey"
        Effect    = "Allow"
        Action    = ["kms:Decrypt", "kms:Encrypt"]
        Resource  = var.kms_key_arn
        Condition = { StringEquals = { "kms:ViaService" = "ssm.${local.region}.amazonaws.com" } }
      }] : statement if var.kms_key_arn != null],
      [for statement in [local.package_rights] : statement if var.cloudwatch_agent],
    )
  })

  agent_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      local.agent_rights,
      [for statement in local.keeping_rights : statement if var.keep_failed_boot],
      [
        {
          Sid      = "FetchSettingsProgramAndModel"
          Effect   = "Allow"
          Action   = "s3:GetObject"
          Resource = concat(["${local.bucket_arn}/agent/*", "${local.bucket_arn}/paddock/*"], distinct(local.fetched_from_s3))
        },
        {
          Sid      = "ReadTheTokens"
          Effect   = "Allow"
          Action   = "ssm:GetParameter"
          Resource = [for use in ["token", "model_token"] : local.parameter_arns[use] if contains(keys(local.parameter_arns), use)]
        },
        local.log_rights,
        local.session_rights,
      ],
      [for statement in [{
        Sid       = "UseTheCustomerKey"
        Effect    = "Allow"
        Action    = "kms:Decrypt"
        Resource  = var.kms_key_arn
        Condition = { StringEquals = { "kms:ViaService" = "ssm.${local.region}.amazonaws.com" } }
      }] : statement if var.kms_key_arn != null],
      [for statement in [{
        Sid       = "ReadTheModelsBucket"
        Effect    = "Allow"
        Action    = "kms:Decrypt"
        Resource  = var.model.kms_key_arn
        Condition = { StringEquals = { "kms:ViaService" = "s3.${local.region}.amazonaws.com" } }
      }] : statement if var.model.kms_key_arn != null],
    )
  })
}
