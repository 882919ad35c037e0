# The way back up when the balancer's own calls fail, the whole of mode = "metrics-only", and who is told of what.

locals {
  first_asg = aws_autoscaling_group.agent[local.group_order[0]].name
}

# Exactly 1, so only groups that are known to wish for 0 may be woken so: wake_wanted is never 1 otherwise.
resource "aws_autoscaling_policy" "wake" {
  name                    = "${var.name}-wake"
  autoscaling_group_name  = local.first_asg
  policy_type             = "StepScaling"
  adjustment_type         = "ExactCapacity"
  metric_aggregation_type = "Maximum"

  step_adjustment {
    metric_interval_lower_bound = "0"
    scaling_adjustment          = 1
  }
}

resource "aws_cloudwatch_metric_alarm" "wake" {
  alarm_name          = "${var.name}-wake"
  alarm_description   = "Requests wait, and nothing was started for them: set ${local.asg_names[local.group_order[0]]} to 1."
  namespace           = local.namespace
  metric_name         = "wake_wanted"
  dimensions          = local.metrics.dimensions
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 10
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_autoscaling_policy.wake.arn]
  tags                = local.tags

  lifecycle {
    precondition {
      condition     = contains(local.metrics.metrics, "wake_wanted")
      error_message = "metrics.json does not name wake_wanted: the balancer publishes nothing for this alarm."
    }
  }
}

# Counts puts, not agents: at rest one a minute. A balancer that is gone publishes nothing.
resource "aws_cloudwatch_metric_alarm" "silent_balancer" {
  alarm_name          = "${var.name}-silent-balancer"
  alarm_description   = "The balancer has published no metric for 5 minutes: nobody answers or wakes. Look at ${local.log_group}, or reach it by Session Manager."
  namespace           = local.namespace
  metric_name         = "agents"
  dimensions          = local.metrics.dimensions
  statistic           = "SampleCount"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 5
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = local.tags
}

resource "aws_autoscaling_policy" "rest" {
  count = local.scales ? 0 : 1

  name                    = "${var.name}-rest"
  autoscaling_group_name  = local.first_asg
  policy_type             = "StepScaling"
  adjustment_type         = "ExactCapacity"
  metric_aggregation_type = "Maximum"

  step_adjustment {
    metric_interval_upper_bound = "0"
    scaling_adjustment          = 0
  }
}

# One period as long as the idle time, because the minutes between two puts may miss one.
resource "aws_cloudwatch_metric_alarm" "rest" {
  count = local.scales ? 0 : 1

  alarm_name          = "${var.name}-rest"
  alarm_description   = "Nothing waited or was computed for ${var.idle_timeout_minutes} minutes: set the group to 0."
  comparison_operator = "LessThanThreshold"
  threshold           = 0.5
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_autoscaling_policy.rest[0].arn]
  tags                = local.tags

  metric_query {
    id = "work"
    # While it is in alarm, a scaling action is repeated every minute. So not at rest, nor during a boot: only with an agent.
    expression  = "IF(present > 0, waiting + computing, 1)"
    label       = "requests that wait and slots that compute, while an agent was there all the time"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = {
      waiting   = { name = "requests_buffered", stat = "Maximum" }
      computing = { name = "slots_processing", stat = "Maximum" }
      present   = { name = "agents", stat = "Minimum" }
    }

    content {
      id          = metric_query.key
      return_data = false

      metric {
        namespace   = local.namespace
        metric_name = metric_query.value.name
        dimensions  = local.metrics.dimensions
        stat        = metric_query.value.stat
        period      = var.idle_timeout_minutes * 60
      }
    }
  }
}

# Hours and not dollars: what AWS publishes of its bill is in one Region only, and hours late.
resource "aws_cloudwatch_metric_alarm" "instance_hours" {
  count = var.alarm_instance_hours_per_day == null ? 0 : 1

  alarm_name          = "${var.name}-instance-hours"
  alarm_description   = "The instances of ${var.name} ran for more than ${coalesce(var.alarm_instance_hours_per_day, 0)} hours within a day."
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarm_instance_hours_per_day
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  tags                = local.tags

  metric_query {
    id          = "hours"
    expression  = "(${join(" + ", [for index, name in local.group_order : "FILL(group${index}, 0)"])}) / 60"
    label       = "instance hours in a day"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { for index, name in local.group_order : "group${index}" => local.asg_names[name] }

    content {
      id          = metric_query.key
      return_data = false

      # A value each minute: the sum over a day counts instance minutes.
      metric {
        namespace   = "AWS/AutoScaling"
        metric_name = "GroupInServiceInstances"
        dimensions  = { AutoScalingGroupName = metric_query.value }
        stat        = "Sum"
        period      = 86400
      }
    }
  }
}
