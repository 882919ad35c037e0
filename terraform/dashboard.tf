locals {
  dashboard_widgets = [
    {
      title   = "Requests that wait"
      metrics = [for metric in ["requests_buffered", "wake_wanted"] : concat([local.namespace, metric], flatten([for key, value in local.metrics.dimensions : [key, value]]))]
    },
    {
      title   = "Slots and agents"
      metrics = [for metric in ["slots_total", "slots_processing", "slots_idle", "agents"] : concat([local.namespace, metric], flatten([for key, value in local.metrics.dimensions : [key, value]]))]
    },
    {
      title   = "Instances in service"
      metrics = [for name in local.group_order : ["AWS/AutoScaling", "GroupInServiceInstances", "AutoScalingGroupName", local.asg_names[name]]]
    },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  count = var.dashboard ? 1 : 0

  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [for index, widget in local.dashboard_widgets : {
      type   = "metric"
      x      = 8 * index
      y      = 0
      width  = 8
      height = 6
      properties = {
        title   = widget.title
        region  = local.region
        stat    = "Maximum"
        period  = 60
        view    = "timeSeries"
        metrics = widget.metrics
      }
    }]
  })
}
