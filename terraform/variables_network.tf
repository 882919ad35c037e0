variable "vpc_id" {
  description = "A VPC of your own, with `subnet_ids` and `balancer_subnet_id`. Not given: the module makes one with public subnets."
  type        = string
  default     = null

  validation {
    condition     = var.vpc_id == null || can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id must be the id of a VPC, such as vpc-0123456789abcdef0."
  }
}

variable "vpc_cidr" {
  description = "IPv4 network of the module's own VPC."
  type        = string
  default     = "10.85.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && can(regex("/(1[6-9]|2[0-2])$", var.vpc_cidr))
    error_message = "vpc_cidr must be an IPv4 network from /16 to /22, such as 10.85.0.0/16."
  }
}

variable "subnet_ids" {
  description = "The agents' subnets in a VPC of your own. A group uses those whose zone offers one of its instance types."
  type        = list(string)
  default     = null

  validation {
    condition     = (var.subnet_ids == null) == (var.vpc_id == null) && try(length(var.subnet_ids) > 0, true)
    error_message = "subnet_ids goes with vpc_id: name both, and at least one subnet, or neither to let the module make a VPC."
  }
}

variable "balancer_subnet_id" {
  description = "The balancer's subnet in a VPC of your own. For `public_address` other than none it routes to an internet gateway."
  type        = string
  default     = null

  validation {
    condition     = (var.balancer_subnet_id == null) == (var.vpc_id == null)
    error_message = "balancer_subnet_id goes with vpc_id: name both, or neither to let the module make a VPC."
  }
}

variable "balancer_private_ip" {
  description = "The balancer's private address in a VPC of your own. Not given: AWS chooses one, which then stays."
  type        = string
  default     = null

  validation {
    condition     = var.balancer_private_ip == null || (can(cidrnetmask("${coalesce(var.balancer_private_ip, "x")}/32")) && var.vpc_id != null)
    error_message = "balancer_private_ip must be an IPv4 address of balancer_subnet_id, in a VPC of your own."
  }
}

variable "route_table_ids" {
  description = "Route tables of a VPC of your own that get an S3 gateway endpoint (free; the model's download then costs no transfer). `[]`: none is made."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.route_table_ids) == 0 || var.vpc_id != null
    error_message = "route_table_ids: name the vpc_id that they belong to; the module's own VPC has its endpoint anyway."
  }
}

variable "private" {
  description = "No public address and no way to the internet for anybody: AWS is reached through interface endpoints (about $7.3 a month each), clients come from inside the VPC or from networks that are joined to it."
  type        = bool
  default     = false
  nullable    = false
}

variable "vpc_endpoints" {
  description = "With `private`: make the interface endpoints. `false` in a VPC of your own that has them, or a NAT."
  type        = bool
  default     = true
  nullable    = false

  validation {
    condition     = var.vpc_endpoints || var.vpc_id != null
    error_message = "vpc_endpoints = false is for a VPC of your own; the module's own VPC has no other way to AWS with private = true."
  }
}
