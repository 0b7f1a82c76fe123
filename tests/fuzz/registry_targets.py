"""What a registry answers, and what a Docker configuration holds."""

from __future__ import annotations

import math
import subprocess
import threading
from collections.abc import Iterator
from typing import cast
from unittest.mock import patch

import urllib3

from drypoint.digest import Digest
from drypoint.errors import AuthenticationError, ContentError, SourceError
from drypoint.http.answer import Answer
from drypoint.http.retry import Patience, RetryPolicy, TransientError, parse_retry_after
from drypoint.oci import Descriptor
from drypoint.sources.registry.auth import TokenAnswer, authorize
from drypoint.sources.registry.blob import read_blob
from drypoint.sources.registry.challenge import parse_challenges
from drypoint.sources.registry.client import RegistryClient
from drypoint.sources.registry.credentials import Credentials, DockerConfigStore

from .material import Material, as_file, pieces
from .target import PropertyError, Target

_CREDENTIALS = (
    None,
    Credentials("name", "secret"),
    Credentials(identity_token="token"),
    Credentials(registry_token="token"),
)
_BLOB = b"0123456789" * 10
_HEADER_NAMES = ("Content-Range", "Content-Length", "Retry-After", "X")


def answer_any_challenge(data: bytes) -> None:
    material = Material(data)
    credentials, plain_http, status = material.choice(_CREDENTIALS), bool(material.number() & 1), material.number(2)
    # As http.client has it: a header's bytes are Latin-1.
    headers = [material.text().decode("latin-1") for _ in range(1 + material.number() % 3)]
    dialogue = authorize(
        parse_challenges(headers), credentials, ("repository:a:pull",), "example.com", plain_http=plain_http
    )
    try:
        request = next(dialogue)
        if not plain_http and not request.url.lower().startswith("https:"):
            raise PropertyError(f"asks for a token without TLS: {request.url}")
        while True:
            request = dialogue.send(TokenAnswer(200 + status % 400, material.rest()))
    except StopIteration as end:
        header: str = end.value.header
        if not header.isascii() or not header.isprintable():
            raise PropertyError(f"{header!r} cannot be a header") from None


def _challenges() -> Iterator[bytes]:
    token = b'{"token":"abc","expires_in":300}'
    for text in (
        b'Bearer realm="https://auth.example.com/token",service="x",scope="repository:a:pull"',
        b'Basic realm="registry"',
        b'Negotiate dGV4dA==, Bearer realm="http://127.0.0.1:5000/t?a=b" , basic',
        b'Bearer realm="https://[::1/token"',
        b'Bearer realm="https://h:99999/\\"x"',
    ):
        for credentials in range(len(_CREDENTIALS)):
            yield bytes([credentials, 0, 0, 0, 0, len(text)]) + text + token


def read_any_retry_after(data: bytes) -> None:
    seconds = parse_retry_after(data.decode("latin-1"))
    if seconds is not None and not (seconds >= 0 and math.isfinite(seconds)):
        raise PropertyError(f"waits for {seconds} seconds")


def _retry_afters() -> Iterator[bytes]:
    yield b"120"
    yield b"Fri, 31 Dec 1999 23:59:59 GMT"
    yield b"Fri, 31 Dec 99999 23:59:59 +9999"
    yield b"9" * 100


class _Response:
    """As much of urllib3's response as an answer needs, from a script."""

    def __init__(self, status: int, headers: urllib3.HTTPHeaderDict, body: Iterator[bytes], *, breaks: bool) -> None:
        self.status = status
        self.headers = headers
        self._body = body
        self._breaks = breaks

    def read1(self, amount: int, *, decode_content: bool) -> bytes:
        piece = next(self._body, b"")
        if not piece and self._breaks:
            raise urllib3.exceptions.ProtocolError("cut")
        return piece

    def close(self) -> None:
        self._breaks = False

    def release_conn(self) -> None:
        self._breaks = False


