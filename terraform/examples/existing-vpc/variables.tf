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

variable "vpc_id" {
  description = "Your VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Public subnets for the agents; the first one is the balancer's too."
  type        = list(string)
}

variable "balancer_private_ip" {
  description = "A free address of the first subnet. Not given: AWS chooses."
  type        = string
  default     = null
}

variable "route_table_ids" {
  description = "Route tables of these subnets that have no way to S3 yet."
  type        = list(string)
  default     = []
}
