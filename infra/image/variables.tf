variable "kind" {
  description = "`gpu`: x86_64 with NVIDIA's driver and CUDA, on AWS's Deep Learning Base image. `cpu`: arm64, on Ubuntu 24.04."
  type        = string

  validation {
    condition     = contains(["gpu", "cpu"], var.kind)
    error_message = "kind must be gpu or cpu."
  }
}

variable "name" {
  description = "What everything is called, with `-KIND` behind it. One name and kind is one line of images, of which the oldest expire."
  type        = string
  default     = "paddock"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "name must be 2 to 31 small letters, digits and hyphens, and begin with a letter: it becomes part of ARNs."
  }
}

variable "paddock_uri" {
  description = "The paddock program for the image's architecture (gpu: x86_64, cpu: aarch64), as `s3://BUCKET/KEY` of this Region."
  type        = string

  validation {
    condition     = can(regex("^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[A-Za-z0-9._/-]+$", var.paddock_uri))
    error_message = "paddock_uri must look like s3://BUCKET/KEY; upload the program first: aws s3 cp target/release/paddock s3://BUCKET/KEY."
  }
}

variable "paddock_sha256" {
  description = "SHA-256 of that file, as `sha256sum` prints it. A build that reads something else fails."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.paddock_sha256))
    error_message = "paddock_sha256 must be 64 hexadecimal digits, as sha256sum prints them."
  }
}

variable "llama_cpp" {
  description = "The release of llama.cpp. `commit` is what the tag stands for, and is what is built (gpu); `archive_sha256` is of its archive llama-TAG-bin-ubuntu-arm64.tar.gz (cpu)."
  type = object({
    tag            = string
    commit         = string
    archive_sha256 = string
  })
  default = {
    tag            = "b10375"
    commit         = "ba360efe1f574ebae727aad64112d18ecedca85a"
    archive_sha256 = "36fb8a1d1836f575db78e56a875d040ddcd19694a60b67f4cce8bb6531d872ac"
  }
  nullable = false

  validation {
    condition     = can(regex("^b[0-9]{4,6}$", var.llama_cpp.tag))
    error_message = "llama_cpp.tag must be a release's tag, such as b10375."
  }

  validation {
    condition     = can(regex("^[0-9a-f]{40}$", var.llama_cpp.commit))
    error_message = "llama_cpp.commit must be the 40 hexadecimal digits of the commit that the tag stands for."
  }

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.llama_cpp.archive_sha256))
    error_message = "llama_cpp.archive_sha256 must be 64 hexadecimal digits, as sha256sum prints them."
  }
}

variable "cuda_architectures" {
  description = "GPU generations that llama.cpp is built for: 75 is g4dn, 86 g5, 89 g6 and g6e. Each adds to the build's time and to the program's size. Of kind `gpu` only."
  type        = list(number)
  default     = [75, 86, 89]
  nullable    = false

  validation {
    condition     = length(var.cuda_architectures) > 0 && alltrue([for generation in var.cuda_architectures : generation >= 50 && generation <= 200])
    error_message = "cuda_architectures must name at least one generation, such as 89."
  }
}

variable "instance_types" {
  description = "Types of which Image Builder takes one to build and test. Not given: g4dn.2xlarge (gpu), c7g.large (cpu). A gpu image is tested on a GPU, so of kind `gpu` they must have one."
  type        = list(string)
  default     = null

  validation {
    condition     = var.instance_types == null || length(coalesce(var.instance_types, [])) > 0
    error_message = "instance_types must not be empty; leave it out for the default."
  }

  validation {
    condition     = var.kind != "gpu" || alltrue([for type in coalesce(var.instance_types, []) : can(regex("^(g4dn|g5|g6|g6e|g6f|gr6|p[3-6][a-z]*)\\.", type))])
    error_message = "instance_types of kind gpu must be x86_64 types with an NVIDIA GPU, such as g4dn.2xlarge."
  }

  validation {
    condition     = var.kind != "cpu" || alltrue([for type in coalesce(var.instance_types, []) : can(regex("^[a-z]+[0-9]+g[a-z]*\\.", type))])
    error_message = "instance_types of kind cpu must be arm64 types, such as c7g.large."
  }
}

variable "volume_gib" {
  description = "Size of the image's root volume. Not given: 100 (gpu), 16 (cpu). Not below the base image's; the model is not in it."
  type        = number
  default     = null

  validation {
    condition     = var.volume_gib == null || coalesce(var.volume_gib, 16) >= 16 && floor(coalesce(var.volume_gib, 16)) == coalesce(var.volume_gib, 16)
    error_message = "volume_gib must be a whole number from 16 on."
  }
}

variable "kms_key_arn" {
  description = "The key that encrypts the image's snapshots. Not given: the account's default key for EBS. Who launches the image must be allowed to use it."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn must be a key's ARN."
  }
}

variable "network" {
  description = "Where to build: a subnet that reaches the internet, and security groups that let HTTPS out. Not given: the default VPC with its default group."
  type = object({
    subnet_id          = string
    security_group_ids = list(string)
  })
  default = null

  validation {
    condition     = var.network == null || can(regex("^subnet-[0-9a-f]+$", var.network.subnet_id)) && length(try(var.network.security_group_ids, [])) > 0
    error_message = "network needs a subnet_id, such as subnet-0123456789abcdef0, and at least one of security_group_ids."
  }
}

variable "schedule" {
  description = "When to look for a newer base image and build if there is one, as a cron expression of six fields in UTC, such as `cron(0 3 ? * sun *)`. Not given: never by itself."
  type        = string
  default     = null

  validation {
    condition     = var.schedule == null || can(regex("^cron\\(([^ ]+ ){5}[^ ]+\\)$", var.schedule))
    error_message = "schedule must be a cron expression of six fields, such as cron(0 3 ? * sun *)."
  }
}

variable "keep_images" {
  description = "The newest images that are kept; older ones are deleted with their snapshots, unless an instance was launched from them in the last 30 days."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.keep_images >= 1 && var.keep_images <= 1000 && floor(var.keep_images) == var.keep_images
    error_message = "keep_images must be a whole number from 1 to 1000."
  }
}

variable "log_retention_days" {
  description = "How long the logs of builds are kept."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_retention_days)
    error_message = "log_retention_days must be one of CloudWatch's: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731."
  }
}

variable "tags" {
  description = "Tags of everything, beside `app = paddock`."
  type        = map(string)
  default     = {}
  nullable    = false
}
