locals {
  log_group = "/paddock/${var.name}"
}

# Made here and not by the instances, which therefore need no right to make one, and cannot choose how long it keeps.
resource "aws_cloudwatch_log_group" "this" {
  name              = local.log_group
  retention_in_days = var.log_retention_days
  tags              = local.tags
}
