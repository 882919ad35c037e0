"""Parameters of SSM: the token, the keys and certificates, what a model's source asks for."""

import json
from typing import Any, Dict, Optional

import aws


def ssm(action: str, said: Dict[str, Any]) -> Dict[str, Any]:
    kind = ["Content-Type: application/x-amz-json-1.1", "X-Amz-Target: AmazonSSM." + action]
    return json.loads(aws.call("ssm", action, kind, json.dumps(said).encode()))


def value(name: str) -> Optional[str]:
    """A parameter's value in the clear; None if there is none of this name."""
    try:
        return ssm("GetParameter", {"Name": name, "WithDecryption": True})["Parameter"]["Value"]
    except aws.Trouble as trouble:
        if trouble.code == "ParameterNotFound":
            return None
        raise aws.Trouble(f"{trouble} (the parameter {name})", trouble.passing, trouble.code) from trouble
