output "pipeline_arn" {
  description = "The pipeline that builds the images."
  value       = aws_imagebuilder_image_pipeline.this.arn
}

output "start_build" {
  description = "Starts a build. It prints the ARN of the image to be."
  value       = "aws imagebuilder start-image-pipeline-execution --region ${local.region} --image-pipeline-arn ${aws_imagebuilder_image_pipeline.this.arn}"
}

output "watch_build" {
  description = "Shows how the newest builds stand."
  value       = "aws imagebuilder list-image-pipeline-images --region ${local.region} --image-pipeline-arn ${aws_imagebuilder_image_pipeline.this.arn} --query 'imageSummaryList[].[version,state.status,state.reason]' --output table"
}

output "ami_filter" {
  description = "What finds the images: owner and tags for `data \"aws_ami\"` with `most_recent = true`. There are none before the first build."
  value       = { owners = ["self"], tags = { app = "paddock", Name = local.name } }
}

output "newest_ami" {
  description = "Prints the newest image's id."
  value       = "aws ec2 describe-images --region ${local.region} --owners self --filters Name=tag:app,Values=paddock Name=tag:Name,Values=${local.name} Name=state,Values=available --query 'sort_by(Images,&CreationDate)[-1].ImageId' --output text"
}

output "architecture" {
  description = "Of the images, and so of the instance types that they run on."
  value       = { gpu = "x86_64", cpu = "arm64" }[var.kind]
}

output "version" {
  description = "The recipe's version, made of what the images are made of: another program or release is another version."
  value       = local.recipe_version
}
