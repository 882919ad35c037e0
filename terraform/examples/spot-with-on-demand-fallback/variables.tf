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

variable "create_spot_service_linked_role" {
  description = "true in an account that has never launched a spot instance."
  type        = bool
  default     = false
}
