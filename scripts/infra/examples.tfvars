# For configurations with variables that have no default. What a configuration does not declare is ignored.
kind           = "gpu"
paddock_uri    = "s3://example-bucket/paddock"
paddock_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
