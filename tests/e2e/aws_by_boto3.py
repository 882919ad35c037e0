"""Does and looks at AWS what an operator would, with boto3, and prints one line of JSON.

usage: aws_by_boto3.py ENDPOINT create-group NAME MIN MAX
       aws_by_boto3.py ENDPOINT group NAME
       aws_by_boto3.py ENDPOINT metrics NAMESPACE

create-group makes a launch template and a group of it, as the documentation asks: new instances are protected from
scale-in. group prints desired, min, max and instances (id, state, is_protected). metrics prints an array: name,
dimensions, values (in order of time; the maximum of each second).

Region and credentials come from the environment, as for every AWS tool.
"""

import datetime
import json
import sys

import boto3


def create_group(name, least, most):
    ec2 = boto3.client("ec2", endpoint_url=ENDPOINT)
    image = {"ImageId": "ami-12345678", "InstanceType": "g4dn.xlarge"}
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=image)
    zones = [zone["ZoneName"] for zone in ec2.describe_availability_zones()["AvailabilityZones"]]
    boto3.client("autoscaling", endpoint_url=ENDPOINT).create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=int(least),
        MaxSize=int(most),
        DesiredCapacity=int(least),
        AvailabilityZones=zones,
        LaunchTemplate={"LaunchTemplateName": name, "Version": "$Latest"},
        NewInstancesProtectedFromScaleIn=True,
    )
    return group(name)


def group(name):
    autoscaling = boto3.client("autoscaling", endpoint_url=ENDPOINT)
    [found] = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    return {
        "desired": found["DesiredCapacity"],
        "min": found["MinSize"],
        "max": found["MaxSize"],
        "instances": [
            {
                "id": instance["InstanceId"],
                "state": instance["LifecycleState"],
                "is_protected": instance["ProtectedFromScaleIn"],
            }
            for instance in found["Instances"]
        ],
    }


def metrics(namespace):
    cloudwatch = boto3.client("cloudwatch", endpoint_url=ENDPOINT)
    now = datetime.datetime.now(datetime.timezone.utc)
    span = {"StartTime": now - datetime.timedelta(minutes=10), "EndTime": now + datetime.timedelta(minutes=1)}
    found = []
    for metric in cloudwatch.list_metrics(Namespace=namespace)["Metrics"]:
        question = {"Id": "m", "MetricStat": {"Metric": metric, "Period": 1, "Stat": "Maximum"}}
        answer = cloudwatch.get_metric_data(MetricDataQueries=[question], ScanBy="TimestampAscending", **span)
        found.append(
            {
                "name": metric["MetricName"],
                "dimensions": {it["Name"]: it["Value"] for it in metric["Dimensions"]},
                "values": answer["MetricDataResults"][0]["Values"],
            }
        )
    return sorted(found, key=lambda metric: metric["name"])


if __name__ == "__main__":
    _, ENDPOINT, command, *rest = sys.argv
    print(json.dumps({"create-group": create_group, "group": group, "metrics": metrics}[command](*rest)))
