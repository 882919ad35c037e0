"""A deployment for the boot scripts: its bucket as the Terraform module fills it, and a program that stands for paddock."""

from __future__ import annotations

import hashlib
import json
import shutil

from instance import REGION, ROOT, CloudCase, Instance

PROGRAM = r"""#!/bin/bash
# {version}
# It is to be asked with its unit's own flags, and the token is to be there.
[[ "$*" =~ ^(balancer|agent)\ .*--management-token-file\ ([^ ]+)\ --check$ && -s "${{BASH_REMATCH[2]}}" ]] \
    || {{ echo "unexpected: $*"; exit 2; }}
[[ "$*" != *--wrong* ]] || {{ echo "error: there is no --wrong"; exit 2; }}
[[ -z "$PADDOCK_TLS_CERT" ]] || grep -q ^CERT "$PADDOCK_TLS_CERT" || {{ echo "error: $PADDOCK_TLS_CERT: no certificate"; exit 2; }}
[[ "$PADDOCK_IDLE_TIMEOUT" != wrong ]] || {{ echo "error: --idle-timeout wrong"; exit 2; }}
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Case(CloudCase):
    def setUp(self) -> None:
        super().setUp()
        self.s3, self.ssm = self.cloud.client("s3"), self.cloud.client("ssm")
        self.s3.create_bucket(Bucket="deployment", CreateBucketConfiguration={"LocationConstraint": REGION})

    def instance(self, role: str, has_role: bool = True) -> Instance:
        made = super().instance(role, has_role)
        shutil.copy(ROOT / f"infra/systemd/{role}/paddock-{role}.service", made.root / "etc/systemd/system")
        return made

    def put(self, key: str, body: bytes) -> str:
        self.s3.put_object(Bucket="deployment", Key=key, Body=body)
        return sha256(body)

    def settings(self, role: str, version: str = "1", **more: str) -> None:
        """What the Terraform module would put into the bucket."""
        sum_ = self.put("paddock", PROGRAM.format(version=version).encode())
        said = {"FETCH_PADDOCK_URI": "s3://deployment/paddock", "FETCH_PADDOCK_SHA256": sum_, **more}
        self.put(f"{role}/settings.env", "".join(f"{key}={value}\n" for key, value in said.items()).encode())

    def token(self) -> str:
        return self.ssm.get_parameter(Name="/paddock/token", WithDecryption=True)["Parameter"]["Value"]

    def bundle(self, role: str, *files: tuple[str, str]) -> None:
        listed = [{"path": path, "mode": "0644", "text": text} for path, text in files]
        self.put(f"{role}/settings.env.boot.json", json.dumps(listed).encode())


class BalancerCase(Case):
    def setUp(self) -> None:
        super().setUp()
        self.balancer = self.instance("balancer")
        self.etc = self.balancer.root / "etc" / "paddock"

    def boot(self) -> None:
        done = self.balancer.run("settings.py", "boot")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn(self.token(), done.stdout + done.stderr)
