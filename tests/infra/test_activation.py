"""The socket units and the balancer's unit for real: a connection starts the program on the sockets as they are named."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
import urllib.request
from pathlib import Path

from instance import ROOT, wait_until
from test_units import UNITS, read

PROGRAM = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "paddock"
TOKEN = "t" * 43


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@unittest.skipUnless(shutil.which("systemd-socket-activate"), "no systemd-socket-activate here")
@unittest.skipUnless(PROGRAM.exists(), f"{PROGRAM} is not built: make rust-test builds it")
class Activation(unittest.TestCase):
    def test_a_connection_starts_the_balancer_which_says_that_it_is_ready(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="paddock-")
        self.addCleanup(folder.cleanup)
        token, log = Path(folder.name, "token"), Path(folder.name, "log")
        token.write_text(TOKEN)
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(folder.name + "/notify")
        manager.settimeout(30)
        self.addCleanup(manager.close)

        units = {name: read(UNITS / "balancer" / f"paddock-{name}.socket") for name in ("proxy", "management")}
        ports = {name: free_port() for name in units}
        # The other way round than the program would guess: the names decide, as systemd promises no order.
        order = [name.removeprefix("paddock-").removesuffix(".socket")
                 for name in read(UNITS / "balancer" / "paddock-balancer.service")["Sockets"][0].split()][::-1]
        names = ":".join(units[name]["FileDescriptorName"][0] for name in order)
        start = read(UNITS / "balancer" / "paddock-balancer.service")["ExecStart"][0].replace("%d/token", str(token)).split()
        self.assertEqual(start[0], "/usr/local/bin/paddock")
        listens = [word for name in order for word in ("-l", f"127.0.0.1:{ports[name]}")]
        environment = {"NOTIFY_SOCKET": folder.name + "/notify", "PADDOCK_FLEET": "none", "PADDOCK_MAX_BUFFERED_BYTES": "96MiB"}
        passed = [word for name, value in environment.items() for word in ("-E", f"{name}={value}")]
        with log.open("w") as file:
            process = subprocess.Popen(["systemd-socket-activate", *listens, f"--fdname={names}", *passed, str(PROGRAM), *start[1:]],
                                       stdout=file, stderr=file)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

        def listens_there() -> bool:
            return "Listening on" in log.read_text() and log.read_text().count("Listening on") == 2

        wait_until(listens_there, "both sockets are open")
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['proxy']}/health", timeout=30) as answer:
            self.assertEqual(answer.status, 200)
        self.assertEqual(manager.recv(100).strip(), b"READY=1")
        ask = urllib.request.Request(f"http://127.0.0.1:{ports['management']}/api/v1/state", headers={"Authorization": "Bearer " + TOKEN})
        with urllib.request.urlopen(ask, timeout=30) as answer:
            self.assertEqual(answer.status, 200, "the other socket is the management's, with the token of the credential")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(30), 0, log.read_text())


if __name__ == "__main__":
    unittest.main()
