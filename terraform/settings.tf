# The settings objects: what instances fetch at every boot, as KEY=value lines. A release or a setting is a new object and
# a restart, never a new instance.

locals {
  # What fits into the instance's memory: the whole program, and of that the waiting requests' bodies.
  balancer_memory = {
    "t4g.nano"  = { limit = "400M", buffered = "96MiB" }
    "t4g.micro" = { limit = "800M", buffered = "256MiB" }
    "t4g.small" = { limit = "1600M", buffered = "512MiB" }
  }[var.balancer_instance_type]

  balancer_settings = merge(
    {
      PADDOCK_MAX_BUFFERED_BYTES   = local.balancer_memory.buffered
      PADDOCK_CLOUDWATCH_NAMESPACE = local.namespace
      # Behind the token, on an address that only agents and Session Manager reach; it costs nothing while nobody looks.
      PADDOCK_MANAGEMENT_DASHBOARD_ENABLE = "true"
      MEMORY_MAX                          = local.balancer_memory.limit
      PROXY_PORT                          = tostring(local.proxy_port)
      FETCH_PADDOCK_URI                   = "s3://${local.bucket}/${local.binary_keys["arm64"]}"
      FETCH_PADDOCK_SHA256                = local.binary_sha256["arm64"]
    },
    { for key, value in {
      PADDOCK_ASG_NAME      = join(",", [for name in local.group_order : local.asg_names[name]])
      PADDOCK_ASG_WAKE      = var.asg_wake
      PADDOCK_MAX_INSTANCES = tostring(coalesce(var.max_instances, max(var.groups[*].max_size...)))
      PADDOCK_IDLE_TIMEOUT  = "${var.idle_timeout_minutes}m"
      PADDOCK_BOOT_TIMEOUT  = "${var.boot_timeout_minutes}m"
    } : key => value if local.scales },
    { for key, value in { PADDOCK_FLEET = "none" } : key => value if !local.scales },
    # In the order of PADDOCK_ASG_NAME. With a price missing there is time to be told, and no cost.
    { for key, value in {
      PADDOCK_PRICE_PER_HOUR = join(",", [for name in local.group_order : coalesce(local.group_prices[name], 0)])
    } : key => value if local.scales && length(local.unpriced_groups) == 0 },
    { for key, value in {
      PADDOCK_MAX_COST_PER_DAY = try(tostring(var.max_cost_per_day), "")
    } : key => value if var.max_cost_per_day != null },
    { for key, value in {
      FETCH_API_KEYS_URI    = "s3://${local.bucket}/${local.api_keys_key}"
      FETCH_API_KEYS_SHA256 = sha256(local.api_keys_text)
    } : key => value if length(var.api_keys) > 0 },
    { for key, value in {
      FETCH_TLS_CERT_PARAMETER = try(var.tls.certificate_parameter, "")
      FETCH_TLS_KEY_PARAMETER  = try(var.tls.key_parameter, "")
    } : key => value if var.tls != null },
    { for key, value in {
      CLOUDWATCH_AGENT    = "true"
      PADDOCK_STATSD_ADDR = "127.0.0.1:8125"
      # The agent forgets gauges at each of its collections.
      PADDOCK_STATSD_REPORTING_INTERVAL = "5s"
    } : key => value if var.cloudwatch_agent },
    { for key, value in { AWS_USE_DUALSTACK_ENDPOINT = "true" } : key => value if local.ipv6 },
    var.balancer_settings,
  )
  balancer_settings_text = join("", [for key in sort(keys(local.balancer_settings)) : "${key}=${local.balancer_settings[key]}\n"])

  agent_settings = { for name, group in local.groups : name => { for key, value in {
    PADDOCK_MANAGEMENT_ADDR     = "${local.management_ip}:${local.management_port}"
    PADDOCK_ORPHAN_TIMEOUT      = "${var.orphan_timeout_minutes}m"
    PADDOCK_LAUNCHING_HOOK      = group.warm_pool == null ? null : local.launching_hook
    FETCH_PADDOCK_URI           = "s3://${local.bucket}/${try(local.binary_keys[local.group_arch[name]], "")}"
    FETCH_PADDOCK_SHA256        = try(local.binary_sha256[local.group_arch[name]], null)
    FETCH_MODEL_URI             = var.model.source
    FETCH_MODEL_SHA256          = var.model.sha256
    FETCH_MODEL_TOKEN_PARAMETER = var.model.token_parameter
    FETCH_LLAMA_URI             = try(local.group_llama_cpp[name].uri, null)
    FETCH_LLAMA_SHA256          = try(local.group_llama_cpp[name].sha256, null)
    LLAMA_ARGS                  = group.llama_args
  } : key => value if value != null } }
  agent_settings_texts = { for name, settings in local.agent_settings : name => join("", [
    for key in sort(keys(settings)) : "${key}=${settings[key]}\n"
  ]) }
}
