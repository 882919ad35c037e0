"""moto's server, with the one protocol that it lacks.

usage: moto_server.py --port PORT

moto answers for AWS: other people's code, made for boto3, so that Paddock's calls are read by somebody who does not know
Paddock. Its CloudWatch does not speak Smithy's RPC v2 CBOR, which AWS's SDK for Rust does: such a request is retold to
moto in the JSON protocol, and the answer in CBOR.
"""

import argparse
import datetime
import gzip
import io
import json
import re

import cbor2
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

OPERATION = re.compile(r"/service/(\w+)/operation/(\w+)")


def seconds(value):
    """JSON has no times: AWS writes them as seconds since the epoch."""
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    raise TypeError(f"not expected in a request: {value!r}")


class CborRetold:
    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        operation = OPERATION.fullmatch(environ["PATH_INFO"])
        if operation is None:
            return self.app(environ, start_response)
        if environ.get("HTTP_SMITHY_PROTOCOL") != "rpc-v2-cbor":
            start_response("400 Bad Request", [("content-type", "text/plain")])
            return [b"no smithy-protocol: rpc-v2-cbor"]
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        if environ.get("HTTP_CONTENT_ENCODING") == "gzip":
            body = gzip.decompress(body)
        body = json.dumps(cbor2.loads(body), default=seconds).encode()
        retold = {
            **environ,
            "PATH_INFO": "/",
            "REQUEST_URI": "/",
            "RAW_URI": "/",
            "CONTENT_TYPE": "application/x-amz-json-1.0",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_X_AMZ_TARGET": ".".join(operation.groups()),
            "wsgi.input": io.BytesIO(body),
        }
        retold.pop("HTTP_CONTENT_ENCODING", None)
        told = {}

        def note(status, headers, exc_info=None):
            told["status"] = status

        answer = b"".join(self.app(retold, note))
        try:
            answer = cbor2.dumps(json.loads(answer or b"{}"))
        except ValueError:
            pass  # a page about a failure of moto: the client shall see that it is no answer
        headers = [
            ("smithy-protocol", "rpc-v2-cbor"),
            ("content-type", "application/cbor"),
            ("content-length", str(len(answer))),
        ]
        start_response(told["status"], headers)
        return [answer]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--port", type=int, required=True)
    options = arguments.parse_args()
    app = CborRetold(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", options.port, app, threaded=True)


if __name__ == "__main__":
    main()
