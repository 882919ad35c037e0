"""Where bytes come from: s3://bucket/key, https://…, hf://owner/repository/path."""

import os
import re
import urllib.parse
from typing import NamedTuple

import aws

NOTHING_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
# A download is given up when this little arrives for so long.
STALL_BYTES_PER_SECOND = 1024
STALL_SECONDS = 20
SMALL_BYTES = 1 << 20


class Size(NamedTuple):
    bytes: int
    ranges: bool


def shown(uri: str) -> str:
    """For people: what comes before the host or after the path may be a secret, as in presigned addresses."""
    if uri.startswith(("s3://", "hf://")):
        return uri
    return re.sub(r"://[^/]*@", "://", re.split(r"[?#]", uri)[0])


class Source:
    def __init__(self, uri: str, token: str = "") -> None:
        """`token` is presented to https and Hugging Face, if there is one."""
        self.name = shown(uri)
        self.token = token
        self.region = ""
        scheme, _, rest = uri.partition("://")
        if scheme == "s3" and re.fullmatch(r"[a-z0-9.-]+/.+", rest):
            self.region = aws.region()
            self.bucket, _, self.key = rest.partition("/")
        elif scheme == "hf" and re.fullmatch(r"[^/]+/[^/]+/.+", rest):
            owner, repository, path = rest.split("/", 2)
            repository, _, revision = repository.partition("@")
            base = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
            self.url = f"{base}/{owner}/{repository}/resolve/{revision or 'main'}/{urllib.parse.quote(path)}"
            self.forbid_cleartext()
        elif scheme in ("https", "http"):
            self.url = uri
            self.forbid_cleartext()
        else:
            raise aws.Trouble(f"{self.name}: neither s3://BUCKET/KEY nor https://… nor hf://OWNER/REPOSITORY/PATH")

    def forbid_cleartext(self) -> None:
        """Only this machine itself may be spoken to without TLS."""
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1"):
            raise aws.Trouble(f"{self.name}: without TLS anybody on the way can change it: use https://")
        self.protocols = "=https" if parts.scheme == "https" else "=http,https"

    def lines(self) -> aws.Lines:
        """What curl must be told to get it."""
        lines = [("speed-limit", str(STALL_BYTES_PER_SECOND)), ("speed-time", str(STALL_SECONDS))]
        if self.region:
            # With the bucket in the path TLS holds for names with dots, too.
            path = f"/{self.bucket}/{urllib.parse.quote(self.key, safe='/-_.~')}"
            return lines + aws.signed("s3", self.region) + [
                ("url", aws.endpoint("s3", self.region) + path), ("header", "x-amz-content-sha256: " + NOTHING_SHA256)]
        lines += [("url", self.url), ("location", ""), ("max-redirs", "5"), ("globoff", ""),
                  ("proto", self.protocols), ("proto-redir", self.protocols)]
        return lines + ([("header", "Authorization: Bearer " + self.token)] if self.token else [])

    def refused(self, answer: aws.Answer) -> aws.Trouble:
        """Why there is nothing, in one line."""
        code, message = aws.error_of(answer.body)
        broke = answer.curl_exit not in aws.TOLD_EXITS
        what = f"{code}: {message}" if code else answer.curl_says if broke else f"status {answer.status}"
        mend = ""
        if answer.status in (401, 403) and self.region:
            mend = "; let the instance's role have s3:GetObject on it (and kms:Decrypt on its key), and see that it exists: S3 may say the same of both"
        elif answer.status in (401, 403):
            mend = "; give a token that may read it, in the SSM parameter that FETCH_MODEL_TOKEN_PARAMETER names"
        elif answer.status == 404:
            mend = "; see that it exists, and that its name is right"
        return aws.Trouble(f"{self.name}: {what}{mend}", answer.failed_in_passing(), code)

    def size(self) -> Size:
        """How long it is, and whether it can be had in parts; asked with its first byte."""
        return aws.patiently(self._size_once)

    def read(self) -> bytes:
        """The whole of something small."""
        return aws.patiently(self._read_once)

    def _size_once(self) -> Size:
        answer = self._in_its_region([("range", "0-0"), ("max-filesize", str(SMALL_BYTES)), ("max-time", "60")])
        told = re.fullmatch(r"bytes 0-0/(\d+)", answer.headers.get("range", ""))
        if answer.status == 206 and told:
            return Size(int(told.group(1)), True)
        if answer.status == 200:
            return Size(0, False)
        raise self.refused(answer)

    def _read_once(self) -> bytes:
        answer = self._in_its_region([("max-filesize", str(SMALL_BYTES)), ("max-time", str(aws.CALL_TIMEOUT_SECONDS))])
        if answer.status == 200 and answer.curl_exit == 0:
            return answer.body
        raise self.refused(answer)

    def _in_its_region(self, lines: aws.Lines) -> aws.Answer:
        answer = aws.curl(self.lines() + lines)
        elsewhere = answer.headers.get("region", "")
        if answer.status in (301, 307, 400) and self.region and elsewhere not in ("", self.region):
            self.region = elsewhere
            answer = aws.curl(self.lines() + lines)
        return answer
