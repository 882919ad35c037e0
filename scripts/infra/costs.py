#!/usr/bin/env python3
"""The cost tables of docs/aws.md, computed from infra/prices.json.

Without arguments it writes them between their markers; with --check it fails when they are not what the prices say.
"""

import json
import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRICES = ROOT / "infra" / "prices.json"
DOCUMENT = ROOT / "docs" / "aws.md"

MODULE = ROOT / "terraform"
AGENT = json.loads((ROOT / "infra" / "cloudwatch-agent" / "amazon-cloudwatch-agent.json").read_text(encoding="utf-8"))["metrics"]

# What the module builds by default (terraform/cost.tf computes the same for a configuration).
VOLUME_GB = 8
METRICS = len(json.loads((MODULE / "metrics.json").read_text(encoding="utf-8"))["metrics"])
PUTS_PER_HOUR = 60
LOGS_GB = 0.1

# The CloudWatch Agent publishes the balancer's metrics again, and its own.
AGENT_METRICS = METRICS + sum(len(one.get("measurement", [])) for one in AGENT["metrics_collected"].values())
AGENT_PUTS_PER_HOUR = 3600 // AGENT["force_flush_interval"]

# One request at zero: from the launch to the end of the instance.
BOOT_MINUTES = 2
IDLE_MINUTES = 5
END_MINUTES = 1

# A line of the access log, and the 26 bytes that CloudWatch Logs adds to each event.
ACCESS_LINE_BYTES = 500
REQUESTS = 1_000_000

AGENT_TYPES = ["g6f.large", "g4dn.xlarge", "g5g.xlarge", "g6.xlarge", "g5.xlarge"]
# AWS's Deep Learning Base image, and a model of 7 billion parameters with 4 bits each.
IMAGE_GIB = 75
MODEL_GB = 4.7
ENDPOINT_ZONES = 1


def endpoints() -> int:
    """How many interface endpoints `private` builds."""
    text = (MODULE / "endpoints.tf").read_text(encoding="utf-8")
    return re.search(r"interface_endpoints = [^\n]* toset\(\[(.*?)\]\)", text, re.DOTALL)[1].count('"') // 2


def volume(image_gib: int, model_gb: float) -> tuple[int, int]:
    """GiB and MiB/s of a group's volumes, as terraform/agents.tf derives them."""
    model_bytes = model_gb * 1e9
    return image_gib + math.ceil(model_bytes / 2**30) + 6, min(1000, max(125, math.ceil(model_bytes / 2**20 / 30)))


def volume_month(prices: dict, gib: int, mibps: int) -> float:
    """gp3: beyond 125 MiB/s and 3000 IOPS both cost."""
    iops = max(3000, 4 * mibps)
    more = (mibps - 125) * prices["gp3_throughput_mibps_month"] + (iops - 3000) * prices["gp3_iops_month"]
    return gib * prices["gp3_gb_month"] + more


def cloudwatch_agent(prices: dict) -> float:
    """A month: the larger instance that it needs, and what it publishes."""
    hours, instance = prices["hours_per_month"], prices["instance_hour"]
    puts = AGENT_PUTS_PER_HOUR * hours / 1000 * prices["put_metric_data_per_1000"]
    return hours * (instance["t4g.micro"] - instance["t4g.nano"]) + AGENT_METRICS * prices["metric_month"] + puts


