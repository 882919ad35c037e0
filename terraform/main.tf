# Names, tags and what is looked up. docs/aws-groups.md tells why the groups look as they do.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_ssm_parameter" "balancer_image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
}

data "aws_ec2_instance_type" "agent" {
  for_each = toset(flatten(var.groups[*].instance_types))

  instance_type = each.key
}

data "aws_ssm_parameter" "agent_image" {
  for_each = local.groups

  # For CPUs, too: Ubuntu's own image lacks libgomp, which llama.cpp's builds need, and nothing is installed at boot.
  # A group with an image of its own asks for one that every Region has, and does not use it.
  name = each.value.ami_id != null ? data.aws_ssm_parameter.balancer_image.name : "/aws/service/deeplearning/ami/${local.group_arch[each.key]}/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
}

data "aws_ami" "agent" {
  for_each = local.groups

  filter {
    name   = "image-id"
    values = [local.group_image[each.key]]
  }
}

locals {
  region    = data.aws_region.current.region
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition

  tags = merge(var.tags, { app = var.name })

  groups      = { for group in var.groups : group.name => group }
  group_order = [for group in var.groups : group.name]
  asg_names   = { for name in local.group_order : name => "${var.name}-${name}" }
  scales      = var.mode == "scale"

  # Less than a /8 is no network of anybody's own.
  open_to_internet = anytrue([for cidr in var.client_cidrs : can(regex("/[0-7]$", cidr))])

  proxy_port      = coalesce(var.proxy_port, var.tls == null ? 8080 : 443)
  management_port = 8085
  llamacpp_port   = 8088

  token_parameter = coalesce(var.management_token_parameter, "/${var.name}/management-token")
  namespace       = coalesce(var.cloudwatch_namespace, "Paddock/${var.name}")
  metrics         = jsondecode(file("${path.module}/metrics.json"))

  # The architectures that Linux images of these groups can have.
  group_archs = { for name, group in local.groups : name => distinct(flatten([
    for type in group.instance_types : [
      for arch in data.aws_ec2_instance_type.agent[type].supported_architectures : arch if contains(["arm64", "x86_64"], arch)
    ]
  ])) }
  group_arch = { for name, archs in local.group_archs : name => try(archs[0], "x86_64") }
  group_has_gpu = { for name, group in local.groups : name => anytrue([
    for type in group.instance_types : length(data.aws_ec2_instance_type.agent[type].gpus) > 0
  ]) }

  group_image = { for name, group in local.groups : name => group.ami_id != null ? group.ami_id : data.aws_ssm_parameter.agent_image[name].insecure_value }

  # llama.cpp's own builds for Ubuntu. There is none for CUDA.
  llama_cpp_releases = {
    arm64 = {
      uri    = "https://github.com/ggml-org/llama.cpp/releases/download/b10375/llama-b10375-bin-ubuntu-arm64.tar.gz"
      sha256 = "36fb8a1d1836f575db78e56a875d040ddcd19694a60b67f4cce8bb6531d872ac"
    }
    x86_64 = {
      uri    = "https://github.com/ggml-org/llama.cpp/releases/download/b10375/llama-b10375-bin-ubuntu-x64.tar.gz"
      sha256 = "b6a7ed005240eccd61e1af42debd75b876c639c1416bfa90985fd02618919a88"
    }
  }
  # Null where the image brings llama-server along, and where nothing can be fetched.
  group_llama_cpp = { for name, group in local.groups : name => (
    group.llama_cpp != null ? group.llama_cpp :
    group.ami_id != null || local.group_has_gpu[name] ? null :
    local.llama_cpp_releases[local.group_arch[name]]
  ) }
}
