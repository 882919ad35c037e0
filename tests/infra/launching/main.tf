# What no example does: groups are woken by LaunchInstances, which needs further rights.

module "paddock" {
  source = "../../../terraform"

  paddock_binary = { arm64 = { file = "${path.module}/../../../terraform/tests/fixtures/paddock" } }
  asg_wake       = "launch-instances"
  client_cidrs   = ["203.0.113.0/24"]
  groups         = [{ name = "cpu", instance_types = ["c7g.large"] }]
  model = {
    source  = "https://example.com/model.gguf"
    sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
    size_gb = 1
  }
}
