# Spot first; when it has nothing to give, the same on demand.

provider "aws" {
  region = var.region
}

module "paddock" {
  source = "../.."

  client_cidrs   = var.client_cidrs
  paddock_binary = { for arch, file in var.paddock_files : arch => { file = file } }
  model          = var.model

  groups = [
    {
      name           = "spot"
      instance_types = ["g6.xlarge", "g5.xlarge", "g4dn.xlarge"]
      spot           = true
      max_size       = 2
      llama_cpp      = var.llama_cpp_archive
      # An estimate: spot prices change. With it the balancer tells what the instances cost.
      price_per_hour = 0.45
    },
    {
      name           = "on-demand"
      instance_types = ["g6.xlarge", "g5.xlarge", "g4dn.xlarge"]
      max_size       = 2
      llama_cpp      = var.llama_cpp_archive
    },
  ]

  create_spot_service_linked_role = var.create_spot_service_linked_role
}
