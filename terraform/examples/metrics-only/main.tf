# Alarms start and end one instance; the balancer holds requests and publishes metrics.

provider "aws" {
  region = var.region
}

module "paddock" {
  source = "../.."

  mode           = "metrics-only"
  client_cidrs   = var.client_cidrs
  paddock_binary = { for arch, file in var.paddock_files : arch => { file = file } }
  model          = var.model

  groups = [{
    name           = "cpu"
    instance_types = ["c7g.large"]
    max_size       = 1
  }]

  idle_timeout_minutes = 10
}
