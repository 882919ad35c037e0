# What the two roles may do: exactly what the program and its boot call, on what is theirs.

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

run "the_balancer_may_do_what_it_calls" {
  command = plan

  assert {
    condition = toset(flatten([for statement in jsondecode(aws_iam_role_policy.balancer.policy).Statement : statement.Action])) == toset(concat(
      [for action in jsondecode(file("actions.json")).balancer : action
      if !contains(["autoscaling:LaunchInstances", "ec2:CreateFleet", "ec2:DescribeLaunchTemplateVersions"], action)],
      jsondecode(file("../infra/boot/actions.json")).balancer,
      [
        "ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
        "ec2messages:AcknowledgeMessage", "ec2messages:DeleteMessage", "ec2messages:FailMessage", "ec2messages:GetEndpoint",
        "ec2messages:GetMessages", "ec2messages:SendReply",
        "ssm:DescribeAssociation", "ssm:DescribeDocument", "ssm:GetDocument", "ssm:ListAssociations",
        "ssm:ListInstanceAssociations", "ssm:UpdateAssociationStatus", "ssm:UpdateInstanceAssociationStatus",
      ],
    ))
    error_message = "The balancer's rights are what its code and its boot call, and Session Manager: no more and no less."
  }
}

run "launch_instances_takes_all_that_the_code_names" {
  command = plan

  variables {
    asg_wake = "launch-instances"
  }

  assert {
    condition = length(setsubtract(
      jsondecode(file("actions.json")).balancer,
      flatten([for statement in jsondecode(aws_iam_role_policy.balancer.policy).Statement : statement.Action]),
    )) == 0
    error_message = "Every action of actions.json is in the policy."
  }

  assert {
    condition     = strcontains(aws_s3_object.balancer_settings.content, "PADDOCK_ASG_WAKE=launch-instances\n")
    error_message = "The balancer is told to launch so."
  }
}

run "the_agents_may_do_what_they_call" {
  command = plan

  variables {
    keep_failed_boot = true
  }

  assert {
    condition = toset(flatten([for statement in jsondecode(aws_iam_role_policy.agent.policy).Statement : statement.Action])) == toset(concat(
      jsondecode(file("actions.json")).agent,
      jsondecode(file("../infra/boot/actions.json")).agent,
      [
        "ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
      ],
    ))
    error_message = "The agents' rights are what their code and their boot call, and Session Manager: no more and no less."
  }
}

run "nobody_keeps_a_failed_boot_unasked" {
  command = plan

  assert {
    condition     = !contains(flatten([for statement in jsondecode(aws_iam_role_policy.agent.policy).Statement : statement.Action]), "autoscaling:EnterStandby")
    error_message = "Without keep_failed_boot no agent may put itself into Standby."
  }
}

run "no_write_on_everything_without_a_condition" {
  command = plan

  variables {
    asg_wake         = "launch-instances"
    keep_failed_boot = true
    cloudwatch_agent = true

    balancer_instance_type = "t4g.micro"
  }

  assert {
    condition = alltrue(flatten([for policy in [aws_iam_role_policy.balancer.policy, aws_iam_role_policy.agent.policy] : [
      for statement in jsondecode(policy).Statement :
      !contains(flatten([statement.Resource]), "*") || can(statement.Condition) || alltrue([for action in flatten([statement.Action]) : can(regex("^autoscaling:Describe", action))])
    ]]))
    error_message = "On every resource only Describe… is without a condition."
  }

  assert {
    condition = !anytrue(flatten([for policy in [aws_iam_role_policy.balancer.policy, aws_iam_role_policy.agent.policy] : [
      for statement in jsondecode(policy).Statement : [for action in flatten([statement.Action]) : strcontains(action, "*")]
    ]]))
    error_message = "Actions are written out."
  }
}

run "groups_are_theirs_by_name_and_tag" {
  command = plan

  variables {
    asg_wake         = "launch-instances"
    keep_failed_boot = true
  }

  assert {
    condition = alltrue(flatten([for policy in [aws_iam_role_policy.balancer.policy, aws_iam_role_policy.agent.policy] : [
      for statement in jsondecode(policy).Statement :
      statement.Resource == ["arn:aws:autoscaling:eu-central-1:111122223333:autoScalingGroup:*:autoScalingGroupName/paddock-cpu"]
      && statement.Condition.StringEquals["autoscaling:ResourceTag/app"] == "paddock"
      if anytrue([for action in flatten([statement.Action]) : can(regex("^autoscaling:[^D]", action))])
    ]]))
    error_message = "What changes a group names the groups, and their tag."
  }

  assert {
    condition     = anytrue([for tag in aws_autoscaling_group.agent["cpu"].tag : tag.key == "app" && tag.value == "paddock"])
    error_message = "The groups carry the tag that the rights depend on."
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.balancer.policy).Statement : statement.Condition if statement.Sid == "ClaimTheGroup"] == [{
      StringEquals                = { "autoscaling:ResourceTag/app" = "paddock" }
      "ForAllValues:StringEquals" = { "aws:TagKeys" = ["paddock:balancers"] }
      Null                        = { "aws:TagKeys" = "false" }
    }]
    error_message = "The claim's tag, and no other: else the role could give any group the tag that opens it."
  }
}

