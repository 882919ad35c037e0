# What AWS has not yet named must not keep a plan from being made.

mock_provider "aws" {
  source = "./tests/mocks"

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555" }
  }

  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:111122223333:operators" }
  }

  mock_resource "aws_vpc" {
    defaults = { id = "vpc-0123456789abcdef0" }
  }
}

run "a_vpc_a_key_a_topic_and_an_image_of_the_same_configuration" {
  command = plan

  module {
    source = "./tests/fixtures/all-at-once"
  }

  assert {
    condition     = output.group_names == ["paddock-own"]
    error_message = "The plan can be made before the ids are known."
  }
}

run "and_applied" {
  command = apply

  module {
    source = "./tests/fixtures/all-at-once"
  }

  assert {
    condition     = output.group_names == ["paddock-own"]
    error_message = "It can be applied as it was planned."
  }
}
