"""The instruments of `/metrics` and their labels, as the design's table names them.

The scenario test of the program moves each of them; this table lets boards and alerts be checked without it.
"""

from __future__ import annotations

import re

HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")

GAUGES_AND_COUNTERS: dict[str, set[str]] = {
    "paddock_requests_buffered": {"pool"},
    "paddock_buffered_bytes": {"pool"},
    "paddock_slots": {"pool"},
    "paddock_slots_idle": {"pool"},
    "paddock_slots_processing": {"pool"},
    "paddock_agents": {"pool"},
    "paddock_instances": {"pool", "state"},
    "paddock_wake_wanted": {"pool"},
    "paddock_requests_total": {"pool", "outcome"},
    "paddock_upstream_errors_total": {"pool", "kind"},
    "paddock_wakes_total": {"pool", "result"},
    "paddock_aws_calls_total": {"pool", "action", "result"},
    "paddock_instance_seconds_total": {"pool"},
    "paddock_cost_usd_total": {"pool"},
    "paddock_build_info": {"version"},
}
HISTOGRAMS: dict[str, set[str]] = {
    "paddock_queue_wait_seconds": {"pool"},
    "paddock_time_to_first_byte_seconds": {"pool"},
    "paddock_request_duration_seconds": {"pool"},
    "paddock_boot_seconds": {"pool", "phase"},
}
SERIES: dict[str, set[str]] = GAUGES_AND_COUNTERS | {
    name + suffix: labels | ({"le"} if suffix == "_bucket" else set())
    for name, labels in HISTOGRAMS.items()
    for suffix in HISTOGRAM_SUFFIXES
}

# What the program writes as values of labels, where these are a closed list; results are those of wakes and of AWS calls.
VALUES: dict[str, set[str]] = {
    "state": {"launching", "booting", "serving", "draining", "ending", "aside"},
    "phase": {"call", "pending", "boot", "service", "load", "register", "total"},
    "result": {"succeeded", "failed", "unknown"} | {"ok", "throttled", "refused", "failed", "unanswered"},
    "kind": {"could_not_connect", "not_ready", "died", "timeout", "broken"},
    "outcome": set(
        "served cancelled broken own bad_request upgrade_refused invalid_api_key forbidden no_server not_found "
        "request_too_large head_timeout body_timeout too_many_connections queue_full queue_timeout no_capacity "
        "budget_exhausted no_agents shutting_down upstream_failed upstream_timeout".split()
    ),
}

SERIES_NAME = re.compile(r"\bpaddock_\w+")
MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


def complaints(expression: str) -> list[str]:
    """What the expression asks for that `/metrics` does not have."""
    names = set(SERIES_NAME.findall(MATCHER.sub("", expression)))
    found = [f"no such series: {name}" for name in sorted(names - set(SERIES))]
    labels = set().union(*(SERIES.get(name, set()) for name in names)) | {"job"}
    used = {label for label, _, _ in MATCHER.findall(expression)}
    for group in GROUPING.findall(expression):
        used |= {label.strip() for label in group.split(",")}
    found += [f"no such label: {label}" for label in sorted(used - labels)]
    for label, _, pattern in MATCHER.findall(expression):
        known = VALUES.get(label)
        if known is not None:
            wrong = [value for value in pattern.split("|") if value not in known]
            found += [f"no such value of {label}: {value}" for value in wrong]
    return found
