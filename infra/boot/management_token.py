#!/usr/bin/python3
"""The management token: the balancer makes it, SSM keeps it, agents read it. It is in no state, log or argument.

usage: management_token.py rotate     on the balancer: a new one, taken at once; agents follow within two minutes
       management_token.py refresh    on an agent: read it, and restart the agent if it changed
"""

import os
import secrets
import subprocess
import sys

import aws
import environment
import files
import parameters

WAIT_SECONDS = 15 * 60


def name() -> str:
    return os.environ["BOOT_TOKEN_PARAMETER"]


def checked(token: str) -> bytes:
    if len(token) < 16 or any(mark.isspace() for mark in token):
        raise aws.Trouble(f"the parameter {name()} holds no token: 16 characters at least, and no blanks; "
                          "delete it and restart the balancer, or run `management_token.py rotate` there")
    return token.encode()


def keep(token: bytes) -> bool:
    """Says whether it is another one than before."""
    return files.write(files.TOKEN, token, 0o600)


def put(overwrite: bool) -> str:
    token = secrets.token_urlsafe(32)
    said = {"Name": name(), "Value": token, "Type": "SecureString", "Overwrite": overwrite}
    if os.environ.get("BOOT_TOKEN_KMS_KEY"):
        said["KeyId"] = os.environ["BOOT_TOKEN_KMS_KEY"]
    parameters.ssm("PutParameter", said)
    print(f"a new management token is in the SSM parameter {name()}")
    return token


def made() -> str:
    """The balancer's: the one that is there, else a new one. If two make it at once, the first one's counts."""
    found = parameters.value(name())
    if found is None:
        try:
            found = put(overwrite=False)
        except aws.Trouble as trouble:
            if trouble.code != "ParameterAlreadyExists":
                raise
            found = parameters.value(name())
    if found is None:
        raise aws.Trouble(f"the parameter {name()} was there and is gone: restart paddock-settings.service")
    return found


def awaited() -> str:
    """An agent's: it may boot before its balancer has ever run."""
    def look() -> str:
        found = parameters.value(name())
        if found is None:
            raise aws.Trouble(f"the balancer has not made the parameter {name()}: see paddock-settings.service there")
        return found

    return aws.until_it_works(look, WAIT_SECONDS)


def wished() -> bytes:
    return checked(made() if os.environ["BOOT_ROLE"] == "balancer" else awaited())


def main() -> int:
    what = sys.argv[1:]
    try:
        environment.load_bootstrap()
        if what == ["rotate"] and os.environ.get("BOOT_ROLE") == "balancer":
            keep(checked(put(overwrite=True)))
            subprocess.run(["systemctl", "restart", "paddock-balancer.service"], check=True)
            print("the balancer has a new token; agents take it within two minutes")
        elif what == ["refresh"] and os.environ.get("BOOT_ROLE") == "agent":
            if keep(wished()):
                subprocess.run(["systemctl", "try-restart", "paddock-agent.service"], check=True)
                print("the token changed: the agent was restarted with it")
        else:
            print("usage: management_token.py rotate (on a balancer) or refresh (on an agent)", file=sys.stderr)
            return 2
    except (aws.Trouble, subprocess.CalledProcessError, KeyError, OSError) as trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
