# What a month costs in which nobody calls, item by item. The prices are those of infra/prices.json, of one Region and
# with their date: other Regions differ.

locals {
  prices = jsondecode(file("${path.module}/../infra/prices.json"))
  hours  = local.prices.hours_per_month

  # gp3: beyond 125 MiB/s and 3000 IOPS both cost.
  warm_volume_month = { for name in local.group_order : name => (
    local.root_gib[name] * local.prices.gp3_gb_month
    + (local.throughput_mibps[name] - 125) * local.prices.gp3_throughput_mibps_month
    + (local.iops[name] - 3000) * local.prices.gp3_iops_month
  ) }
  # A pool without min_size keeps as many as are missing to its prepared capacity.
  warm_instances = { for name, group in local.groups : name => try(group.warm_pool.max_group_prepared_capacity, 0) }
  # Those that are not stopped are paid for like any other. agents.tf refuses such a pool without a price.
  runs_warm = { for name, group in local.groups : name => try(group.warm_pool.state == "Running", false) }
  warm_instance_month = { for name in local.group_order : name => !local.runs_warm[name] ? 0 : local.hours * (
    (local.group_prices[name] == null ? 0 : local.group_prices[name]) + (var.private ? 0 : local.prices.public_ipv4_hour)
  ) }

  # What an instance-hour costs: as it was said, else on demand the dearest of the types, if all are known. Spot prices
  # change by the hour, so nothing is guessed there.
  group_prices = { for name, group in local.groups : name => (
    group.price_per_hour != null ? group.price_per_hour :
    group.spot ? null : try(max([for type in group.instance_types : local.prices.instance_hour[type]]...), null)
  ) }
  unpriced_groups = [for name in local.group_order : name if local.group_prices[name] == null]

  standard_alarms = 1 + (local.scales ? 0 : 3) + (var.alarm_instance_hours_per_day == null ? 0 : length(var.groups))

  floor_items = {
    instance    = local.prices.instance_hour[var.balancer_instance_type] * local.hours
    public_ipv4 = var.public_address == "eip" ? local.prices.public_ipv4_hour * local.hours : 0
    volume      = var.balancer_volume_gib * local.prices.gp3_gb_month
    alarms      = local.prices.alarm_high_resolution_month + local.standard_alarms * local.prices.alarm_month
    metrics     = local.published_metrics * local.prices.metric_month
    metric_puts = local.puts_hour * local.hours / 1000 * local.prices.put_metric_data_per_1000
    logs        = local.quiet_logs_gb * (local.prices.logs_ingested_gb + local.prices.logs_stored_gb_month)
    endpoints   = length(local.interface_endpoints) * local.prices.interface_endpoint_zone_hour * local.hours
    warm_pool = sum(concat([0], [
      for name in local.group_order : local.warm_instances[name] * (local.warm_volume_month[name] + local.warm_instance_month[name])
    ]))
    dashboard = var.dashboard ? local.prices.dashboard_month : 0
  }
  # At rest the balancer puts once a minute. The CloudWatch Agent puts the same metrics again, with its own, at each flush.
  agent_said        = jsondecode(file("${path.module}/../infra/cloudwatch-agent/amazon-cloudwatch-agent.json")).metrics
  agent_metrics     = length(local.metrics.metrics) + sum([for one in local.agent_said.metrics_collected : length(try(one.measurement, []))])
  published_metrics = length(local.metrics.metrics) + (var.cloudwatch_agent ? local.agent_metrics : 0)
  puts_hour         = 60 + (var.cloudwatch_agent ? 3600 / local.agent_said.force_flush_interval : 0)
  # A balancer at rest logs little: an assumption, on the safe side.
  quiet_logs_gb = 0.1
}