run "metrics_go_into_one_namespace" {
  command = plan

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.balancer.policy).Statement : statement.Condition if statement.Sid == "Metrics"] == [
      { StringEquals = { "cloudwatch:namespace" = aws_cloudwatch_metric_alarm.wake.namespace } }
    ]
    error_message = "The balancer may publish in the namespace of its alarms only."
  }
}

run "each_role_reads_what_is_its_own" {
  command = plan

  variables {
    model = {
      source  = "s3://models/folder/model.gguf"
      sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
      size_gb = 4.7
    }
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.balancer.policy).Statement : statement.Resource if statement.Action == "s3:GetObject"] == [
      ["arn:aws:s3:::paddock-111122223333-eu-central-1/balancer/*", "arn:aws:s3:::paddock-111122223333-eu-central-1/paddock/*"]
    ]
    error_message = "The balancer reads its settings and the program."
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.agent.policy).Statement : statement.Resource if statement.Action == "s3:GetObject"] == [[
      "arn:aws:s3:::paddock-111122223333-eu-central-1/agent/*", "arn:aws:s3:::paddock-111122223333-eu-central-1/paddock/*",
      "arn:aws:s3:::models/folder/model.gguf",
    ]]
    error_message = "The agents read their settings, the program and the one model; not the clients' keys."
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.balancer.policy).Statement : statement.Resource if statement.Sid == "MakeAndReadTheToken"] == [
      "arn:aws:ssm:eu-central-1:111122223333:parameter/paddock/management-token"
    ]
    error_message = "The balancer puts one parameter."
  }

  assert {
    condition     = !contains(flatten([for statement in jsondecode(aws_iam_role_policy.agent.policy).Statement : statement.Action]), "ssm:PutParameter")
    error_message = "Agents read the token, and never write it."
  }

  assert {
    condition = alltrue([for policy in [aws_iam_role_policy.balancer.policy, aws_iam_role_policy.agent.policy] :
      [for statement in jsondecode(policy).Statement : statement.Resource if statement.Sid == "Log"] == ["arn:aws:logs:eu-central-1:111122223333:log-group:/paddock/paddock:*"]
    ])
    error_message = "Both log into one group."
  }
}

run "the_token_of_the_model_is_read_by_agents" {
  command = plan

  variables {
    model = {
      source          = "hf://someone/gated/model.gguf"
      sha256          = "0000000000000000000000000000000000000000000000000000000000000000"
      size_gb         = 4.7
      token_parameter = "/paddock/huggingface"
    }
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.agent.policy).Statement : statement.Resource if statement.Sid == "ReadTheTokens"] == [[
      "arn:aws:ssm:eu-central-1:111122223333:parameter/paddock/management-token", "arn:aws:ssm:eu-central-1:111122223333:parameter/paddock/huggingface",
    ]]
    error_message = "The agents read the two tokens."
  }

  assert {
    condition     = strcontains(aws_s3_object.agent_settings["cpu"].content, "FETCH_MODEL_TOKEN_PARAMETER=/paddock/huggingface\n")
    error_message = "The agents are told the parameter's name; its value is nowhere in Terraform."
  }
}

run "a_customer_key_is_used_through_ssm_only" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.balancer.policy).Statement : [statement.Action, statement.Condition] if statement.Sid == "UseTheCustomerKey"] == [
      [["kms:Decrypt", "kms:Encrypt"], { StringEquals = { "kms:ViaService" = "ssm.eu-central-1.amazonaws.com" } }]
    ]
    error_message = "The balancer writes and reads the token with the key."
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.agent.policy).Statement : [statement.Action, statement.Condition] if statement.Sid == "UseTheCustomerKey"] == [
      ["kms:Decrypt", { StringEquals = { "kms:ViaService" = "ssm.eu-central-1.amazonaws.com" } }]
    ]
    error_message = "The agents read with it."
  }

  assert {
    condition     = strcontains(module.balancer_user_data.text, "BOOT_TOKEN_KMS_KEY=arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555")
    error_message = "The balancer is told which key to use."
  }
}

run "a_models_bucket_with_a_key_of_its_own" {
  command = plan

  variables {
    model = { source = "s3://models/model.gguf", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", size_gb = 4.7, kms_key_arn = "arn:aws:kms:eu-central-1:111122223333:key/22222222-2222-3333-4444-555555555555" }
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.agent.policy).Statement : [statement.Action, statement.Resource, statement.Condition] if statement.Sid == "ReadTheModelsBucket"] == [
      ["kms:Decrypt", var.model.kms_key_arn, { StringEquals = { "kms:ViaService" = "s3.eu-central-1.amazonaws.com" } }]
    ]
    error_message = "The agents decrypt with it, through S3 only."
  }
}

run "only_over_tls_to_the_bucket" {
  command = plan

  assert {
    condition = (
      jsondecode(aws_s3_bucket_policy.this.policy).Statement[0].Effect == "Deny"
      && jsondecode(aws_s3_bucket_policy.this.policy).Statement[0].Condition.Bool["aws:SecureTransport"] == "false"
    )
    error_message = "The bucket refuses calls without TLS."
  }
}
