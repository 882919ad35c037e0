locals {
  endpoint_host = {
    eip  = try(aws_eip.balancer[0].public_ip, "")
    ipv6 = "[${try(one(aws_network_interface.balancer.ipv6_addresses), "")}]"
    none = local.management_ip
  }[var.public_address]
  token_command = "aws ssm get-parameter --region ${local.region} --name ${local.token_parameter} --with-decryption --query Parameter.Value --output text"
}

output "endpoint" {
  description = "What clients call. With TLS, let the certificate's name point to this address."
  value       = "${var.tls == null ? "http" : "https"}://${local.endpoint_host}:${local.proxy_port}"
}

output "balancer_private_ip" {
  description = "The balancer's address in the VPC, which agents call."
  value       = local.management_ip
}

output "group_names" {
  description = "The Auto Scaling groups, in the order in which they are tried."
  value       = [for name in local.group_order : aws_autoscaling_group.agent[name].name]
}

output "management_port_forward_command" {
  description = "Brings the management address to your machine (needs the AWS CLI's Session Manager plugin); let it run."
  value       = "aws ssm start-session --region ${local.region} --target ${aws_instance.balancer.id} --document-name AWS-StartPortForwardingSession --parameters portNumber=${local.management_port},localPortNumber=${local.management_port}"
}

output "state_command" {
  description = "With the port forward: what waits, runs and boots."
  value       = "curl http://127.0.0.1:${local.management_port}/api/v1/state -H \"Authorization: Bearer $(${local.token_command})\""
}

output "dashboard_url" {
  description = "With the port forward: the same as a page, for a browser. It asks for the management token once."
  value       = "http://127.0.0.1:${local.management_port}/dashboard"
}

output "dashboard_command" {
  description = "With the port forward: the same in a terminal, by the program on your machine."
  value       = "PADDOCK_MANAGEMENT_TOKEN=\"$(${local.token_command})\" paddock dashboard --management-addr 127.0.0.1:${local.management_port}"
}

output "management_token_command" {
  description = "Prints the management token, which the page asks for."
  value       = local.token_command
}

output "balancer_shell_command" {
  description = "A shell on the balancer, by Session Manager."
  value       = "aws ssm start-session --region ${local.region} --target ${aws_instance.balancer.id}"
}

output "logs_command" {
  description = "Follows what the balancer and the agents log."
  value       = "aws logs tail ${local.log_group} --region ${local.region} --follow"
}

output "management_token_parameter" {
  description = "Name of the SSM parameter with the management token. The balancer makes it; after a destroy, delete it by hand."
  value       = local.token_parameter
}

output "bucket" {
  description = "The bucket of the program and the settings."
  value       = aws_s3_bucket.this.id
}

output "agent_role_name" {
  description = "The agents' role, for further rights: such as the key of the model's bucket."
  value       = aws_iam_role.agent.name
}

output "agent_security_group_id" {
  description = "The agents' security group."
  value       = aws_security_group.agents.id
}

output "balancer_security_group_id" {
  description = "The balancer's security group."
  value       = aws_security_group.balancer.id
}

output "monthly_floor" {
  description = "What a month costs in which nobody calls, item by item, at the prices of one Region and date, before any free tier."
  value = {
    items    = { for item, cost in local.floor_items : item => floor(cost * 100 + 0.5) / 100 }
    total    = floor(sum(values(local.floor_items)) * 100 + 0.5) / 100
    currency = local.prices.currency
    region   = local.prices.region
    as_of    = local.prices.as_of
  }
}
