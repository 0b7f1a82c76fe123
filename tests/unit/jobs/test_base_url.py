"""A base from a web server whose connections break, whose file changes, and that takes ranges as servers do."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import certificates
from tests.support.raw_server import RawRequest, RawServer, answer, raw_server

from drypoint.errors import ContentError, DrypointError, TransferError, UsageError
from drypoint.jobs.base_url import url_stream
from drypoint.samples.registry import RegistryContent, serve_registry
from drypoint.sources.registry import RegistryOptions, RetryPolicy, StaticCredentials

QUICK = RegistryOptions(
    credentials=StaticCredentials({}),
    certs_directory=Path("/nonexistent"),
    environment={},
    read_timeout=5.0,
    retry=RetryPolicy(attempts=4, first_wait=0.001, longest_wait=0.01),
)
CONTENT = os.urandom(3_000_000)
OTHER = CONTENT[:1_000_000] + bytes(byte ^ 1 for byte in CONTENT[1_000_000:])
ETAG, WEAK, DATE = 'ETag: "one"', 'ETag: W/"one"', "Last-Modified: Mon, 02 Nov 2026 10:00:00 GMT"
LAST = len(CONTENT) - 1


def fetch(server: RawServer, options: RegistryOptions = QUICK) -> bytes:
    with url_stream(f"http://{server.host}/images/base.img.gz?sig=secret//b", options) as stream:
        assert (stream.size, stream.name) == (len(CONTENT), "base.img.gz")
        return b"".join(stream.chunks)


def ranges(server: RawServer) -> list[str | None]:
    return server.ranges("/images/")


def part(request: RawRequest, content: bytes = CONTENT, *headers: str) -> bytes:
    """What a server that knows ranges answers."""
    asked = request.headers.get("range")
    if asked is None:
        return answer(200, content, *headers)
    start, _, stop = asked.removeprefix("bytes=").partition("-")
    body = content[int(start) : int(stop) + 1]
    return answer(206, body, f"Content-Range: bytes {start}-{stop}/{len(content)}", *headers)


def cut(whole: bytes, size: int) -> bytes:
    """*whole*, an answer, with *size* bytes of its body."""
    return whole[: whole.index(b"\r\n\r\n") + 4 + size]


def steps(*answers: Callable[[RawRequest], bytes]) -> Callable[[RawRequest], bytes]:
    """The answers in turn; the last one again and again."""
    left = list(answers)
    return lambda request: (left.pop(0) if len(left) > 1 else left[0])(request)


def test_a_whole_download() -> None:
    with raw_server(part) as server:
        assert fetch(server) == CONTENT
        assert ranges(server) == [None]
        assert server.requests[0].headers["user-agent"].startswith("drypoint/")


@pytest.mark.parametrize("headers", [(), (ETAG,), (WEAK,), (DATE,), (ETAG, DATE), (WEAK, DATE)])
def test_it_goes_on_from_the_exact_byte(headers: tuple[str, ...]) -> None:
    broken = steps(
        lambda request: cut(part(request, CONTENT, *headers), 1_000_003),
        lambda request: cut(part(request, CONTENT, *headers), 500_000),
        lambda request: part(request, CONTENT, *headers),
    )
    with raw_server(broken) as server:
        assert fetch(server) == CONTENT
        assert ranges(server) == [None, f"bytes=1000003-{LAST}", f"bytes=1500003-{LAST}"]
        conditions = {request.headers.get("if-range") for request in server.requests[1:]}
    strong = '"one"' if ETAG in headers else DATE.partition(": ")[2] if DATE in headers else None
    assert conditions == {strong}


def test_before_the_first_answer_it_is_patient_too() -> None:
    busy = steps(lambda request: answer(503, b""), lambda request: b"HTTP/1.1 200 OK\r\nContent-Le", part)
    with raw_server(busy) as server:
        assert fetch(server) == CONTENT
        assert len(ranges(server)) == 3


@pytest.mark.parametrize(
    "odd",
    [
        lambda request: answer(416, b""),
        lambda request: answer(400, b""),
        lambda request: answer(501, b""),
        lambda request: answer(206, CONTENT[1_000_000:]),
        lambda request: answer(206, CONTENT),
        lambda request: answer(200, CONTENT[1_000_000:]),
        lambda request: part(request, CONTENT, 'ETag: "another mirror"'),
    ],
)
def test_it_begins_anew_where_a_range_is_answered_oddly(odd: Callable[[RawRequest], bytes]) -> None:
    with raw_server(steps(lambda request: cut(part(request, CONTENT, ETAG), 1_000_000), odd, part)) as server:
        assert fetch(server) == CONTENT
        assert ranges(server) == [None, f"bytes=1000000-{LAST}", None]


def test_a_server_without_ranges() -> None:
    whole = steps(lambda request: cut(answer(200, CONTENT), 2_000_000), lambda request: answer(200, CONTENT))
    with raw_server(whole) as server:
        assert fetch(server) == CONTENT


@pytest.mark.parametrize("size", [1_000_001, 2_000_000, 2_999_999])
@pytest.mark.parametrize("headers", [(), (WEAK,), (ETAG,)])
def test_a_file_that_changed_is_not_mixed(size: int, headers: tuple[str, ...]) -> None:
    """The new file has the same length, and no ETag tells it apart where there is none: what was passed on is compared."""
    changed = [header.replace("one", "two") for header in headers]
    answers = steps(
        lambda request: cut(answer(200, CONTENT, *headers), size), lambda request: answer(200, OTHER, *changed)
    )
    with raw_server(answers) as server, pytest.raises(ContentError, match="changed during the download"):
        fetch(server)
    # By ranges, where only the headers tell.
    if headers:
        by_range = steps(
            lambda request: cut(answer(200, CONTENT, *headers), size), lambda request: part(request, OTHER, *changed)
        )
        with raw_server(by_range) as server, pytest.raises(ContentError, match="changed during the download"):
            fetch(server)


@pytest.mark.parametrize(
    "odd",
    [
        lambda request: answer(200, CONTENT + b"x"),
        lambda request: answer(206, b"x", f"Content-Range: bytes 1000000-{LAST + 1}/{LAST + 2}"),
        lambda request: answer(416, b"", "Content-Range: bytes */7"),
    ],
)
def test_a_file_of_another_length_now(odd: Callable[[RawRequest], bytes]) -> None:
    with raw_server(steps(lambda request: cut(answer(200, CONTENT), 1_000_000), odd)) as server:
        with pytest.raises(DrypointError, match="but the server said at first 3000000"):
            fetch(server)


def test_a_signed_address_that_it_leads_to_may_lapse() -> None:
    with raw_server(steps(lambda r: cut(part(r), 1_000_000), lambda r: answer(403, b""), part)) as store:
        with raw_server(lambda request: answer(302, b"", f"Location: http://{store.host}/x?Signature=hush")) as server:
            assert fetch(server) == CONTENT
            assert ranges(server) == [None, *[f"bytes=1000000-{LAST}"] * 2]


@pytest.mark.parametrize(
    ("whole", "says"),
    [
        (answer(200, CONTENT, length=None), "does not say how long"),
        (answer(200, CONTENT, "Content-Length: 12, 12", length=None), "does not say how long"),
        (answer(404, b""), "answers 404"),
        (answer(206, CONTENT, f"Content-Range: bytes 0-{LAST}/{LAST + 1}"), "answers 206"),
        (answer(503, b""), "answers 503"),
    ],
)
def test_what_cannot_be_had(whole: bytes, says: str) -> None:
    with raw_server(lambda request: whole) as server:
        with pytest.raises(TransferError, match=says) as caught:
            fetch(server)
        assert "secret" not in str(caught.value)
        assert f"http://{server.host}/images/base.img.gz" in str(caught.value)


def test_patience_ends() -> None:
    with raw_server(lambda request: cut(part(request), 1000)) as server:
        with pytest.raises(
            TransferError, match=r"base.img.gz: .*ended early\); failed 4 times, 4000 of 3000000"
        ) as caught:
            fetch(server)
        assert "secret" not in str(caught.value)


def test_addresses_that_are_refused() -> None:
    for address in ("http://user:secret@localhost/x", "ftp://localhost/x", "http://"):
        with pytest.raises(UsageError, match="without a user name") as refused, url_stream(address):
            pass
        assert "secret" not in str(refused.value)


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A certificate authority, and the certificate and the key of a server on this machine."""
    directory = tmp_path_factory.mktemp("tls")
    ca = certificates.authority("test authority")
    return (ca.write(directory, "ca")[0], *certificates.issued_by(ca, "server", "127.0.0.1").write(directory, "server"))