class _Client:
    """A registry that answers as the fuzzer says."""

    domain = "example.com"

    def __init__(self, material: Material) -> None:
        self._material = material

    def patience(self, what: str) -> Patience:
        return Patience(RetryPolicy(3, 0.0, 0.0), what, threading.Event())

    def open_blob(self, repository: str, blob: Descriptor, offset: int) -> Answer:
        material = self._material
        if not material:
            raise TransientError("no more answers")
        kind = material.number()
        headers = urllib3.HTTPHeaderDict()
        for _ in range(kind >> 4 & 3):
            # Some are longer than any number should be: http.client takes lines of 64 KiB.
            times = 100 if kind & 0x0F == 0x0F else 1
            headers.add(material.choice(_HEADER_NAMES), material.text().decode("latin-1") * times)
        if kind & 0x40:
            headers.add("Content-Range", f"bytes {offset}-{len(_BLOB) - 1}/{len(_BLOB)}")
        status = 200 if offset == 0 else (200, 206, 416)[kind % 3]
        body = _BLOB[offset if status == 206 else 0 :][: material.number()] if kind & 0x80 else material.text()
        response = _Response(status, headers, pieces(body, 1 + material.number()), breaks=bool(kind & 8))
        return Answer(cast(urllib3.BaseHTTPResponse, response), "https://example.com/", foreign=False)


def read_any_blob(data: bytes) -> None:
    material = Material(data)
    size = material.choice((len(_BLOB), 0, 1 << 30))
    client = cast(RegistryClient, _Client(material))
    got = 0
    for chunk in read_blob(client, "a", Descriptor("", Digest("sha256:" + "0" * 64), size)):
        got += len(chunk)
        if got > size:
            raise PropertyError(f"{got} of {size} bytes")
    if got != size:
        raise PropertyError(f"a clean end after {got} of {size} bytes")


def _answers() -> Iterator[bytes]:
    whole, half, rest = b"\x80\xff\x20", b"\x88\x32\x20", b"\xc1\xff\x20"
    yield b"\0" + whole
    yield b"\0" + half + rest
    yield b"\0" + half + half
    yield b"\0" + b"\x90\x00\x0fbytes 0-99/100 " + b"\xff\x20"
    yield b"\0" + half + b"\x92\0\x0dbytes */100  " + b"\x32\x20" + whole
    yield b"\0" + b"\x90\x01\x03100\xff\x20"
    yield b"\2" + b"\x90\x01\x03100\xff\x20"


def read_any_docker_config(data: bytes) -> None:
    head, content = data[:1], data[1:]
    config, _, answer = content.partition(b"\n--\n")
    ended = subprocess.CompletedProcess(["helper"], head[0] & 1 if head else 0, answer, b"")
    registry = ("docker.io", "example.com", "localhost:5000")[head[0] % 3 if head else 0]
    with as_file(config) as path, patch("drypoint.sources.registry.credentials.subprocess.run", return_value=ended):
        found = DockerConfigStore(path).get(registry)
    if found is not None and not found:
        raise PropertyError("credentials that prove nothing")


def _docker_configs() -> Iterator[bytes]:
    yield b'\0{"auths":{"https://index.docker.io/v1/":{"auth":"bmFtZTpzZWNyZXQ="}}}'
    yield b'\1{"auths":{"https://example.com/v2/":{"username":"a","password":"b","identitytoken":"c"}}}'
    yield b'\4{"credHelpers":{"example.com":"pass"},"credsStore":"x"}\n--\n{"Username":"<token>","Secret":"s"}'
    yield b'\2{"credsStore":"x"}\n--\ncredentials not found in native keychain'


TARGETS = (
    Target(
        "challenge",
        answer_any_challenge,
        _challenges,
        ("drypoint.sources.registry",),
        (AuthenticationError,),
        tokens=(b"Bearer ", b"realm=", b"https://"),
    ),
    Target(
        "retry_after",
        read_any_retry_after,
        _retry_afters,
        ("drypoint.sources.registry",),
        (),
        longest=120,
        tokens=(b"GMT", b"Dec", b"Fri, ", b"+2359"),
    ),
    Target(
        "blob",
        read_any_blob,
        _answers,
        ("drypoint.sources.registry",),
        (SourceError, ContentError),
        longest=16384,
        tokens=(b"bytes ", b"bytes */"),
    ),
    Target(
        "docker_config",
        read_any_docker_config,
        _docker_configs,
        ("drypoint.sources.registry",),
        (AuthenticationError,),
        tokens=(b'"auth":', b'"auths":'),
    ),
)
