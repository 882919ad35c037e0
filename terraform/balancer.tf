# The only part that always runs. Its interface, and so its address, outlives the instance.

locals {
  management_ip = coalesce(local.balancer_ip, aws_network_interface.balancer.private_ip)
  balancer_bootstrap = {
    BOOT_REGION          = local.region
    BOOT_BUCKET          = local.bucket
    BOOT_SETTINGS_KEY    = local.balancer_settings_key
    BOOT_TOKEN_PARAMETER = local.token_parameter
    BOOT_TOKEN_KMS_KEY   = var.kms_key_arn == null ? "" : var.kms_key_arn
    BOOT_LOG_GROUP       = local.log_group
    BOOT_DUALSTACK       = tostring(local.ipv6)
  }
}

module "balancer_user_data" {
  source = "./modules/user-data"

  role     = "balancer"
  settings = local.balancer_bootstrap
}

# What an instance learns at its first boot only, because user data cannot be changed under it.
resource "terraform_data" "balancer_bootstrap" {
  input = local.balancer_bootstrap
}

resource "aws_network_interface" "balancer" {
  subnet_id          = local.balancer_subnet_id
  description        = "The balancer of ${var.name}: agents call its address"
  security_groups    = [aws_security_group.balancer.id]
  private_ips        = local.balancer_ip == null ? null : [local.balancer_ip]
  ipv6_address_count = local.ipv6 ? 1 : null
  tags               = merge(local.tags, { Name = "${var.name}-balancer" })
}

resource "aws_eip" "balancer" {
  count = var.public_address == "eip" ? 1 : 0

  domain            = "vpc"
  network_interface = aws_network_interface.balancer.id
  tags              = merge(local.tags, { Name = "${var.name}-balancer" })

  # Without the gateway, an address cannot be attached, nor taken away.
  depends_on = [aws_internet_gateway.this]
}

resource "aws_instance" "balancer" {
  ami                         = coalesce(var.balancer_ami_id, data.aws_ssm_parameter.balancer_image.insecure_value)
  instance_type               = var.balancer_instance_type
  iam_instance_profile        = aws_iam_instance_profile.balancer.name
  user_data_base64            = module.balancer_user_data.base64
  user_data_replace_on_change = false
  ebs_optimized               = true
  tags                        = merge(local.tags, { Name = "${var.name}-balancer" })
  volume_tags                 = merge(local.tags, { Name = "${var.name}-balancer" })

  primary_network_interface {
    network_interface_id = aws_network_interface.balancer.id
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    # A key of the provider's default_tags may be one that the metadata refuses.
    instance_metadata_tags = "disabled"
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = var.balancer_volume_gib
    encrypted   = true
  }

  # A t4g begins without credits: under "standard" its first boot would take minutes.
  credit_specification {
    cpu_credits = "unlimited"
  }

  maintenance_options {
    auto_recovery = "default"
  }

  lifecycle {
    # A newer image or script is no reason to replace what clients are connected to. docs/aws.md tells how to do it.
    ignore_changes = [ami, user_data, user_data_base64]
    # Its rights and the agents follow another token's name, key or way to AWS at once, and it would go on with the old one.
    replace_triggered_by = [terraform_data.balancer_bootstrap]
  }

  # At its first boot it needs the internet, its rights and its settings.
  depends_on = [
    aws_eip.balancer,
    aws_route.internet,
    aws_route.internet_ipv6,
    aws_route_table_association.this,
    aws_vpc_endpoint.s3,
    aws_vpc_endpoint.interface,
    aws_vpc_security_group_egress_rule.https,
    aws_vpc_security_group_egress_rule.https_ipv6,
    aws_iam_role_policy.balancer,
    aws_s3_object.balancer_settings,
    aws_s3_object.balancer_boot,
    aws_cloudwatch_log_group.this,
  ]
}

# Changed settings or scripts are taken at once: each change makes another association, which runs once. The program restarts
# behind its sockets.
resource "aws_ssm_association" "refresh" {
  association_name = "${var.name}-refresh"
  name             = "AWS-RunShellScript"

  parameters = {
    commands = "systemctl start paddock-refresh.service"
  }

  # So that settings which the program refuses fail the apply. By IPv6 alone, Systems Manager may not reach the machine.
  wait_for_success_timeout_seconds = local.ipv6 ? null : 900

  targets {
    key    = "InstanceIds"
    values = [aws_instance.balancer.id]
  }

  tags = local.tags

  lifecycle {
    # Another one, because the provider waits only for one that it makes.
    replace_triggered_by = [aws_s3_object.balancer_settings.content, aws_s3_object.balancer_boot.content, aws_instance.balancer.id]
  }
}

# Put there by Systems Manager, because nothing is installed by a package manager at boot.
resource "aws_ssm_association" "cloudwatch_agent" {
  count = var.cloudwatch_agent ? 1 : 0

  association_name = "${var.name}-cloudwatch-agent"
  name             = "AWS-ConfigureAWSPackage"

  parameters = {
    action = "Install"
    name   = "AmazonCloudWatchAgent"
  }

  targets {
    key    = "InstanceIds"
    values = [aws_instance.balancer.id]
  }

  tags = local.tags
}
