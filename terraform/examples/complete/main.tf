# Every part of the module at once: GPUs, TLS, keys, a warm pool, alarms, a dashboard.

provider "aws" {
  region = var.region
}

module "paddock" {
  source = "../.."

  name           = "llm"
  tags           = { team = "platform" }
  client_cidrs   = var.client_cidrs
  api_keys       = var.api_keys
  tls            = var.tls
  kms_key_arn    = var.kms_key_arn
  paddock_binary = { for arch, file in var.paddock_files : arch => { file = file } }
  model          = var.model

  groups = [
    {
      name           = "spot"
      instance_types = ["g6.xlarge", "g5.xlarge"]
      spot           = true
      max_size       = 2
      llama_cpp      = var.llama_cpp_archive
      llama_args     = "--parallel 4 --ctx-size 32768"
      # What it costs at present; on demand the prices of infra/prices.json are taken.
      price_per_hour = 0.42
    },
    {
      name           = "on-demand"
      instance_types = ["g6.xlarge"]
      max_size       = 2
      llama_cpp      = var.llama_cpp_archive
      llama_args     = "--parallel 4 --ctx-size 32768"
      # One stopped instance, which starts without a download.
      warm_pool = { max_group_prepared_capacity = 1 }
    },
  ]

  max_instances        = 3
  idle_timeout_minutes = 10
  boot_timeout_minutes = 15
  keep_failed_boot     = true
  max_cost_per_day     = 12

  balancer_instance_type = "t4g.micro"
  cloudwatch_agent       = true
  balancer_settings      = { PADDOCK_KEEPALIVE_STATUS = "true" }

  log_retention_days           = 90
  alarm_topic_arns             = [var.alarm_topic_arn]
  alarm_instance_hours_per_day = 12
  dashboard                    = true
}
