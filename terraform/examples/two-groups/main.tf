# Two kinds of machine: an arm64 GPU first because it is cheaper, an x86_64 one as fallback.

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
      name           = "g5g"
      instance_types = ["g5g.xlarge"]
      ami_id         = var.arm64_ami_id
      llama_args     = "--parallel 2 --ctx-size 16384"
    },
    {
      name           = "g6"
      instance_types = ["g6.xlarge"]
      ami_id         = var.x86_64_ami_id
      llama_args     = "--parallel 4 --ctx-size 32768"
    },
  ]
}
