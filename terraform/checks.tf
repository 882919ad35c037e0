# A quota of 0 is what new accounts have for GPUs, and a wake then fails with "no capacity". It is better to read it here.
# Both quotas count vCPUs of G and VT types, on demand and spot apart.

locals {
  group_vcpus = { for name, group in local.groups : name => group.max_size * max(concat([0], [
    for type in group.instance_types : data.aws_ec2_instance_type.agent[type].default_vcpus if can(regex("^(gr?[0-9]|vt[0-9])", type))
  ])...) }
  on_demand_vcpus = sum(concat([0], [for name, group in local.groups : local.group_vcpus[name] if !group.spot]))
  spot_vcpus      = sum(concat([0], [for name, group in local.groups : local.group_vcpus[name] if group.spot]))
}

check "on_demand_gpu_quota" {
  data "aws_servicequotas_service_quota" "on_demand" {
    service_code = "ec2"
    quota_code   = "L-DB2E81BA"
  }

  assert {
    condition     = local.on_demand_vcpus == 0 || data.aws_servicequotas_service_quota.on_demand.value >= local.on_demand_vcpus
    error_message = "The groups may ask for ${local.on_demand_vcpus} vCPUs of G instances on demand, and the account's quota in ${local.region} is ${data.aws_servicequotas_service_quota.on_demand.value}: raise L-DB2E81BA in Service Quotas, or lower max_size."
  }
}

# A price that is given and not used would be a surprise.
check "prices" {
  assert {
    condition     = length(local.unpriced_groups) == 0 || !anytrue([for group in var.groups : group.price_per_hour != null])
    error_message = "No cost is told, because the price of ${join(", ", local.unpriced_groups)} is not known: give price_per_hour to these groups, too."
  }
}

check "spot_gpu_quota" {
  data "aws_servicequotas_service_quota" "spot" {
    service_code = "ec2"
    quota_code   = "L-3819A6DF"
  }

  assert {
    condition     = local.spot_vcpus == 0 || data.aws_servicequotas_service_quota.spot.value >= local.spot_vcpus
    error_message = "The groups may ask for ${local.spot_vcpus} vCPUs of G spot instances, and the account's quota in ${local.region} is ${data.aws_servicequotas_service_quota.spot.value}: raise L-3819A6DF in Service Quotas, or lower max_size."
  }
}
