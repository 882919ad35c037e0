"""The settings object, the program, the token, keys and TLS: put in place whole, or not at all."""

from __future__ import annotations

import grp
import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
import unittest
from pathlib import Path

from instance import BOOT, REGION, ROOT, SECRET, Cloud, Instance, wait_until

PROGRAM = r"""#!/bin/bash
# {version}
[[ "$*" =~ ^(balancer|agent)\ .*--management-token-file\ ([^ ]+)\ --check$ && -s "${{BASH_REMATCH[2]}}" ]] || {{ echo "unexpected: $*"; exit 2; }}
[[ "$PADDOCK_IDLE_TIMEOUT" != wrong ]] || {{ echo "error: --idle-timeout wrong"; exit 2; }}
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Case(unittest.TestCase):
    cloud: Cloud

    @classmethod
    def setUpClass(cls) -> None:
        cls.cloud = Cloud()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.cloud.close()

    def setUp(self) -> None:
        self.cloud.reset()
        self.s3, self.ssm = self.cloud.client("s3"), self.cloud.client("ssm")
        self.s3.create_bucket(Bucket="deployment", CreateBucketConfiguration={"LocationConstraint": REGION})

    def instance(self, role: str) -> Instance:
        made = Instance(self.cloud, role)
        shutil.copy(ROOT / f"infra/systemd/{role}/paddock-{role}.service", made.root / "etc/systemd/system")
        self.addCleanup(made.close)
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


class Balancer(Case):
    def setUp(self) -> None:
        super().setUp()
        self.balancer = self.instance("balancer")
        self.etc = self.balancer.root / "etc" / "paddock"
        self.program = self.balancer.root / "usr" / "local" / "bin" / "paddock"

    def boot(self) -> None:
        done = self.balancer.run("settings.py", "boot")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn(self.token(), done.stdout + done.stderr)

    def refresh(self):
        self.balancer.calls.unlink(missing_ok=True)
        self.bundle("balancer")
        return self.balancer.run("settings.py", "refresh")

    def test_first_boot(self) -> None:
        self.settings("balancer", PADDOCK_ASG_NAME="a,b", PROXY_PORT="443", MEMORY_MAX="380M")
        self.boot()
        self.assertIn('PADDOCK_ASG_NAME="a,b"\n', (self.etc / "settings.env").read_text())
        self.assertEqual(stat.S_IMODE((self.etc / "settings.env").stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.program.stat().st_mode), 0o755)
        units = self.balancer.root / "etc/systemd/system"
        self.assertEqual((units / "paddock-proxy.socket.d/settings.conf").read_text(), "[Socket]\nListenStream=\nListenStream=443\n")
        self.assertIn("MemoryMax=380M", (units / "paddock-balancer.service.d/settings.conf").read_text())
        self.assertEqual(self.balancer.systemctl(), ["daemon-reload"])
        self.assertEqual(sorted(os.listdir(self.etc)), [".lock", "settings.env", "token"], "nothing half made is left")

    def test_the_token_is_made_once_and_kept(self) -> None:
        self.settings("balancer")
        self.boot()
        token = self.etc / "token"
        self.assertEqual(token.read_text(), self.token())
        self.assertGreaterEqual(len(token.read_text()), 43, "256 bits")
        self.assertEqual(stat.S_IMODE(token.stat().st_mode), 0o600)
        self.assertEqual(self.ssm.describe_parameters()["Parameters"][0]["Type"], "SecureString")
        other = self.instance("balancer")
        self.assertEqual(other.run("settings.py", "boot").returncode, 0)
        self.assertEqual((other.root / "etc/paddock/token").read_text(), token.read_text(), "a new balancer takes the same")

    def test_two_balancers_that_make_it_at_once_agree(self) -> None:
        front = self.cloud.front
        front.gate.clear()
        self.addCleanup(front.gate.set)
        script = "import management_token as t; print(t.provide())"
        both = [self.instance("balancer") for _ in range(2)]
        runs = [one.python("-c", script, PYTHONPATH=str(BOOT)) for one in both]
        wait_until(lambda: len(front.requests) == 2, "both have asked whether there is one")
        front.gate.set()
        for run in runs:
            _, error = run.communicate(timeout=60)
            self.assertEqual(run.returncode, 0, error)
        tokens = {(one.root / "etc/paddock/token").read_text() for one in both}
        self.assertEqual(tokens, {self.token()})

    def test_the_token_is_in_no_argument(self) -> None:
        self.settings("balancer")
        self.boot()
        front = self.cloud.front
        front.gate.clear()
        self.addCleanup(front.gate.set)
        front.requests.clear()
        rotation = self.balancer.start("management_token.py", "rotate")
        wait_until(lambda: front.requests, "the new token is on its way")
        new = json.loads(front.requests[0]["body"])["Value"]
        shown = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
        front.gate.set()
        out, error = rotation.communicate(timeout=60)
        self.assertIn(b"curl\0", shown)
        for secret in (new, SECRET):
            self.assertNotIn(secret.encode(), shown)
            self.assertNotIn(secret, out + error)

    def test_rotation(self) -> None:
        self.settings("balancer")
        self.boot()
        old = self.token()
        # Who rotates is a person in a shell, without the unit's environment.
        moved = {name: self.balancer.environment.pop(name) for name in list(self.balancer.environment) if name.startswith("BOOT_")}
        self.balancer.environment["BOOT_ROOT"] = moved.pop("BOOT_ROOT")
        (self.etc / "bootstrap.env").write_text("".join(f"{name}={value}\n" for name, value in moved.items()))
        done = self.balancer.run("management_token.py", "rotate")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotEqual(self.token(), old)
        self.assertEqual((self.etc / "token").read_text(), self.token())
        self.assertEqual(self.balancer.systemctl()[-1], "restart paddock-balancer.service")

    def test_an_upgrade_restarts_the_balancer_and_nothing_new_does_not(self) -> None:
        self.settings("balancer")
        self.boot()
        self.assertEqual(self.refresh().stdout.strip(), "refresh: nothing needs a restart")
        self.assertEqual(self.balancer.systemctl(), [])
        self.settings("balancer", version="2")
        self.assertEqual(self.refresh().returncode, 0)
        self.assertIn("# 2", self.program.read_text())
        self.assertEqual(self.balancer.systemctl(), ["restart paddock-balancer.service"])

    def test_what_the_new_program_refuses_changes_nothing(self) -> None:
        self.settings("balancer", PADDOCK_IDLE_TIMEOUT="5m")
        self.boot()
        before = (self.etc / "settings.env").read_text()
        self.settings("balancer", version="2", PADDOCK_IDLE_TIMEOUT="wrong", PROXY_PORT="9000")
        done = self.refresh()
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
        self.assertIn("--idle-timeout wrong", done.stderr)
        self.assertIn("# 1", self.program.read_text())
        self.assertEqual((self.etc / "settings.env").read_text(), before)
        port = self.balancer.root / "etc/systemd/system/paddock-proxy.socket.d/settings.conf"
        self.assertIn("ListenStream=8080", port.read_text())
        self.assertEqual(self.balancer.systemctl(), [])
        self.assertEqual(os.listdir(self.program.parent), ["paddock"])

    def test_a_program_with_a_wrong_checksum_is_not_put_in_place(self) -> None:
        self.settings("balancer")
        self.boot()
        self.settings("balancer", version="2", FETCH_PADDOCK_SHA256="0" * 64)
        done = self.refresh()
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
        self.assertIn("wrong checksum", done.stderr)
        self.assertIn("# 1", self.program.read_text())

    def test_a_program_for_another_machine(self) -> None:
        self.settings("balancer")
        self.boot()
        sum_ = self.put("other", b"\x7fELF of another kind")
        self.settings("balancer", FETCH_PADDOCK_URI="s3://deployment/other", FETCH_PADDOCK_SHA256=sum_)
        done = self.refresh()
        self.assertIn("is it built for this machine", done.stderr)
        self.assertIn("# 1", self.program.read_text())

    def test_keys_and_tls_change_without_a_restart(self) -> None:
        own_group = grp.getgrgid(os.getgid()).gr_name
        keys = b"alice sha256:00\n"
        self.ssm.put_parameter(Name="/tls/cert", Value="CERT 1", Type="String")
        self.ssm.put_parameter(Name="/tls/key", Value="KEY 1", Type="SecureString")
        more = {"FETCH_API_KEYS_URI": "s3://deployment/keys", "FETCH_API_KEYS_SHA256": self.put("keys", keys),
                "FETCH_TLS_CERT_PARAMETER": "/tls/cert", "FETCH_TLS_KEY_PARAMETER": "/tls/key"}
        self.settings("balancer", **more)
        self.balancer.environment["BOOT_TLS_GROUP"] = own_group
        self.boot()
        written = (self.etc / "settings.env").read_text()
        for flag in ("PADDOCK_API_KEYS_FILE", "PADDOCK_TLS_CERT", "PADDOCK_TLS_KEY"):
            self.assertIn(flag, written)
        self.assertEqual(stat.S_IMODE((self.etc / "tls/key.pem").stat().st_mode), 0o640)
        self.assertEqual((self.etc / "api-keys").read_bytes(), keys)
        self.ssm.put_parameter(Name="/tls/cert", Value="CERT 2", Type="String", Overwrite=True)
        self.assertEqual(self.refresh().stdout.strip(), "refresh: nothing needs a restart")
        self.assertEqual((self.etc / "tls/cert.pem").read_text(), "CERT 2")
        self.assertEqual(self.balancer.systemctl(), [])

    def test_the_cloudwatch_agent_is_told_the_namespace_and_started_when_it_is_there(self) -> None:
        lib = self.balancer.root / "scripts"
        shutil.copytree(BOOT, lib, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "infra/cloudwatch-agent/amazon-cloudwatch-agent.json", lib)
        self.settings("balancer", CLOUDWATCH_AGENT="true", PADDOCK_CLOUDWATCH_NAMESPACE="Paddock/mine")
        run = self.balancer.python(str(lib / "settings.py"), "boot")
        _, error = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 0, error)
        said = json.loads((self.etc / "cloudwatch-agent.json").read_text())
        self.assertEqual(said["metrics"]["namespace"], "Paddock/mine")
        self.assertIn("start --no-block paddock-cloudwatch-agent.path", self.balancer.systemctl())

    def test_a_new_port_restarts_the_socket(self) -> None:
        self.settings("balancer")
        self.boot()
        self.settings("balancer", PROXY_PORT="9000")
        self.refresh()
        self.assertEqual(self.balancer.systemctl(), [
            "daemon-reload", "stop paddock-balancer.service paddock-proxy.socket",
            "start paddock-proxy.socket paddock-balancer.service"])


class Agent(Case):
    def setUp(self) -> None:
        super().setUp()
        self.agent = self.instance("agent")

    def test_it_waits_for_the_token(self) -> None:
        self.settings("agent", PADDOCK_MANAGEMENT_ADDR="10.0.0.5:8085")
        boot = self.agent.start("settings.py", "boot")
        asked = lambda: [r for r in self.cloud.front.requests if r["headers"].get("X-Amz-Target") == "AmazonSSM.GetParameter"]
        wait_until(lambda: len(asked()) >= 2, "it has asked twice")
        self.assertIsNone(boot.poll())
        self.ssm.put_parameter(Name="/paddock/token", Value="x" * 43, Type="SecureString")
        out, error = boot.communicate(timeout=60)
        self.assertEqual(boot.returncode, 0, error)
        self.assertEqual((self.agent.root / "etc/paddock/token").read_text(), "x" * 43)
        self.assertIn("waiting for the balancer", out)

    def test_a_rotated_token_restarts_the_agent_once(self) -> None:
        self.ssm.put_parameter(Name="/paddock/token", Value="x" * 43, Type="SecureString")
        self.agent.run("management_token.py", "refresh")
        self.agent.run("management_token.py", "refresh")
        self.assertEqual(self.agent.systemctl(), ["try-restart paddock-agent.service"])


class Bundle(Case):
    def test_scripts_and_units_come_before_everything_else_starts(self) -> None:
        agent = self.instance("agent")
        self.bundle("agent", ("/etc/systemd/system/paddock.target", "[Unit]\n"), ("/usr/local/lib/paddock/x.py", "x\n"))
        done = agent.run("begin.py")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((agent.root / "usr/local/lib/paddock/x.py").read_text(), "x\n")
        self.assertEqual(agent.systemctl(), ["daemon-reload", "start --no-block paddock.target"])

    def test_those_of_the_last_boot_go_on(self) -> None:
        agent = self.instance("agent")
        (agent.root / "etc/systemd/system/paddock.target").write_text("[Unit]\n")
        done = agent.run("begin.py")
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (0, 1), done)
        self.assertIn("of the last boot go on", done.stderr)
        self.assertEqual(agent.systemctl()[-1], "start --no-block paddock.target")

    def test_no_other_file_is_written(self) -> None:
        agent = self.instance("agent")
        (agent.root / "etc/systemd/system/paddock.target").write_text("[Unit]\n")
        for path in ("/etc/passwd", "/usr/local/lib/paddock/../../../../etc/passwd"):
            self.bundle("agent", ("/usr/local/lib/paddock/x.py", "x\n"), (path, "root\n"))
            done = agent.run("begin.py")
            self.assertIn("no file of Paddock's", done.stderr)
            self.assertFalse((agent.root / "etc/passwd").exists() or (agent.root / "usr/local/lib/paddock/x.py").exists())


class Provide(Case):
    """The model and llama.cpp of an agent's instance."""

    def setUp(self) -> None:
        super().setUp()
        self.agent = self.instance("agent")
        self.model = os.urandom(3 << 20)
        self.archive = io.BytesIO()
        with tarfile.open(fileobj=self.archive, mode="w:gz") as archive:
            for name, mode in (("build/bin/llama-server", 0o755), ("build/bin/libggml.so", 0o644)):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = 3, mode
                archive.addfile(entry, io.BytesIO(b"abc"))
        self.wanted = {
            "FETCH_MODEL_URI": "s3://deployment/m.gguf", "FETCH_MODEL_SHA256": self.put("m.gguf", self.model),
            "FETCH_LLAMA_URI": "s3://deployment/llama.tar.gz",
            "FETCH_LLAMA_SHA256": self.put("llama.tar.gz", self.archive.getvalue()),
        }

    def test_model_and_llama(self) -> None:
        done = self.agent.run("provide.py", **self.wanted)
        self.assertEqual(done.returncode, 0, done.stderr)
        model = self.agent.root / "var/lib/paddock/models/m.gguf"
        self.assertEqual(model.read_bytes(), self.model)
        self.assertEqual(stat.S_IMODE(model.stat().st_mode), 0o644)
        self.assertEqual((self.agent.root / "etc/paddock/llama.env").read_text(), f'LLAMA_MODEL="{model}"\n')
        server = self.agent.root / "usr/local/bin/llama-server"
        self.assertEqual(server.read_bytes(), b"abc")
        self.assertTrue((server.resolve().parent / "libggml.so").exists(), "its libraries are beside it")

        self.cloud.front.requests.clear()
        again = self.agent.run("provide.py", **self.wanted)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(self.cloud.front.requests, [], "at the next boot nothing is fetched")

    def test_another_model_takes_the_place_of_the_first(self) -> None:
        self.agent.run("provide.py", **self.wanted)
        wanted = {**self.wanted, "FETCH_MODEL_URI": "s3://deployment/n.gguf", "FETCH_MODEL_SHA256": self.put("n.gguf", b"new")}
        self.assertEqual(self.agent.run("provide.py", **wanted).returncode, 0)
        self.assertEqual(sorted(os.listdir(self.agent.root / "var/lib/paddock/models")), ["n.gguf", "n.gguf.sha256"])

    def test_what_is_missing_is_one_line(self) -> None:
        for without, said in (("FETCH_MODEL_SHA256", "FETCH_MODEL_SHA256"), ("FETCH_LLAMA_URI", "llama-server")):
            wanted = {key: value for key, value in self.wanted.items() if key != without}
            done = self.instance("agent").run("provide.py", **wanted)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done)
            self.assertIn(said, done.stderr)

    def test_a_token_for_the_model_comes_from_ssm(self) -> None:
        done = self.agent.run("provide.py", **self.wanted, FETCH_MODEL_TOKEN_PARAMETER="/hf")
        self.assertIn("there is no SSM parameter /hf", done.stderr)


if __name__ == "__main__":
    unittest.main()