def usd(amount: float) -> str:
    return f"${amount:,.2f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def idle(prices: dict) -> str:
    hours = prices["hours_per_month"]
    items = [
        ("the balancer, t4g.nano", hours * prices["instance_hour"]["t4g.nano"]),
        ("its public IPv4 address", hours * prices["public_ipv4_hour"]),
        (f"its volume, {VOLUME_GB} GiB", VOLUME_GB * prices["gp3_gb_month"]),
        (f"{METRICS} metrics", METRICS * prices["metric_month"]),
        (
            f"`PutMetricData`, {PUTS_PER_HOUR} an hour",
            PUTS_PER_HOUR * hours / 1000 * prices["put_metric_data_per_1000"],
        ),
        ("the wake alarm (10 s)", prices["alarm_high_resolution_month"]),
        ("the alarm of a silent balancer", prices["alarm_month"]),
        (
            f"logs, {LOGS_GB} GB",
            LOGS_GB * (prices["logs_ingested_gb"] + prices["logs_stored_gb_month"]),
        ),
        ("groups at zero, launch templates, hooks, roles, the token, the S3 gateway endpoint", 0.0),
    ]
    total = sum(amount for _, amount in items)
    ipv4 = items[1][1]
    rows = [[what, usd(amount)] for what, amount in items]
    rows.append(["**together**", f"**{usd(total)}**"])
    rows.append(['without IPv4 (`public_address = "ipv6"` or `"none"`)', usd(total - ipv4)])
    return table(["while nobody calls", "a month"], rows)


def asked_for(prices: dict) -> str:
    hours = prices["hours_per_month"]
    endpoint = prices["interface_endpoint_zone_hour"] * hours
    access_gb = REQUESTS * ACCESS_LINE_BYTES / 1e9
    rows = [
        [f"`private = true`: {endpoints()} interface endpoints in one zone", usd(endpoints() * ENDPOINT_ZONES * endpoint)],
        ["a NAT gateway (never built by the module)", usd(prices["nat_gateway_hour"] * hours)],
        ["a load balancer (never built by the module)", usd(prices["load_balancer_hour"] * hours)],
        ["the dashboard", usd(prices["dashboard_month"])],
        [f"the access log of {REQUESTS:,} requests, {access_gb:.1f} GB", usd(access_gb * (prices["logs_ingested_gb"] + prices["logs_stored_gb_month"]))],
        ["a warm pool's stopped instance: its volume of 50 GiB", usd(50 * prices["gp3_gb_month"])],
        ["an image of one's own: its snapshot, 30 GiB", usd(30 * prices["snapshot_gb_month"])],
        [f"the CloudWatch Agent: t4g.micro in place of t4g.nano, {AGENT_METRICS} metrics, {AGENT_PUTS_PER_HOUR} puts an hour", usd(cloudwatch_agent(prices))],
    ]
    return table(["what you may ask for", "a month more"], rows)


def busy(prices: dict) -> str:
    minutes = BOOT_MINUTES + IDLE_MINUTES + END_MINUTES
    gib, mibps = volume(IMAGE_GIB, MODEL_GB)
    beside = prices["public_ipv4_hour"] + volume_month(prices, gib, mibps) / prices["hours_per_month"]
    rows = []
    for kind in AGENT_TYPES:
        hour = prices["instance_hour"][kind] + beside
        always = hour * prices["hours_per_month"]
        rows.append([kind, usd(hour * minutes / 60), usd(hour), usd(hour * 30), usd(always)])
    head = [f"instance, on demand, with an address and {gib} GiB at {mibps} MiB/s", "one request at zero", "an hour", "an hour a day, for 30 days", "never off, a month"]
    return table(head, rows)


TABLES = {"idle": idle, "asked-for": asked_for, "busy": busy}


def rendered(text: str, prices: dict) -> str:
    for name, make in TABLES.items():
        marked = re.compile(rf"(<!-- costs: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not marked.search(text):
            sys.exit(f"{DOCUMENT.relative_to(ROOT)}: the markers of the table '{name}' are missing")
        made = make(prices)
        text = marked.sub(lambda found: f"{found[1]}{made}\n{found[2]}", text)
    return text


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    made = rendered(text, json.loads(PRICES.read_text(encoding="utf-8")))
    if "--check" not in sys.argv[1:]:
        DOCUMENT.write_text(made, encoding="utf-8")
    elif made != text:
        sys.exit("docs/aws.md: its cost tables are not what infra/prices.json says: run scripts/infra/costs.py")


if __name__ == "__main__":
    main()
