variable "region" {
  description = "The AWS Region."
  type        = string
  default     = "eu-central-1"
}

variable "client_cidrs" {
  description = "Networks that may call, such as your own address with /32."
  type        = list(string)
}

variable "paddock_files" {
  description = "The program for each architecture that is needed, as built: { arm64 = \"…\" }."
  type        = map(string)
}

variable "model" {
  description = "The GGUF file: source (s3://, https:// or hf://), sha256, size_gb."
  type = object({
    source          = string
    sha256          = string
    size_gb         = number
    token_parameter = optional(string)
  })
}

variable "llama_cpp_archive" {
  description = "An archive (.tar.gz) with a llama-server built for CUDA: uri (s3:// or https://) and sha256."
  type = object({
    uri    = string
    sha256 = string
  })
}

variable "api_keys" {
  description = "Lines that `paddock key new NAME` prints second."
  type        = list(string)
}

variable "tls" {
  description = "Names of the SSM parameters with certificate and private key."
  type = object({
    certificate_parameter = string
    key_parameter         = string
  })
  default = {
    certificate_parameter = "/llm/tls-certificate"
    key_parameter         = "/llm/tls-key"
  }
}

variable "kms_key_arn" {
  description = "The customer key of the SSM parameters."
  type        = string
}

variable "alarm_topic_arn" {
  description = "Who is told: an SNS topic."
  type        = string
}
