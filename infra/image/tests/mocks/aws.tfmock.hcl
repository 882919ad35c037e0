# What AWS would say: inputs of the tests, never what they assert.

mock_data "aws_region" {
  defaults = { region = "eu-central-1" }
}

mock_data "aws_caller_identity" {
  defaults = { account_id = "111122223333" }
}

mock_data "aws_partition" {
  defaults = { partition = "aws" }
}

mock_resource "aws_imagebuilder_component" {
  defaults = { arn = "arn:aws:imagebuilder:eu-central-1:111122223333:component/some-component/1.0.1/1" }
}

mock_resource "aws_imagebuilder_image_pipeline" {
  defaults = { arn = "arn:aws:imagebuilder:eu-central-1:111122223333:image-pipeline/some-pipeline" }
}
