"""Answers as servers, proxies and broken connections give them, byte for byte."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest
from tests.support.quick_network import QUICK
from tests.support.raw_server import RawRequest, RawServer, answer, raw_server
from urllib3.connection import HTTPSConnection

from drypoint.digest import digest_of
from drypoint.errors import DigestMismatchError, ManifestError, SourceError, TransferError
from drypoint.oci import Image, Platform, parse_reference
from drypoint.samples.images import Compression, build_image, build_layer
from drypoint.sources.registry import RegistryOptions, RegistrySource, RetryPolicy

LAYER = bytes(range(256)) * 2000
BUILT = build_image([build_layer(LAYER, Compression.NONE)])
DIGEST_HEADER = f"Docker-Content-Digest: {BUILT.digest}"
TYPE = f"Content-Type: {BUILT.media_type}"
MANIFEST = answer(200, BUILT.manifest, TYPE, DIGEST_HEADER)


def respond(request: RawRequest) -> bytes:
    if request.target == "/v2/":
        return answer(200, b"{}")
    if "/manifests/" in request.target:
        return MANIFEST
    return answer(200, BUILT.config if request.target.endswith(BUILT.image_id) else LAYER)


def first(*odd: bytes, part: str = "/manifests/") -> Callable[[RawRequest], bytes]:
    """A registry whose first answers to requests with *part* are *odd*."""
    waiting = list(odd)
    return lambda request: waiting.pop(0) if waiting and part in request.target else respond(request)


def pull(server: RawServer, options: RegistryOptions = QUICK, rest: str = ":1.0") -> Image:
    with RegistrySource(options) as source:
        found = source.resolve(parse_reference(f"{server.host}/team/app{rest}"), Platform("linux", "amd64"))
        assert b"".join(source.open_layer(found, found.layers[0])) == LAYER
    assert found.image_id == BUILT.image_id
    return found


def asked(server: RawServer, part: str) -> int:
    return sum(part in target for target in server.targets())


# --- connections that end too early ---

HEAD = MANIFEST[: MANIFEST.index(b"\r\n\r\n") + 4]


@pytest.mark.parametrize(
    "end", [0, 4, 12, 17, 22, 30, HEAD.index(b"Content-Length") + 9, len(HEAD) - 4, len(HEAD) - 2, len(HEAD) - 1]
)
def test_an_answer_cut_inside_its_header_is_asked_for_again(end: int, caplog: pytest.LogCaptureFixture) -> None:
    for rest in (":1.0", f"@{BUILT.digest}"):
        with caplog.at_level(logging.WARNING), raw_server(first(HEAD[:end], HEAD[:end])) as server:
            pull(server, rest=rest)
            assert asked(server, "/manifests/") == 3
    # urllib3 logs a traceback and the address, with all that is secret in it.
    assert caplog.records == []


def test_an_answer_cut_inside_its_header_every_time() -> None:
    with raw_server(first(*[HEAD[:30]] * 99)) as server:
        with pytest.raises(TransferError, match="the answer ended inside its header"):
            pull(server)
        assert asked(server, "/manifests/") == 4


def test_a_blob_s_answer_cut_inside_its_header() -> None:
    whole = answer(200, LAYER, "X-Id: 1")
    with raw_server(first(whole[:30], whole[: whole.index(b"X-Id") + 3], part="/blobs/")) as server:
        pull(server)


@pytest.mark.parametrize("line", ["no colon here", "Location", "\x00"])
def test_a_malformed_header_is_an_error_and_is_not_logged(line: str, caplog: pytest.LogCaptureFixture) -> None:
    odd = answer(200, BUILT.manifest, TYPE, line)
    with caplog.at_level(logging.WARNING), raw_server(first(odd)) as server:
        pull(server)
        assert asked(server, "/manifests/") == 2
    assert caplog.records == []


def test_headers_of_many_kinds_are_read() -> None:
    kinds = answer(
        200,
        BUILT.manifest,
        TYPE,
        "X-Folded: a",
        "  b",
        "\tc",
        "X-Empty:",
        "X-Colon: a: b",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
    )
    with raw_server(first(b"HTTP/1.1 100 Continue\r\nX-A: b\r\n\r\n" + kinds)) as server:
        pull(server)
        assert asked(server, "/manifests/") == 1


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("rest", [":1.0", "@digest"])
def test_a_body_that_ends_with_its_connection(version: str, rest: str) -> None:
    rest = rest.replace("digest", BUILT.digest)
    whole = answer(200, BUILT.manifest, TYPE, DIGEST_HEADER, length=None, version=version)
    with raw_server(first(whole)) as server:
        pull(server, rest=rest)
        assert asked(server, "/manifests/") == 1
    for cut in (whole[:-1], whole[: -len(BUILT.manifest)]):
        with raw_server(first(cut, cut)) as server:
            pull(server, rest=rest)
            assert asked(server, "/manifests/") == 3
        with raw_server(first(*[cut] * 99)) as server:
            with pytest.raises(TransferError, match="without a length, ended after"):
                pull(server, rest=rest)


def test_a_body_that_is_not_what_its_header_says_is_no_lost_connection() -> None:
    with raw_server(first(answer(200, BUILT.manifest + b" ", TYPE, DIGEST_HEADER))) as server:
        with pytest.raises(DigestMismatchError, match="changes content"):
            pull(server)
        assert asked(server, "/manifests/") == 1


@pytest.mark.parametrize("said", ["", "sha256:abc", "sha512:" + "0" * 128, f'"{BUILT.digest}"', "sha256:" + "G" * 64])
def test_an_odd_digest_header_says_nothing(said: str) -> None:
    with raw_server(first(answer(200, BUILT.manifest, TYPE, f"Docker-Content-Digest: {said}"))) as server:
        pull(server)


def test_chunks_that_are_cut_short() -> None:
    head = f"HTTP/1.1 200 OK\r\n{TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    half = len(BUILT.manifest) // 2
    parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in (BUILT.manifest[:half], BUILT.manifest[half:])]
    whole = head + b"".join(parts) + b"0\r\n\r\n"
    cuts = [whole[: len(head) + end] for end in (0, 1, 9, len(parts[0]), len(parts[0]) + 2)]
    for cut in cuts:
        with raw_server(first(cut, whole)) as server:
            pull(server)
            assert asked(server, "/manifests/") == 2


def test_what_is_compressed_unasked() -> None:
    packed = gzip.compress(BUILT.manifest)
    for encoding in ("gzip", "x-gzip", "GZIP"):
        with raw_server(first(answer(200, packed, TYPE, DIGEST_HEADER, f"Content-Encoding: {encoding}"))) as server:
            pull(server)
    with raw_server(first(answer(200, packed[:-9], TYPE, DIGEST_HEADER, "Content-Encoding: gzip"))) as server:
        pull(server)
        assert asked(server, "/manifests/") == 2
    # A claim that is not true, and a bomb.
    with raw_server(first(answer(200, BUILT.manifest, TYPE, DIGEST_HEADER, "Content-Encoding: gzip"))) as server:
        pull(server)
    bomb = gzip.compress(bytes(64 << 20))
    with raw_server(first(answer(200, bomb, TYPE, "Content-Encoding: gzip"))) as server:
        with pytest.raises(TransferError, match="more than the 4194304 bytes"):
            pull(server)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("dated", [False, True])
def test_a_server_says_when_to_come_back(status: int, dated: bool) -> None:
    when = formatdate(time.time() + 100, usegmt=True) if dated else "100"
    odd = answer(status, b"", f"Retry-After: {when}")
    options = replace(QUICK, retry=RetryPolicy(attempts=4, first_wait=0.001, longest_wait=0.3))
    with raw_server(first(odd)) as server:
        start = time.monotonic()
        pull(server, options)
        assert 0.29 < time.monotonic() - start < 5


def test_a_server_without_head_is_asked_by_get() -> None:
    with raw_server(respond) as server:
        pull(server)
        assert {request.method for request in server.requests} == {"GET"}


# --- schema 1 ---


def signed() -> tuple[bytes, str]:
    """A signed manifest as Docker's registry serves it, and the digest of its payload."""
    payload = b'{\n   "schemaVersion": 1,\n   "name": "team/app",\n   "tag": "1.0",\n   "fsLayers": []\n}'
    protected = {"formatLength": len(payload) - 2, "formatTail": base64.urlsafe_b64encode(b"\n}").decode().rstrip("=")}
    signature = {
        "header": {"alg": "ES256"},
        "signature": "x",
        "protected": base64.urlsafe_b64encode(json.dumps(protected).encode()).decode(),
    }
    return payload[:-2] + b',\n   "signatures": ' + json.dumps([signature]).encode() + b"\n}", digest_of(payload)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "Application/Vnd.docker.distribution.manifest.v1+json; charset=utf-8",
        "application/json",
        "",
    ],
)
@pytest.mark.parametrize("by_digest", [False, True])
def test_a_signed_manifest_is_of_schema_1_and_not_tampered_with(media_type: str, by_digest: bool) -> None:
    content, digest = signed()
    assert digest != digest_of(content)
    odd = answer(200, content, f"Content-Type: {media_type}", f"Docker-Content-Digest: {digest}")
    with raw_server(first(odd)) as server:
        with pytest.raises(ManifestError, match="schema 1"):
            pull(server, rest=f"@{digest}" if by_digest else ":1.0")


