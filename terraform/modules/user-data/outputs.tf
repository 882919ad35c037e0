output "base64" {
  description = "The user data, compressed and in base64: for user_data_base64 or a launch template's user_data."
  value       = base64gzip(local.text)

  precondition {
    condition     = local.base64_bytes * 3 / 4 <= 16384
    error_message = "User data may have 16 KiB, compressed: move a script or a unit from the first ones to those in the bucket."
  }
}

output "text" {
  description = "The same as plain cloud-config, for tests and for reading."
  value       = local.text
}

output "bundle_key" {
  description = "Where in the bucket the instance looks for `bundle`: beside its settings object."
  value       = "${var.settings["BOOT_SETTINGS_KEY"]}.boot.json"
}

output "bundle" {
  description = "The other scripts and units, which have no room in user data: the content of the object at bundle_key. It must be there before an instance boots, and the role must be allowed to get it."
  value       = jsonencode(concat([for name in sort(keys(local.all)) : local.all[name]], local.cloudwatch_agent))
}
