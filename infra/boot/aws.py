"""Signed calls to AWS by curl, with the role's credentials from the instance metadata (IMDSv2).

Whatever is secret reaches curl by its standard input or an inherited file, never by its arguments: those are for
everybody on the machine to read.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

CONNECT_TIMEOUT_SECONDS = 5
CALL_TIMEOUT_SECONDS = 30
CALL_TRIES = 5
IMDS_TIMEOUT_SECONDS = 2
IMDS_TRIES = 4
LONGEST_PAUSE_SECONDS = 10
# curl ended as it was told to: all well, an error of HTTP, more than was wanted.
TOLD_EXITS = (0, 22, 63)

Lines = List[Tuple[str, str]]


class Trouble(Exception):
    """One line for people; `passing` if the same may work a moment later."""

    def __init__(self, line: str, passing: bool = False, code: str = "") -> None:
        super().__init__(" ".join(line.split()))
        self.passing = passing
        self.code = code


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Dict[str, str]
    curl_exit: int
    curl_says: str

    def failed_in_passing(self) -> bool:
        return self.status in (0, 408, 429) or self.status >= 500 or self.curl_exit not in TOLD_EXITS


class Credentials(NamedTuple):
    key_id: str
    secret: str
    token: str
    until: float


def imds(path: str) -> str:
    """What the instance metadata says; an HTTPError 404 where it says nothing."""
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
    for attempt in range(IMDS_TRIES):
        try:
            ask = urllib.request.Request(base + "/latest/api/token", headers=lifetime, method="PUT")
            token = direct.open(ask, timeout=IMDS_TIMEOUT_SECONDS).read().decode()
            ask = urllib.request.Request(base + "/latest/meta-data/" + path, headers={"X-aws-ec2-metadata-token": token})
            return direct.open(ask, timeout=IMDS_TIMEOUT_SECONDS).read().decode()
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise
            if attempt == IMDS_TRIES - 1:
                raise Trouble(
                    f"the instance metadata at {base} does not answer ({error}): it must be enabled, with a hop limit"
                    " of at least 1", passing=True) from error
            time.sleep(min(2 ** attempt, 5))
    raise AssertionError("unreachable")


_kept: List[Credentials] = []
_lock = threading.Lock()


def credentials() -> Credentials:
    with _lock:
        if not _kept or _kept[0].until - time.time() < 300:
            _kept[:] = [_role_credentials()]
        return _kept[0]


def _role_credentials() -> Credentials:
    try:
        role = imds("iam/security-credentials/").split("\n")[0]
        said = json.loads(imds("iam/security-credentials/" + role))
        until = datetime.strptime(said["Expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        return Credentials(said["AccessKeyId"], said["SecretAccessKey"], said["Token"], until.timestamp())
    except (urllib.error.HTTPError, KeyError, ValueError) as error:
        raise Trouble("no credentials: the instance has no role, or not yet: give it an instance profile",
                      passing=True) from error


def region() -> str:
    try:
        return os.environ["BOOT_REGION"]
    except KeyError:
        raise Trouble("BOOT_REGION is not set: it is in /etc/paddock/bootstrap.env") from None


def endpoint(service: str, in_region: str) -> str:
    given = os.environ.get("AWS_ENDPOINT_URL_" + service.upper().replace("-", "_")) or os.environ.get("AWS_ENDPOINT_URL")
    if given:
        return given.rstrip("/")
    if os.environ.get("BOOT_DUALSTACK") == "true":
        return f"https://s3.dualstack.{in_region}.amazonaws.com" if service == "s3" else f"https://{service}.{in_region}.api.aws"
    return f"https://{service}.{in_region}.amazonaws.com" + (".cn" if in_region.startswith("cn-") else "")


def signed(service: str, in_region: str) -> Lines:
    """What makes curl sign a request."""
    role = credentials()
    return [("aws-sigv4", f"aws:amz:{in_region}:{service}"), ("user", f"{role.key_id}:{role.secret}"),
            ("header", "X-Amz-Security-Token: " + role.token)]


def config(lines: Lines) -> bytes:
    """curl's configuration file."""
    text = []
    for name, value in lines:
        if "\n" in value or "\r" in value:
            raise Trouble(f"a line break in a value for curl's {name}")
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        text.append(f'{name} = "{quoted}"' if value else name)
    return "\n".join(text).encode()


