output "endpoint" {
  description = "What clients call."
  value       = module.paddock.endpoint
}

output "group_names" {
  description = "The Auto Scaling groups, in the order in which they are tried."
  value       = module.paddock.group_names
}

output "management_port_forward_command" {
  description = "Brings the management address to your machine; let it run."
  value       = module.paddock.management_port_forward_command
}

output "state_command" {
  description = "With the port forward: what waits, runs and boots."
  value       = module.paddock.state_command
}

output "dashboard_url" {
  description = "With the port forward: the same as a page, for a browser."
  value       = module.paddock.dashboard_url
}

output "dashboard_command" {
  description = "With the port forward: the same in a terminal."
  value       = module.paddock.dashboard_command
}

output "management_token_command" {
  description = "Prints the management token, which the page asks for."
  value       = module.paddock.management_token_command
}

output "monthly_floor" {
  description = "What a month costs in which nobody calls."
  value       = module.paddock.monthly_floor
}
