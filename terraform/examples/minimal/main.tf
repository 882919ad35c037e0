# The cheapest real try-out: a small model on a CPU spot instance, with an image that AWS offers.

provider "aws" {
  region = var.region
}

module "paddock" {
  source = "../.."

  client_cidrs   = var.client_cidrs
  paddock_binary = { for arch, file in var.paddock_files : arch => { file = file } }
  model          = var.model

  # Of one kind: what is cheapest at the moment is taken.
  groups = [{
    name           = "cpu"
    instance_types = ["c7g.large", "c8g.large", "m7g.large", "m6g.large"]
    spot           = true
  }]
}
