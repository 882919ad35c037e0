variable "balancer_instance_type" {
  description = "The balancer's instance: t4g.nano, t4g.micro or t4g.small."
  type        = string
  default     = "t4g.nano"
  nullable    = false

  validation {
    condition     = contains(["t4g.nano", "t4g.micro", "t4g.small"], var.balancer_instance_type)
    error_message = "balancer_instance_type must be t4g.nano, t4g.micro or t4g.small."
  }
}

variable "balancer_ami_id" {
  description = "An arm64 image for the balancer with systemd, curl, Python 3 and the SSM agent. Not given: Amazon Linux 2023. A later change does not replace the balancer."
  type        = string
  default     = null

  validation {
    condition     = var.balancer_ami_id == null || can(regex("^ami-[0-9a-f]+$", var.balancer_ami_id))
    error_message = "balancer_ami_id must be the id of an image, such as ami-0123456789abcdef0."
  }
}

variable "balancer_volume_gib" {
  description = "Size of the balancer's volume, in GiB."
  type        = number
  default     = 8
  nullable    = false

  validation {
    condition     = var.balancer_volume_gib >= 8 && floor(var.balancer_volume_gib) == var.balancer_volume_gib
    error_message = "balancer_volume_gib must be a whole number from 8, the size of Amazon Linux's image."
  }
}

variable "public_address" {
  description = "What clients outside the VPC reach the balancer by: `eip` (an Elastic IP), `ipv6` (no public IPv4, which saves its price) or `none`."
  type        = string
  default     = "eip"
  nullable    = false

  validation {
    condition     = contains(["eip", "ipv6", "none"], var.public_address)
    error_message = "public_address must be \"eip\", \"ipv6\" or \"none\"."
  }

  validation {
    condition     = !var.private || var.public_address == "none"
    error_message = "public_address must be \"none\" with private = true."
  }

  validation {
    condition     = var.private || var.public_address != "none" || var.vpc_id != null
    error_message = "public_address \"none\" leaves the balancer without a way to AWS in the module's own VPC; set private = true, which adds endpoints, or bring a VPC with a NAT."
  }
}

variable "proxy_port" {
  description = "The port that clients call. Not given: 443 with `tls`, else 8080."
  type        = number
  default     = null

  validation {
    condition     = var.proxy_port == null || (coalesce(var.proxy_port, 1) >= 1 && coalesce(var.proxy_port, 1) <= 65535 && !contains([8085, 8088], coalesce(var.proxy_port, 1)))
    error_message = "proxy_port must be from 1 to 65535, and neither 8085 (management) nor 8088 (llama.cpp)."
  }
}

variable "idle_timeout_minutes" {
  description = "From an instance's last response byte to its end."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.idle_timeout_minutes >= 1 && var.idle_timeout_minutes <= 1440 && floor(var.idle_timeout_minutes) == var.idle_timeout_minutes
    error_message = "idle_timeout_minutes must be a whole number from 1 to 1440."
  }
}

variable "boot_timeout_minutes" {
  description = "An instance that does not serve so long after its launch has failed. The model's download counts."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.boot_timeout_minutes >= 1 && var.boot_timeout_minutes <= 120 && floor(var.boot_timeout_minutes) == var.boot_timeout_minutes
    error_message = "boot_timeout_minutes must be a whole number from 1 to 120."
  }
}

variable "max_instances" {
  description = "Never more instances over all groups. Not given: the largest group's max_size."
  type        = number
  default     = null

  validation {
    condition     = var.max_instances == null || (coalesce(var.max_instances, 1) >= 1 && floor(coalesce(var.max_instances, 1)) == coalesce(var.max_instances, 1))
    error_message = "max_instances must be a whole number from 1."
  }
}

variable "asg_wake" {
  description = "How a group is woken: `set-desired-capacity`, or `launch-instances` (experimental; it adds `ec2:CreateFleet` to the balancer's rights)."
  type        = string
  default     = "set-desired-capacity"
  nullable    = false

  validation {
    condition     = contains(["set-desired-capacity", "launch-instances"], var.asg_wake)
    error_message = "asg_wake must be \"set-desired-capacity\" or \"launch-instances\"."
  }

  validation {
    condition     = var.asg_wake == "set-desired-capacity" || var.mode == "scale"
    error_message = "asg_wake has no meaning with mode = \"metrics-only\"; leave it out."
  }
}

