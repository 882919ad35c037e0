variable "name" {
  description = "Name of this deployment: the prefix of every resource, and the value of the tag `app` that the roles' rights depend on."
  type        = string
  default     = "paddock"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name))
    error_message = "name must be 2 to 24 lower-case letters, digits and hyphens, beginning with a letter: it becomes part of a bucket's name."
  }
}

variable "tags" {
  description = "Tags for everything that can have tags. A later change reaches new instances, but not the groups themselves, where the balancer's claim is a tag."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.tags) : can(regex("^[A-Za-z0-9+=.,_:@-]+$", key))])
    error_message = "tags: keys may hold letters, digits and + - = . , _ : @ only, because instances read their tags in the metadata; take blanks and slashes out."
  }

  validation {
    condition     = !anytrue([for key in ["app", "Name"] : contains(keys(var.tags), key)])
    error_message = "tags: app and Name are the module's own; take them out, and choose them by the variable name."
  }
}

variable "mode" {
  description = "`scale`: the balancer starts and ends instances, an alarm stands by. `metrics-only`: alarms do both, for one group of max_size 1."
  type        = string
  default     = "scale"
  nullable    = false

  validation {
    condition     = contains(["scale", "metrics-only"], var.mode)
    error_message = "mode must be \"scale\" or \"metrics-only\"."
  }
}

variable "paddock_binary" {
  description = "The program for each architecture (`arm64`, `x86_64`) that the balancer (arm64) or a group needs: a local `file`, or an `s3_uri` with its `sha256`. It is copied to the module's bucket."
  type = map(object({
    file   = optional(string)
    s3_uri = optional(string)
    sha256 = optional(string)
  }))
  nullable = false

  validation {
    condition     = alltrue([for arch in keys(var.paddock_binary) : contains(["arm64", "x86_64"], arch)])
    error_message = "paddock_binary: the keys are architectures: arm64 and x86_64."
  }

  validation {
    condition     = contains(keys(var.paddock_binary), "arm64")
    error_message = "paddock_binary: arm64 is missing, which the balancer's t4g instance needs; build it for aarch64 Linux and name its file."
  }

  validation {
    condition     = alltrue([for binary in values(var.paddock_binary) : (binary.file == null) != (binary.s3_uri == null)])
    error_message = "paddock_binary: give each architecture either file or s3_uri, not both."
  }

  validation {
    condition     = alltrue([for binary in values(var.paddock_binary) : try(fileexists(binary.file), true)])
    error_message = "paddock_binary: a file does not exist; build it (cargo build --release --target …) or correct its path."
  }

  validation {
    condition     = alltrue([for binary in values(var.paddock_binary) : binary.s3_uri == null || can(regex("^s3://[^/]+/.+", binary.s3_uri))])
    error_message = "paddock_binary: an s3_uri has the form s3://BUCKET/KEY."
  }

  validation {
    condition     = alltrue([for binary in values(var.paddock_binary) : binary.s3_uri == null || binary.sha256 != null])
    error_message = "paddock_binary: an s3_uri needs its sha256; print it with sha256sum."
  }

  validation {
    condition     = alltrue([for binary in values(var.paddock_binary) : binary.sha256 == null || can(regex("^[0-9a-f]{64}$", binary.sha256))])
    error_message = "paddock_binary: a sha256 has 64 lower-case hexadecimal digits; print it with sha256sum."
  }

  validation {
    condition     = alltrue([for binary in values(var.paddock_binary) : try(filesha256(binary.file) == coalesce(binary.sha256, filesha256(binary.file)), true)])
    error_message = "paddock_binary: a file's sha256 is not the one that is given; build or download the file anew, or correct the sum."
  }
}

variable "client_cidrs" {
  description = "Networks whose clients may call the proxy. `[]`: nobody but through Session Manager. The whole internet needs `api_keys`."
  type        = list(string)
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.client_cidrs : can(cidrnetmask(cidr)) || can(cidrhost(cidr, 0))])
    error_message = "client_cidrs: each must be a network such as 203.0.113.7/32 or 2001:db8::/32."
  }
}

variable "api_keys" {
  description = "Lines `NAME sha256:…` as `paddock key new NAME` prints them second: hashes, no keys. `[]`: whoever reaches the proxy may use it."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for line in var.api_keys : can(regex("^[A-Za-z0-9._@-]+ sha256:[0-9a-f]{64}$", line))])
    error_message = "api_keys: each must be a line NAME sha256:HASH; make one with `paddock key new NAME`, and take the second line that it prints."
  }

  validation {
    condition     = length(var.api_keys) > 0 || !local.open_to_internet
    error_message = "api_keys: client_cidrs opens the proxy to the internet, so clients need keys; make one with `paddock key new NAME`, or narrow client_cidrs."
  }
}

variable "allow_plain_http" {
  description = "Let the internet call the proxy without TLS: keys and prompts then travel in the clear."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = var.allow_plain_http || var.tls != null || !local.open_to_internet
    error_message = "allow_plain_http: client_cidrs opens the proxy to the internet without TLS; set tls, narrow client_cidrs, or set allow_plain_http = true."
  }
}

variable "tls" {
  description = "Names of the SSM parameters (SecureString for the key) that hold the proxy's certificate chain and private key as PEM. Not given: plain HTTP."
  type = object({
    certificate_parameter = string
    key_parameter         = string
  })
  default = null

  validation {
    condition     = var.tls == null || alltrue([for name in try(values(var.tls), []) : can(regex("^/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", name))])
    error_message = "tls: give the names of SSM parameters, such as /paddock/tls-key."
  }
}

variable "management_token_parameter" {
  description = "Name of the SSM parameter into which the balancer puts the management token that it makes. Not given: `/NAME/management-token`."
  type        = string
  default     = null

  validation {
    condition     = var.management_token_parameter == null || can(regex("^/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", var.management_token_parameter))
    error_message = "management_token_parameter must be the name of an SSM parameter that begins with a slash, such as /paddock/management-token."
  }
}

variable "kms_key_arn" {
  description = "A customer key that encrypts the management token (and the other SSM parameters that are named here). Not given: the account's default key for SSM."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a key (arn:aws:kms:REGION:ACCOUNT:key/ID), not an alias."
  }
}

variable "log_retention_days" {
  description = "How long CloudWatch Logs keeps what the balancer and the agents log."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be one that CloudWatch Logs knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731 or more years."
  }
}
