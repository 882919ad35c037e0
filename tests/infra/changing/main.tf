# What somebody changes later: which parts are made anew, and which are not.

variable "api_keys" {
  type    = list(string)
  default = []
}

variable "boot_timeout_minutes" {
  type    = number
  default = 10
}

variable "kms_key_arn" {
  type    = string
  default = null
}

variable "management_token_parameter" {
  type    = string
  default = null
}

variable "public_address" {
  type    = string
  default = "eip"
}

variable "warm_pool" {
  type    = object({})
  default = {}
}

module "paddock" {
  source = "../../../terraform"

  paddock_binary             = { arm64 = { file = "${path.module}/../../../terraform/tests/fixtures/paddock" } }
  client_cidrs               = ["203.0.113.0/24"]
  groups                     = [{ name = "cpu", instance_types = ["c7g.large"], warm_pool = var.warm_pool }]
  api_keys                   = var.api_keys
  boot_timeout_minutes       = var.boot_timeout_minutes
  kms_key_arn                = var.kms_key_arn
  management_token_parameter = var.management_token_parameter
  public_address             = var.public_address

  model = {
    source  = "https://example.com/model.gguf"
    sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
    size_gb = 1
  }
}
