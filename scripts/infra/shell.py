"""Runs a command, of terraform, with the stand-in for the AWS provider beside it: `shell.py terraform -chdir=… plan`."""

import subprocess
import sys

import offline

with offline.stand_in() as environment:
    sys.exit(subprocess.run(sys.argv[1:], env=environment, check=False).returncode)
