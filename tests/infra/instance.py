"""An instance for the boot scripts: a folder for its root, metadata that insist on IMDSv2, and moto for AWS."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any, Callable

import boto3

ROOT = Path(__file__).resolve().parents[2]
BOOT = ROOT / "infra" / "boot"
REGION = "eu-central-1"
INSTANCE = "i-0123456789abcdef0"
WAIT_SECONDS = 30
KEY_ID, SECRET, SESSION = "AKIAIOSFODNN7EXAMPLE", "secret/" + secrets.token_hex(16), "session+" + secrets.token_hex(32) + "=="


def wait_until(true: Callable[[], Any], what: str) -> Any:
    """Waits for a condition, and fails when it does not come."""
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{WAIT_SECONDS} s went by without: {what}")


class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Threads(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Clients that are killed, or that have enough, are what some tests are about."""


class Server:
    """A server of the test's own on loopback, in a thread."""

    def __init__(self, handler: type[Quiet]) -> None:
        self.server = Threads(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def metadata(has_role: bool = True) -> Server:
    """The instance metadata, which answer nobody without a token of theirs."""
    tokens: set[str] = set()
    role = {"AccessKeyId": KEY_ID, "SecretAccessKey": SECRET, "Token": SESSION, "Expiration": "2099-01-01T00:00:00Z"}
    pages = {"instance-id": INSTANCE}
    if has_role:
        pages.update({"iam/security-credentials/": "paddock", "iam/security-credentials/paddock": json.dumps(role)})

    class Imds(Quiet):
        def do_PUT(self) -> None:
            if self.path != "/latest/api/token" or not self.headers["X-aws-ec2-metadata-token-ttl-seconds"]:
                return self.answer(400)
            tokens.add(token := secrets.token_hex(8))
            self.answer(200, token.encode())

        def do_GET(self) -> None:
            if self.headers["X-aws-ec2-metadata-token"] not in tokens:
                return self.answer(401)
            page = pages.get(self.path.removeprefix("/latest/meta-data/"))
            self.answer(404 if page is None else 200, (page or "").encode())

    return Server(Imds)


class Front:
    """In front of moto: it notes every request, and can hold or fail them."""

    def __init__(self, port: int) -> None:
        self.requests: list[dict[str, Any]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.let_through = 0
        self.failing: dict[str, int] = {}
        self.refused: dict[str, tuple[int, bytes]] = {}
        front = self

        class Forward(Quiet):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                seen = {"method": self.command, "path": self.path, "headers": dict(self.headers), "body": body}
                front.requests.append(seen)
                if front.let_through > 0:
                    front.let_through -= 1
                else:
                    front.gate.wait(WAIT_SECONDS)
                target = self.headers["X-Amz-Target"] or self.path
                if target in front.refused:
                    return self.answer(*front.refused[target])
                if front.failing.get(target, 0):
                    front.failing[target] -= 1
                    return self.answer(500, b"{}")
                moto = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
                try:
                    moto.request(self.command, self.path, body, dict(self.headers))
                    said = moto.getresponse()
                    kept = {name: value for name, value in said.headers.items()
                            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server")}
                    self.answer(said.status, said.read(), kept)
                finally:
                    moto.close()

            do_POST = do_PUT = do_GET

        self.server = Server(Forward)

    def ranges(self) -> list[str]:
        """The parts that were asked for."""
        found = [request["headers"].get("Range") for request in self.requests]
        return [wanted for wanted in found if wanted and wanted != "bytes=0-0"]


MOTO = """import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
app = DomainDispatcherApplication(create_backend_app)
make_server("127.0.0.1", 0, app, threaded=True, fd=int(sys.argv[1])).serve_forever()
"""


class Cloud:
    """moto in a process of its own, and the front before it."""

    def __init__(self) -> None:
        # Its socket is inherited: a port that is only looked up may be another's by the time that moto has started.
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port, number = listening.getsockname()[1], listening.fileno()
            self.process = subprocess.Popen([sys.executable, "-c", MOTO, str(number)], pass_fds=[number],
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{port}"
        self.front = Front(port)

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION, endpoint_url=self.url, aws_access_key_id="x", aws_secret_access_key="y")

    def reset(self) -> None:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=WAIT_SECONDS)
        connection.request("POST", "/moto-api/reset")
        connection.getresponse().read()
        connection.close()
        self.front.requests.clear()
        self.front.refused.clear()

    def close(self) -> None:
        self.front.server.close()
        self.process.terminate()
        self.process.wait()


class CloudCase(unittest.TestCase):
    """AWS, empty at the begin of each test."""

    cloud: Cloud

    @classmethod
    def setUpClass(cls) -> None:
        cls.cloud = Cloud()
        cls.addClassCleanup(cls.cloud.close)

    def setUp(self) -> None:
        self.cloud.reset()

    def instance(self, role: str, has_role: bool = True) -> Instance:
        made = Instance(self.cloud, role, has_role)
        self.addCleanup(made.close)
        return made


class Instance:
    def __init__(self, cloud: Cloud, role: str, has_role: bool = True) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="paddock-"))
        for folder in ("etc/paddock", "etc/systemd/system", "usr/local/bin", "usr/local/lib/paddock", "bin", "state"):
            (self.root / folder).mkdir(parents=True)
        self.imds = metadata(has_role)
        self.calls = self.root / "systemctl.calls"
        self.program("systemctl", f'echo "$@" >> {self.calls}\n')
        self.environment = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
            "BOOT_ROOT": str(self.root), "BOOT_ROLE": role, "BOOT_REGION": REGION, "BOOT_BUCKET": "deployment",
            "BOOT_SETTINGS_KEY": f"{role}/settings.env", "BOOT_TOKEN_PARAMETER": "/paddock/token",
            "BOOT_LOG_GROUP": "/paddock/logs", "STATE_DIRECTORY": str(self.root / "state"),
            "AWS_ENDPOINT_URL": cloud.front.server.url, "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def program(self, name: str, shell: str) -> None:
        """A program that the scripts find before the machine's own."""
        path = self.root / "bin" / name
        path.write_text("#!/bin/bash\n" + shell)
        path.chmod(0o755)

    def start(self, script: str, *words: str, **environment: str) -> subprocess.Popen[str]:
        return self.python(str(BOOT / script), *words, **environment)

    def python(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """In a group of its own, so that it can be killed with all that it started."""
        return subprocess.Popen([sys.executable, *words], env={**self.environment, **environment},
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                start_new_session=True)

    def run(self, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(script, *words, **environment)
        try:
            out, error = process.communicate(timeout=WAIT_SECONDS * 2)
        except subprocess.TimeoutExpired:
            kill(process)
            raise
        return subprocess.CompletedProcess(words, process.returncode, out, error)

    def systemctl(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def close(self) -> None:
        self.imds.close()
        shutil.rmtree(self.root)


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
