output "base64" {
  description = "The user data, compressed and in base64: for user_data_base64 or a launch template's user_data."
  value       = base64gzip(local.text)

  precondition {
    condition     = length(base64gzip(local.text)) <= 16384
    error_message = "User data may have 16 KiB: fewer or shorter files in infra/boot and infra/systemd."
  }
}

output "text" {
  description = "The same as plain cloud-config, for tests and for reading."
  value       = local.text
}
