variable "cloudwatch_namespace" {
  description = "CloudWatch namespace of the balancer's metrics. Not given: `Paddock/NAME`. Two deployments must not share one, because each would see the other's values."
  type        = string
  default     = null

  validation {
    condition     = var.cloudwatch_namespace == null || can(regex("^[A-Za-z0-9_./#-]{1,255}$", var.cloudwatch_namespace)) && !startswith(coalesce(var.cloudwatch_namespace, "x"), "AWS/")
    error_message = "cloudwatch_namespace may hold letters, digits and . _ - / #, and does not begin with AWS/."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics that are told when the balancer falls silent, and when the instances run for longer than `alarm_instance_hours_per_day`."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:.+$", arn))])
    error_message = "alarm_topic_arns must be ARNs of SNS topics, such as arn:aws:sns:eu-central-1:111122223333:operators."
  }
}

variable "alarm_instance_hours_per_day" {
  description = "Alarm on cost: tell `alarm_topic_arns` when the groups' instances ran for more hours in a day than this, summed up. Not given: no such alarm."
  type        = number
  default     = null

  validation {
    condition     = var.alarm_instance_hours_per_day == null || coalesce(var.alarm_instance_hours_per_day, 1) > 0
    error_message = "alarm_instance_hours_per_day must be above 0."
  }

  validation {
    condition     = var.alarm_instance_hours_per_day == null || length(var.alarm_topic_arns) > 0
    error_message = "alarm_instance_hours_per_day: name alarm_topic_arns, or nobody is told."
  }
}

variable "dashboard" {
  description = "Create a CloudWatch dashboard of the queue, the slots and the instances."
  type        = bool
  default     = false
  nullable    = false
}