# --- TLS ---


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=x",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            "server.key",
            "-out",
            "server.pem",
        ],
        check=True,
        capture_output=True,
        cwd=directory,
    )
    return directory / "server.pem", directory / "server.key"


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_certificate_is_asked_once(
    version: ssl.TLSVersion, late: bool, tls_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """*late*: the request is sent when the server has closed already."""
    send = HTTPSConnection.send

    def delayed(connection: HTTPSConnection, data: bytes) -> None:
        time.sleep(0.2 * late)
        send(connection, data)

    monkeypatch.setattr(HTTPSConnection, "send", delayed)
    certificate, key = tls_files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    options = replace(QUICK, ca_files=(certificate,), insecure_registries=())
    refused = threading.Semaphore(0)

    def count(request: RawRequest) -> bytes:
        refused.release()
        return respond(request)

    with raw_server(count, context) as server:
        with pytest.raises(
            TransferError, match=r"it does not accept this client's certificate, or requires one.*client\.cert"
        ) as caught:
            pull(server, options)
    assert "failed" not in str(caught.value)
    assert not refused.acquire(blocking=False)


# --- closing ---


@pytest.mark.parametrize("part", ["/v2/", "/manifests/", "/blobs/"])
def test_closing_ends_a_wait(part: str) -> None:
    waiting, over = threading.Event(), threading.Event()

    def stall(request: RawRequest) -> bytes:
        if part in request.target:
            waiting.set()
            over.wait(20)
        return respond(request)

    with raw_server(stall) as server:
        source = RegistrySource(replace(QUICK, read_timeout=20))
        failures: list[SourceError] = []

        def work() -> None:
            with pytest.raises(SourceError) as caught:
                source.resolve(parse_reference(f"{server.host}/team/app:1.0"), Platform("linux", "amd64"))
            failures.append(caught.value)

        thread = threading.Thread(target=work)
        thread.start()
        assert waiting.wait(10)
        start = time.monotonic()
        source.close()
        thread.join(10)
        assert time.monotonic() - start < 5
        over.set()
    assert "closed" in str(failures[0])