def curl(lines: Lines, body: Optional[bytes] = None, to: Optional[int] = None, watch: Optional[List[Any]] = None) -> Answer:
    """One request; its answer's body goes into the open file `to` where that stands, or into the answer.

    `watch` holds the process while it runs, for who may want to end it.
    """
    told = [("silent", ""), ("show-error", ""), ("connect-timeout", str(CONNECT_TIMEOUT_SECONDS)),
            ("write-out", r"%{stderr}\nstatus=%{http_code}\nrange=%header{content-range}\nregion=%header{x-amz-bucket-region}\n")]
    files: Tuple[int, ...] = ()
    if body is not None:
        memory = os.memfd_create("body")
        files = (memory,)
        with os.fdopen(os.dup(memory), "wb") as file:
            file.write(body)
        told.append(("data-binary", f"@/dev/fd/{memory}"))
    try:
        with subprocess.Popen(["curl", "--disable", "--config", "-"], stdin=subprocess.PIPE, pass_fds=files,
                              stdout=subprocess.PIPE if to is None else to, stderr=subprocess.PIPE) as process:
            if watch is not None:
                watch.append(process)
            out, said = process.communicate(config(told + lines))
            if watch is not None:
                watch.remove(process)
    finally:
        for file in files:
            os.close(file)
    text = said.decode(errors="replace")
    found = dict(re.findall(r"^(status|range|region)=(.*)$", text, re.MULTILINE))
    says = " ".join(line for line in text.splitlines() if line.startswith("curl:"))
    return Answer(int(found.get("status", 0)), out or b"", found, process.returncode, says)


def patiently(what: Callable[[], Any]) -> Any:
    """Does it, and does it again while its failure may pass."""
    for attempt in range(CALL_TRIES):
        try:
            return what()
        except Trouble as trouble:
            if not trouble.passing or attempt == CALL_TRIES - 1:
                raise
            time.sleep(min(2 ** attempt, 10))
    raise AssertionError("unreachable")


def until_it_works(what: Callable[[], Any], seconds: int) -> Any:
    """Does it again and again for so long, for what somebody else has yet to do; why it fails is told once."""
    until = time.monotonic() + seconds
    pause, told = 1, ""
    while True:
        try:
            return what()
        except Trouble as trouble:
            if time.monotonic() > until:
                raise
            if str(trouble) != told:
                told = str(trouble)
                print(f"{told}; tried again for {seconds // 60} minutes", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def error_of(body: bytes) -> Tuple[str, str]:
    """Code and message of an error, in JSON or in XML."""
    text = body.decode(errors="replace")
    try:
        said = json.loads(text)
        return said.get("__type", "").split("#")[-1], said.get("message") or said.get("Message") or ""
    except (ValueError, AttributeError):
        code, message = (re.search(f"<{tag}>([^<]*)<", text) for tag in ("Code", "Message"))
        return code.group(1) if code else "", message.group(1) if message else ""


def call(service: str, action: str, headers: List[str], body: bytes) -> bytes:
    """One action of an AWS service."""
    return patiently(lambda: call_once(service, action, headers, body))


def call_once(service: str, action: str, headers: List[str], body: bytes) -> bytes:
    lines = [("url", endpoint(service, region()) + "/"), ("max-time", str(CALL_TIMEOUT_SECONDS))]
    answer = curl(lines + signed(service, region()) + [("header", line) for line in headers], body)
    if answer.status == 200:
        return answer.body
    code, message = error_of(answer.body)
    what = f"{code}: {message}" if code else answer.curl_says or f"status {answer.status}"
    mend = f"; let the instance's role have {service}:{action}" if "Denied" in code else ""
    passing = answer.failed_in_passing() or "Throttl" in code
    raise Trouble(f"{service} {action} in {region()}: {what}{mend}", passing, code)
