variable "groups" {
  description = "The Auto Scaling groups, in the order in which they are tried: spot first, on demand as its fallback. All serve the same model. An image of your own (`ami_id`) has llama-server in it, or `llama_cpp` names an archive."
  type = list(object({
    name             = string
    instance_types   = list(string)
    spot             = optional(bool, false)
    max_size         = optional(number, 1)
    ami_id           = optional(string)
    llama_cpp        = optional(object({ uri = string, sha256 = string }))
    llama_args       = optional(string, "")
    root_volume_gib  = optional(number)
    throughput_mibps = optional(number)
    price_per_hour   = optional(number)
    warm_pool = optional(object({
      min_size                    = optional(number, 0)
      max_group_prepared_capacity = optional(number, 1)
      state                       = optional(string, "Stopped")
    }))
  }))
  nullable = false

  validation {
    condition     = length(var.groups) > 0
    error_message = "groups: name at least one group."
  }

  validation {
    condition     = var.mode == "scale" || (length(var.groups) == 1 && alltrue([for group in var.groups : group.max_size == 1 && group.warm_pool == null]))
    error_message = "groups: mode = \"metrics-only\" takes one group of max_size 1 without a warm pool, because its alarm sets the capacity to exactly 1."
  }

  validation {
    condition     = length(distinct(var.groups[*].name)) == length(var.groups)
    error_message = "groups: two groups have the same name."
  }

  validation {
    condition     = alltrue([for group in var.groups : can(regex("^[a-z0-9][a-z0-9-]{0,30}$", group.name))])
    error_message = "groups: a name is 1 to 31 lower-case letters, digits and hyphens."
  }

  validation {
    condition     = alltrue([for group in var.groups : length(group.instance_types) > 0 && alltrue([for type in group.instance_types : can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", type))])])
    error_message = "groups: instance_types holds at least one type, such as g6.xlarge."
  }

  validation {
    condition     = alltrue([for group in var.groups : group.max_size >= 1 && floor(group.max_size) == group.max_size])
    error_message = "groups: max_size must be a whole number from 1; a group that is not wanted is left out."
  }

  validation {
    condition     = alltrue([for group in var.groups : group.price_per_hour == null || coalesce(group.price_per_hour, 1) > 0])
    error_message = "groups: price_per_hour is what an instance of the group costs in USD an hour, above 0; leave it out if you do not know."
  }

  validation {
    condition     = alltrue([for group in var.groups : group.llama_cpp == null || can(regex("^(s3|https)://[^/]+/.+", group.llama_cpp.uri)) && can(regex("^[0-9a-f]{64}$", group.llama_cpp.sha256))])
    error_message = "groups: llama_cpp needs a uri (s3://… or https://…) of a .tar.gz with llama-server in it, and its sha256 of 64 hexadecimal digits."
  }

  validation {
    condition     = alltrue([for group in var.groups : can(regex("^[^\"'\\\\\\n]*$", group.llama_args))])
    error_message = "groups: llama_args may hold no quotes, backslashes or line ends."
  }

  validation {
    condition     = alltrue([for group in var.groups : group.warm_pool == null || (!group.spot && length(group.instance_types) == 1)])
    error_message = "groups: a warm pool needs an on-demand group of one instance type; set spot = false, and name one type."
  }

  validation {
    condition = alltrue([for group in var.groups : group.warm_pool == null || try(
      contains(["Stopped", "Running"], group.warm_pool.state)
      && group.warm_pool.min_size >= 0
      && group.warm_pool.max_group_prepared_capacity >= group.warm_pool.min_size
    , false)])
    error_message = "groups: a warm pool's state is Stopped or Running, and its max_group_prepared_capacity is at least its min_size."
  }

  validation {
    condition = alltrue([for group in var.groups :
      (group.root_volume_gib == null || try(group.root_volume_gib >= 8, false))
      && (group.throughput_mibps == null || try(group.throughput_mibps >= 125 && group.throughput_mibps <= 1000, false))
    ])
    error_message = "groups: root_volume_gib is at least 8, and throughput_mibps from 125 to 1000."
  }
}

variable "model" {
  description = "The GGUF file: `source` is s3://BUCKET/KEY, https://… or hf://OWNER/REPOSITORY/FILE; `size_gb` sizes volumes; `token_parameter` names an SSM SecureString with the token that the download needs; `kms_key_arn` is the key of its bucket, if it has one of its own. A bucket of the same Region costs no transfer, and is the only one that `private` reaches."
  type = object({
    source          = string
    sha256          = string
    size_gb         = number
    token_parameter = optional(string)
    kms_key_arn     = optional(string)
  })
  nullable = false

  validation {
    condition     = can(regex("^(s3://[^/]+/.+|https://[^/]+/.+|hf://[^/]+/[^/]+/.+)", var.model.source)) && can(regex("^[^\\s\"'\\\\]+$", var.model.source))
    error_message = "model: source must be s3://BUCKET/KEY, https://HOST/PATH or hf://OWNER/REPOSITORY/FILE, without blanks."
  }

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.model.sha256))
    error_message = "model: sha256 has 64 lower-case hexadecimal digits; print it with sha256sum, or see the file's page at Hugging Face."
  }

  validation {
    condition     = var.model.size_gb > 0 && var.model.size_gb <= 1000
    error_message = "model: size_gb is the file's size in GB (1,000,000,000 bytes), above 0 and at most 1000."
  }

  validation {
    condition     = var.model.token_parameter == null || can(regex("^/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.model.token_parameter))
    error_message = "model: token_parameter is the name of an SSM parameter, such as /paddock/huggingface; never the token itself."
  }

  validation {
    condition     = var.model.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.model.kms_key_arn)) && startswith(var.model.source, "s3://")
    error_message = "model: kms_key_arn is the ARN of the key (arn:aws:kms:REGION:ACCOUNT:key/ID, no alias) of the bucket in an s3:// source."
  }

  validation {
    condition     = var.model.token_parameter == null || !startswith(var.model.source, "s3://")
    error_message = "model: a source in S3 needs no token_parameter, because the agents' role may read it; take it out."
  }

  validation {
    condition     = !var.private || startswith(var.model.source, "s3://") || !var.vpc_endpoints
    error_message = "model: with private = true nothing reaches the internet; copy the file to S3, and name it s3://BUCKET/KEY."
  }
}

variable "orphan_timeout_minutes" {
  description = "An instance that no balancer hears, and that computes nothing, ends itself after so long."
  type        = number
  default     = 15
  nullable    = false

  validation {
    condition     = var.orphan_timeout_minutes >= 5 && var.orphan_timeout_minutes <= 1440 && floor(var.orphan_timeout_minutes) == var.orphan_timeout_minutes
    error_message = "orphan_timeout_minutes must be a whole number from 5 to 1440."
  }
}

variable "keep_failed_boot" {
  description = "Keep one instance whose boot failed, in Standby, so that Session Manager can look at it. It costs until it is ended by hand."
  type        = bool
  default     = false
  nullable    = false
}

variable "create_spot_service_linked_role" {
  description = "Create the account's service-linked role for spot. It exists once in an account, so only the first deployment may ask for it."
  type        = bool
  default     = false
  nullable    = false
}
