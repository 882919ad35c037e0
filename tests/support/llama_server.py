"""Runs llama.cpp's own server, from the wheel `xllamacpp`: nothing is compiled, one thread computes.

usage: llama_server.py --model M.gguf --port P [--host H] [--slots N] [--ctx N] [--batch N] [--api-key K] [--no-slots] [--load-delay S]

With --load-delay it answers 503 "Loading model" for S seconds first, as llama.cpp does while it reads a big model.
"""

import argparse
import http.server
import json
import os
import signal
import socket
import sys
import threading
import time

LOADING = json.dumps({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}).encode()


class Loading(http.server.BaseHTTPRequestHandler):
    """Answers whatever is asked with llama.cpp's 503."""

    def answer(self):
        self.send_response(503)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(LOADING)))
        self.end_headers()
        self.wfile.write(LOADING)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class LoadingServer(http.server.ThreadingHTTPServer):
    """Shares its port with the real server, so that somebody listens all the time."""

    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def retire(self):
        """Answers those who are connected already: closing the listener would reset them."""
        self.shutdown()
        self.socket.setblocking(False)
        try:
            while True:
                self.process_request(*self.get_request())
        except BlockingIOError:
            self.server_close()


def start(options):
    """Returns when the model is loaded and the port listens."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {"tiny-random"}
    params.hostnames = [options.host]
    params.port = options.port
    params.reuse_port = options.load_delay > 0
    params.n_parallel = options.slots
    params.n_ctx = options.ctx * options.slots
    params.n_batch = options.batch
    params.endpoint_slots = not options.no_slots
    params.endpoint_metrics = True
    params.endpoint_props = True
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    if options.api_key:
        params.api_keys = [options.api_key]
    return xllamacpp.Server(params)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--model", required=True, help="a GGUF file")
    arguments.add_argument("--port", required=True, type=int)
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--slots", type=int, default=4)
    arguments.add_argument("--ctx", type=int, default=8192, help="tokens for each slot")
    arguments.add_argument("--batch", type=int, default=2048, help="tokens of a prompt between two looks around")
    arguments.add_argument("--api-key")
    arguments.add_argument("--no-slots", action="store_true", help="/slots answers 501")
    arguments.add_argument("--load-delay", type=float, default=0, metavar="SECONDS")
    options = arguments.parse_args()
    if not os.path.isfile(options.model):
        sys.exit(f"llama_server.py: no model at {options.model}: write one with tiny_model.py")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    loading = None
    try:
        if options.load_delay > 0:
            loading = LoadingServer((options.host, options.port), Loading)
            threading.Thread(target=loading.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            time.sleep(options.load_delay)
        server = start(options)
    except (OSError, RuntimeError, ImportError) as error:
        sys.exit(f"llama_server.py: cannot serve on {options.host}:{options.port}: {error}")
    if loading:
        loading.retire()
    print(f"llama_server.py: ready on {server.listening_address}", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