def test_https_does_not_lead_to_plain_http(tls_files: tuple[Path, Path, Path]) -> None:
    """As for registries: only to a host that was allowed, and on this machine."""
    ca, certificate, key = tls_files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    options = replace(QUICK, ca_files=(ca,))
    leads = answer(302, b"", "Location: http://base.test/base.img")
    with raw_server(lambda request: leads, context) as server:
        with pytest.raises(TransferError, match=r"redirects from https to plain http, to base\.test/base\.img"):
            with url_stream(f"https://{server.host}/base.img", options):
                pass
        assert len(server.requests) == 1
    # A broken connection is replaced: not by one without TLS.
    answers = steps(lambda request: cut(part(request), 1_000_000), lambda request: leads)
    with raw_server(answers, context) as server:
        with pytest.raises(TransferError, match="redirects from https to plain http"):
            with url_stream(f"https://{server.host}/base.img", options) as stream:
                list(stream.chunks)


def test_leaving_early_ends_the_connection() -> None:
    with raw_server(part) as server:
        with url_stream(f"http://{server.host}/x", replace(QUICK, read_timeout=20)) as stream:
            next(stream.chunks)
        with pytest.raises(TransferError, match="closed"):
            list(stream.chunks)


def test_a_server_of_plain_http_by_https() -> None:
    with serve_registry(RegistryContent()) as server:
        with pytest.raises(TransferError, match=r"does not speak TLS.*Give the address with http://"):
            with url_stream(f"https://{server.host}/base.img", QUICK):
                pass
    assert server.requests == []
