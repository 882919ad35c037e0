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

variable "arm64_ami_id" {
  description = "An arm64 image of your own, with the NVIDIA driver and llama-server."
  type        = string
}

variable "x86_64_ami_id" {
  description = "The same for x86_64, such as infra/image builds."
  type        = string
}
