"""Arguments that take one of a few values, and where AWS's own service models list these."""

from __future__ import annotations

from functools import cache

import botocore.session

Shape = tuple[str, str]
"""A service and the name of a shape in its model."""

TOKENS: dict[str, Shape | list[str]] = {
    "metadata_options.http_endpoint": ("ec2", "InstanceMetadataEndpointState"),
    "metadata_options.http_protocol_ipv6": ("ec2", "InstanceMetadataProtocolState"),
    "metadata_options.http_tokens": ("ec2", "HttpTokensState"),
    "metadata_options.instance_metadata_tags": ("ec2", "InstanceMetadataTagsState"),
    "credit_specification.cpu_credits": ["standard", "unlimited"],
    "instance_initiated_shutdown_behavior": ("ec2", "ShutdownBehavior"),
    "instance_type": ("ec2", "InstanceType"),
}

ENUMS: dict[str, dict[str, Shape | list[str]]] = {
    "aws_instance": TOKENS | {"root_block_device.volume_type": ("ec2", "VolumeType"), "tenancy": ("ec2", "Tenancy")},
    "aws_launch_template": TOKENS
    | {
        "block_device_mappings.ebs.volume_type": ("ec2", "VolumeType"),
        "instance_market_options.market_type": ("ec2", "MarketType"),
        "instance_market_options.spot_options.instance_interruption_behavior": ("ec2", "InstanceInterruptionBehavior"),
        "instance_market_options.spot_options.spot_instance_type": ("ec2", "SpotInstanceType"),
        "tag_specifications.resource_type": ("ec2", "ResourceType"),
    },
    "aws_autoscaling_group": {
        "health_check_type": ["EC2", "EBS", "ELB", "VPC_LATTICE"],
        "mixed_instances_policy.instances_distribution.on_demand_allocation_strategy": ["prioritized", "lowest-price"],
        "mixed_instances_policy.instances_distribution.spot_allocation_strategy": [
            "capacity-optimized",
            "capacity-optimized-prioritized",
            "lowest-price",
            "price-capacity-optimized",
        ],
        "mixed_instances_policy.launch_template.override.instance_type": ("ec2", "InstanceType"),
        "suspended_processes": [
            "AddToLoadBalancer",
            "AlarmNotification",
            "AZRebalance",
            "HealthCheck",
            "InstanceRefresh",
            "Launch",
            "ReplaceUnhealthy",
            "ScheduledActions",
            "Terminate",
        ],
        "termination_policies": [
            "AllocationStrategy",
            "ClosestToNextInstanceHour",
            "Default",
            "NewestInstance",
            "OldestInstance",
            "OldestLaunchConfiguration",
            "OldestLaunchTemplate",
        ],
        "warm_pool.pool_state": ("autoscaling", "WarmPoolState"),
    },
    "aws_autoscaling_lifecycle_hook": {
        "default_result": ["ABANDON", "CONTINUE"],
        "lifecycle_transition": ["autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"],
    },
    "aws_autoscaling_policy": {
        "adjustment_type": ["ChangeInCapacity", "ExactCapacity", "PercentChangeInCapacity"],
        "metric_aggregation_type": ["Average", "Maximum", "Minimum"],
        "policy_type": ["PredictiveScaling", "SimpleScaling", "StepScaling", "TargetTrackingScaling"],
    },
    "aws_cloudwatch_metric_alarm": {
        "comparison_operator": ("cloudwatch", "ComparisonOperator"),
        "metric_query.metric.stat": ("cloudwatch", "Statistic"),
        "statistic": ("cloudwatch", "Statistic"),
        "treat_missing_data": ["breaching", "ignore", "missing", "notBreaching"],
        "unit": ("cloudwatch", "StandardUnit"),
    },
    "aws_cloudwatch_log_group": {"log_group_class": ("logs", "LogGroupClass")},
    "aws_eip": {"domain": ("ec2", "DomainType")},
    "aws_imagebuilder_component": {"platform": ("imagebuilder", "Platform")},
    "aws_imagebuilder_image_pipeline": {
        "schedule.pipeline_execution_start_condition": ("imagebuilder", "PipelineExecutionStartCondition"),
        "status": ("imagebuilder", "PipelineStatus"),
    },
    "aws_imagebuilder_image_recipe": {"block_device_mapping.ebs.volume_type": ("imagebuilder", "EbsVolumeType")},
    "aws_s3_bucket_lifecycle_configuration": {"rule.status": ("s3", "ExpirationStatus")},
    "aws_s3_bucket_server_side_encryption_configuration": {
        "rule.apply_server_side_encryption_by_default.sse_algorithm": ("s3", "ServerSideEncryption")
    },
    "aws_s3_bucket_versioning": {"versioning_configuration.status": ("s3", "BucketVersioningStatus")},
    "aws_s3_object": {"server_side_encryption": ("s3", "ServerSideEncryption"), "storage_class": ("s3", "StorageClass")},
    "aws_ssm_association": {"compliance_severity": ("ssm", "AssociationComplianceSeverity")},
    "aws_ssm_parameter": {"tier": ("ssm", "ParameterTier"), "type": ("ssm", "ParameterType")},
    "aws_vpc_endpoint": {"vpc_endpoint_type": ("ec2", "VpcEndpointType")},
    "aws_vpc_security_group_egress_rule": {"ip_protocol": ["-1", "icmp", "icmpv6", "tcp", "udp"]},
    "aws_vpc_security_group_ingress_rule": {"ip_protocol": ["-1", "icmp", "icmpv6", "tcp", "udp"]},
}


@cache
def listed(service: str, shape: str) -> tuple[str, ...]:
    model = botocore.session.get_session().get_service_model(service)
    return tuple(model.shape_for(shape).enum)


def allowed(rule: Shape | list[str]) -> tuple[str, ...]:
    return listed(*rule) if isinstance(rule, tuple) else tuple(rule)
