"""Servers that never come to an end: each answer has a bound in all, whatever keeps coming."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.raw_server import RawRequest, answer, raw_server

from drypoint.balena.cloud import CloudClient, CloudSettings
from drypoint.errors import SourceError, TransferError
from drypoint.http.options import HttpOptions
from drypoint.http.retry import TransientError
from drypoint.http.transport import Transport
from drypoint.jobs.base_url import url_stream
from drypoint.oci import Platform, parse_reference
from drypoint.sources.registry import RegistryOptions, RegistrySource, RetryPolicy, StaticCredentials

SECONDS = 0.2
"""What an answer may take here."""
QUICK = RegistryOptions(
    credentials=StaticCredentials({}),
    certs_directory=Path("/nonexistent"),
    environment={},
    read_timeout=SECONDS,
    request_timeout=SECONDS,
    retry=RetryPolicy(attempts=2, first_wait=0.001),
)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def slowly(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        time.sleep(SECONDS / 8)


def dripping(text: bytes) -> Iterator[bytes]:
    """*text* a byte at a time; the last one again and again, for ever."""
    return slowly(bytes([byte]) for byte in itertools.chain(text, itertools.repeat(text[-1])))


def endless(first: bytes, again: bytes) -> Iterator[bytes]:
    yield first
    yield from itertools.repeat(again)


def dripped_after(first: bytes, text: bytes) -> Iterator[bytes]:
    yield first
    yield from dripping(text)


HEADERS: dict[str, Callable[[], Iterator[bytes]]] = {
    "a byte now and then": lambda: dripping(b"HTTP/1.1 200 OK\r\nX-Slow: aaaa"),
    "an interim answer now and then": lambda: slowly(itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "interim answers": lambda: endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "long header lines": lambda: endless(b"HTTP/1.1 200 OK\r\n", b"X-Long: " + b"a" * 60000 + b"\r\n"),
}
BODIES: dict[str, Callable[[], Iterator[bytes]]] = {
    "trailers": lambda: endless(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-More: 1\r\n" * 1000),
    "trailers now and then": lambda: dripped_after(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-More: aaa"),
    "the size of a chunk": lambda: dripped_after(CHUNKED, b"2;0"),
    "the end of a chunk": lambda: dripped_after(CHUNKED + b"2\r\n{}", b"\r"),
    "a body": lambda: dripped_after(answer(200, b"", length=1000), b" "),
    "an error's body": lambda: dripped_after(answer(400, b"", length=1000), b" "),
}


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@pytest.mark.parametrize("kind", HEADERS)
def test_the_header_of_an_answer_has_a_bound(kind: str) -> None:
    with raw_server(lambda request: HEADERS[kind]()) as server:
        transport = Transport(server.host, QUICK)
        with at_most(5), pytest.raises(TransientError, match=r"in time|header has more|got more than"):
            transport.fetch("GET", f"http://{server.host}/", {})
        transport.close()


@pytest.mark.parametrize("kind", [kind for kind in BODIES if "error" not in kind])
def test_an_answer_that_is_read_whole_has_a_bound(kind: str) -> None:
    with raw_server(lambda request: BODIES[kind]()) as server:
        transport = Transport(server.host, QUICK)
        with at_most(5), pytest.raises(TransientError, match=r"in time|connection stalled"):
            with closing(transport.fetch("GET", f"http://{server.host}/", {})) as got:
                got.read_all(1 << 20)
        transport.close()


def test_the_whole_answer_has_one_bound_with_all_that_it_redirects_to() -> None:
    def respond(request: RawRequest) -> Iterator[bytes]:
        time.sleep(SECONDS * 0.7)
        yield answer(302, b"", "Location: /again", "Connection: close")

    with raw_server(respond) as server:
        transport = Transport(server.host, QUICK)
        with at_most(5), pytest.raises(TransientError, match="header was not complete in time"):
            transport.fetch("GET", f"http://{server.host}/", {})
        transport.close()


@pytest.mark.parametrize("kind", ["a byte now and then", "interim answers", "trailers", "an error's body"])
def test_registries_clouds_and_bases_come_to_an_end(kind: str) -> None:
    respond = {**HEADERS, **BODIES}[kind]
    with raw_server(lambda request: respond()) as server:
        with at_most(5), RegistrySource(QUICK) as source, pytest.raises(TransferError):
            source.resolve(parse_reference(f"{server.host}/team/app:1.0"), Platform("linux", "amd64"))
        settings = CloudSettings(f"http://{server.host}", "token")
        with at_most(5), CloudClient(settings, QUICK) as client, pytest.raises(SourceError):
            client.get("/v7/release")
        if kind in HEADERS:
            with at_most(5), pytest.raises(TransferError):
                with url_stream(f"http://{server.host}/base.img", QUICK):
                    pass


def test_a_slow_body_that_moves_is_no_hang() -> None:
    """Bodies of layers and disk images have no bound in all, but a least rate: see http/transfer.py."""

    def respond(request: RawRequest) -> Iterator[bytes]:
        yield answer(200, b"", length=20)
        yield from slowly([b"x"] * 20)

    with raw_server(respond) as server, url_stream(f"http://{server.host}/base.img", QUICK) as stream:
        assert b"".join(stream.chunks) == b"x" * 20


def test_a_proxy_has_the_same_bound() -> None:
    with raw_server(lambda request: HEADERS["a byte now and then"]()) as proxy:
        options = replace(QUICK, environment={"HTTPS_PROXY": f"http://{proxy.host}"})
        transport = Transport("registry.test", options)
        with at_most(5), pytest.raises(TransientError, match="in time"):
            transport.fetch("GET", "https://registry.test/", {})
        transport.close()


def test_a_server_that_drips_its_tls_greeting_has_a_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                try:
                    # A record of TLS that announces 4,000 bytes.
                    for piece in dripping(b"\x16\x03\x03\x0f\xa0\x02"):
                        connection.sendall(piece)
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        options: HttpOptions = replace(QUICK, connect_timeout=SECONDS)
        transport = Transport("registry.test", options)
        with at_most(5), pytest.raises(TransientError):
            transport.fetch("GET", f"https://127.0.0.1:{port}/", {})
        transport.close()
        thread.join(10)
