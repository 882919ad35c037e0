# The bucket: the program, the settings objects, the boot scripts and the hashes of the API keys. Every object's name or hash changes with
# its bytes, so that instances never mix two releases.

locals {
  bucket = "${var.name}-${local.account}-${local.region}"

  binary_sha256 = { for arch, binary in var.paddock_binary : arch => binary.sha256 != null ? binary.sha256 : try(filesha256(binary.file), "none") }
  binary_keys   = { for arch, sum in local.binary_sha256 : arch => "paddock/${sum}/paddock-${arch}" }
  binary_files  = { for arch, binary in var.paddock_binary : arch => binary.file if binary.file != null }
  binary_copies = { for arch, binary in var.paddock_binary : arch => binary.s3_uri if binary.s3_uri != null }

  balancer_settings_key = "balancer/settings.env"
  api_keys_key          = "balancer/api-keys"
  agent_settings_keys   = { for name in local.group_order : name => "agent/${name}/settings.env" }

  api_keys_text = join("", [for line in var.api_keys : "${line}\n"])
}

resource "aws_s3_bucket" "this" {
  bucket = local.bucket
  # It holds only what Terraform can put there again.
  force_destroy = true
  tags          = merge(local.tags, { Name = local.bucket })
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "old-releases-and-settings"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyOverTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_object" "paddock" {
  for_each = local.binary_files

  bucket                 = aws_s3_bucket.this.id
  key                    = local.binary_keys[each.key]
  source                 = each.value
  source_hash            = local.binary_sha256[each.key]
  server_side_encryption = "AES256"

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_object_copy" "paddock" {
  for_each = local.binary_copies

  bucket                 = aws_s3_bucket.this.id
  key                    = local.binary_keys[each.key]
  source                 = trimprefix(each.value, "s3://")
  server_side_encryption = "AES256"

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_object" "api_keys" {
  count = length(var.api_keys) > 0 ? 1 : 0

  bucket                 = aws_s3_bucket.this.id
  key                    = local.api_keys_key
  content                = local.api_keys_text
  server_side_encryption = "AES256"

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_object" "balancer_settings" {
  bucket                 = aws_s3_bucket.this.id
  key                    = local.balancer_settings_key
  content                = local.balancer_settings_text
  server_side_encryption = "AES256"

  depends_on = [aws_s3_bucket_versioning.this, aws_s3_object.paddock, aws_s3_object_copy.paddock, aws_s3_object.api_keys]
}

resource "aws_s3_object" "agent_settings" {
  for_each = local.groups

  bucket                 = aws_s3_bucket.this.id
  key                    = local.agent_settings_keys[each.key]
  content                = local.agent_settings_texts[each.key]
  server_side_encryption = "AES256"

  depends_on = [aws_s3_bucket_versioning.this, aws_s3_object.paddock, aws_s3_object_copy.paddock]
}

# What has no room in user data. It lies beside the settings, so the same rights cover it.
resource "aws_s3_object" "balancer_boot" {
  bucket                 = aws_s3_bucket.this.id
  key                    = module.balancer_user_data.bundle_key
  content                = module.balancer_user_data.bundle
  server_side_encryption = "AES256"

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_object" "agent_boot" {
  for_each = local.groups

  bucket                 = aws_s3_bucket.this.id
  key                    = module.agent_user_data[each.key].bundle_key
  content                = module.agent_user_data[each.key].bundle
  server_side_encryption = "AES256"

  depends_on = [aws_s3_bucket_versioning.this]
}
