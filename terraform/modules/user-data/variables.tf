variable "role" {
  description = "What the instance is: balancer or agent."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["balancer", "agent"], var.role)
    error_message = "The role is balancer or agent."
  }
}

variable "settings" {
  description = "What the instance must know before it can fetch its settings object: BOOT_REGION, BOOT_BUCKET, BOOT_SETTINGS_KEY, BOOT_TOKEN_PARAMETER, BOOT_LOG_GROUP, and where it applies BOOT_TOKEN_KMS_KEY and BOOT_KEEP_FAILED. No secret: user data can be read by everybody who may describe the instance."
  type        = map(string)
  nullable    = false

  validation {
    condition = alltrue([
      for name in ["BOOT_REGION", "BOOT_BUCKET", "BOOT_SETTINGS_KEY", "BOOT_TOKEN_PARAMETER", "BOOT_LOG_GROUP"] :
      try(length(var.settings[name]) > 0, false)
    ])
    error_message = "The settings name at least BOOT_REGION, BOOT_BUCKET, BOOT_SETTINGS_KEY, BOOT_TOKEN_PARAMETER and BOOT_LOG_GROUP."
  }

  validation {
    condition = alltrue([
      for name, value in var.settings :
      can(regex("^BOOT_[A-Z_]+$", name)) && can(regex("^[A-Za-z0-9_./:@+=,-]*$", value))
    ])
    error_message = "Each setting is named BOOT_…, and its value is of letters, digits and _ . / : @ + = , - only: it becomes a line of systemd's environment file."
  }
}
