run "scales_from_zero" {
  command = plan

  assert {
    condition     = aws_autoscaling_group.agent.min_size == 0
    error_message = "A group begins with 0 instances."
  }
}
