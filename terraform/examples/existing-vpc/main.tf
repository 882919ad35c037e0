# In a VPC of your own: public subnets, a route table that gets the way to S3.

provider "aws" {
  region = var.region
}

module "paddock" {
  source = "../.."

  client_cidrs   = var.client_cidrs
  paddock_binary = { for arch, file in var.paddock_files : arch => { file = file } }
  model          = var.model

  vpc_id              = var.vpc_id
  subnet_ids          = var.subnet_ids
  balancer_subnet_id  = var.subnet_ids[0]
  balancer_private_ip = var.balancer_private_ip
  route_table_ids     = var.route_table_ids

  groups = [{
    name           = "cpu"
    instance_types = ["c7g.large"]
  }]
}
