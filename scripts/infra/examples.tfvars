# For configurations with variables that have no default. What a configuration does not declare is ignored.
kind           = "gpu"
paddock_uri    = "s3://example-bucket/paddock"
paddock_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"

client_cidrs  = ["203.0.113.7/32"]
paddock_files = { arm64 = "../../tests/fixtures/paddock", x86_64 = "../../tests/fixtures/paddock" }
model = {
  source  = "hf://someone/something/model.gguf"
  sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
  size_gb = 4.7
}
llama_cpp_archive = { uri = "s3://builds/llama-cuda.tar.gz", sha256 = "1111111111111111111111111111111111111111111111111111111111111111" }
api_keys          = ["alice sha256:1a36d78d6a0a331c09eea85ff57df837adb9468f44e8f25fe5bfede08e67456a"]
kms_key_arn       = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"
alarm_topic_arn   = "arn:aws:sns:eu-central-1:111122223333:operators"
vpc_id            = "vpc-0123456789abcdef0"
subnet_ids        = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
route_table_ids   = ["rtb-0123456789abcdef0"]
arm64_ami_id      = "ami-0a640123456789abc"
x86_64_ami_id     = "ami-08640123456789abc"