variable "max_cost_per_day" {
  description = "Start no further instance once those of the day (UTC) have cost so many USD, by the groups' prices: requests that would need one get 503 `budget_exhausted`, and what runs ends once its answers have. Not given: no such limit."
  type        = number
  default     = null

  validation {
    condition     = var.max_cost_per_day == null || coalesce(var.max_cost_per_day, 1) > 0
    error_message = "max_cost_per_day must be above 0; leave it out for no limit."
  }

  validation {
    condition     = var.max_cost_per_day == null || var.mode == "scale"
    error_message = "max_cost_per_day has no meaning with mode = \"metrics-only\", where alarms start instances; leave it out."
  }

  validation {
    condition     = var.max_cost_per_day == null || length(local.unpriced_groups) == 0
    error_message = "max_cost_per_day needs the price of every group; give price_per_hour to ${join(", ", local.unpriced_groups)}."
  }
}

variable "balancer_settings" {
  description = "Further flags of `paddock balancer` in their environment form, such as `PADDOCK_KEEPALIVE_STATUS = \"true\"`. They win over the module's."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.balancer_settings) : can(regex("^PADDOCK_[A-Z_]+$", key))])
    error_message = "balancer_settings: the keys are PADDOCK_ and a flag's name in capitals; `paddock balancer --help` lists them."
  }

  validation {
    condition = !anytrue([for key in keys(var.balancer_settings) : contains([
      "PADDOCK_MANAGEMENT_TOKEN", "PADDOCK_LLAMACPP_API_KEY", "PADDOCK_MANAGEMENT_NO_AUTH"
    ], key)])
    error_message = "balancer_settings: secrets would be kept in Terraform's state, and management without a token lets anybody be sent prompts; take them out."
  }

  # Rights, alarms and checks follow the variables, and would not follow these.
  validation {
    condition = !anytrue([for key in keys(var.balancer_settings) : contains([
      "PADDOCK_ASG_WAKE", "PADDOCK_CLOUDWATCH_NAMESPACE", "PADDOCK_MAX_COST_PER_DAY", "PADDOCK_PRICE_PER_HOUR"
    ], key)])
    error_message = "balancer_settings: rights, alarms and checks would not follow ${join(" and ", [
      for key, variable in {
        PADDOCK_ASG_WAKE             = "asg_wake"
        PADDOCK_CLOUDWATCH_NAMESPACE = "cloudwatch_namespace"
        PADDOCK_MAX_COST_PER_DAY     = "max_cost_per_day"
        PADDOCK_PRICE_PER_HOUR       = "the price_per_hour of each of the groups"
      } : "${key}; set ${variable} instead" if contains(keys(var.balancer_settings), key)
    ])}."
  }

  validation {
    condition     = !anytrue([for key in keys(var.balancer_settings) : contains(["PADDOCK_REVERSEPROXY_ADDR", "PADDOCK_MANAGEMENT_ADDR", "PADDOCK_ASG_NAME", "PADDOCK_FLEET", "PADDOCK_STATE_DIR"], key)])
    error_message = "balancer_settings: addresses, groups, fleet and the state's directory are the module's; use proxy_port, groups and mode."
  }

  validation {
    condition     = alltrue([for value in values(var.balancer_settings) : can(regex("^[^\"'\\\\\\n]*$", value))])
    error_message = "balancer_settings: values may hold no quotes, backslashes or line ends."
  }
}

variable "cloudwatch_agent" {
  description = "Run the CloudWatch Agent on the balancer: memory and disk as metrics, and StatsD. It needs t4g.micro or larger, and publishes every 10 s (see `monthly_floor`); metrics and logs of Paddock do not need it."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.cloudwatch_agent || var.balancer_instance_type != "t4g.nano"
    error_message = "cloudwatch_agent does not fit into a t4g.nano's 512 MiB; set balancer_instance_type = \"t4g.micro\"."
  }
}
