"""An in-process registry on loopback, with configurable faults.

Protocol: OCI distribution-spec 1.1, pulling only; Docker Registry v2 token authentication.

    content = RegistryContent()
    content.blobs[digest] = b"…"
    content.manifests["team/app", "latest"] = (media_type, manifest)
    with serve_registry(content) as registry:
        reference = parse_reference(f"{registry.host}/team/app:latest")
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO, Literal, assert_never
from urllib.parse import parse_qs, urlsplit

from ..digest import Digest, digest_of

_BLOCK = 1 << 20
_ROUTE = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>manifests|blobs)/(?P<name>[^/]+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_SHORT = 100_000

OddRange = Literal[
    "400",
    "416",
    "500",
    "501",
    "nameless",
    "whole",
    "whole nameless",
    "whole as 200",
    "claimed",
    "multipart",
    "short",
    "closed",
]
"""A status; 206 without Content-Range, for the part or the whole; 206 for the whole; 206 with the right Content-Range and the
whole; multipart/byteranges; a shorter part; or 416 to a range without an end, as go-containerregistry's registry does."""


@dataclass(slots=True)
class RegistryContent:
    """The content of a registry.

    Attributes:
        blobs: layers and configs by digest, in memory or as files.
        manifests: by repository path (``team/app``, no domain) and tag or digest: media type and exact bytes. A manifest that
            is available by both has two entries.
    """

    blobs: dict[Digest, bytes | Path] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)

    def add_blob(self, blob: bytes) -> Digest:
        """Add *blob*; returns its digest."""
        digest = digest_of(blob)
        self.blobs[digest] = blob
        return digest

    def add_manifest(self, repository: str, tag: str | None, media_type: str, manifest: bytes) -> Digest:
        """Add *manifest* by its digest, and by *tag* if given; returns the digest."""
        digest = digest_of(manifest)
        self.manifests[repository, digest] = (media_type, manifest)
        if tag is not None:
            self.manifests[repository, tag] = (media_type, manifest)
        return digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The registry's access control.

    Attributes:
        scheme: ``basic`` requires a user's password each time, ``token`` a token from ``/token``.
        users: passwords by user name. With ``token`` and no users, tokens are anonymous.
        identity_token: a refresh token that the token server accepts too.
        token_seconds: the lifetime of a token; the token server states it, unless ``stated_seconds`` is given.
        realm: another token server to name in challenges.
        hides: anonymous users get this status without a challenge, except for ``/v2/``.
        answer_fields: fields of the token server's answer that replace or extend its own; the value ``TOKEN`` is the token.
    """

    scheme: Literal["basic", "token"]
    users: Mapping[str, str] = field(default_factory=dict)
    identity_token: str | None = None
    token_seconds: float = 300.0
    stated_seconds: float | None = None
    realm: str | None = None
    hides: int | None = None
    answer_fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Faults:
    """The faults of a registry. Counters are decremented with each fault; 0 means none.

    Attributes:
        breaks: blob answers that end with a connection reset after ``fault_after`` bytes of their body.
        ends: blob answers without Content-Length that end, as if they were whole, after ``fault_after`` bytes.
        stalls: blob answers that stop after ``fault_after`` bytes and keep the connection open, if they are longer than that.
        refusals: answers with ``refusal_status`` and, if set, the header ``Retry-After: retry_after``.
        ignore_range: blobs always come whole, with status 200.
        wrong_range: 206 answers start one byte later than requested.
        odd_range: how a range of a blob is answered, see OddRange.
        wrong_bytes: the first byte of every blob is changed.
        extra_bytes: this many zero bytes follow a blob, without Content-Length.
        chunked: blobs come in chunks of the transfer coding.
        digest_header: the value of Docker-Content-Digest for manifests, in place of their digest.
        redirect_blobs: blob requests are redirected to this base (another registry's ``url``), with a signature in the query.
        redirect_status: the status of these redirects.
        redirect_all: everything below ``/v2/`` is redirected to this base, as by a registry that is an alias of another one.
        bytes_per_second: the maximum rate of bodies.
        compressed_header: answers claim ``Content-Encoding: gzip`` for bodies that are not compressed.
    """

    fault_after: int = 0
    breaks: int = 0
    ends: int = 0
    stalls: int = 0
    refusals: int = 0
    refusal_status: int = 503
    retry_after: str | None = None
    ignore_range: bool = False
    wrong_range: bool = False
    odd_range: OddRange | None = None
    wrong_bytes: bool = False
    extra_bytes: int = 0
    chunked: bool = False
    digest_header: str | None = None
    redirect_blobs: str | None = None
    redirect_status: int = 307
    redirect_all: str | None = None
    bytes_per_second: float | None = None
    compressed_header: bool = False


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A client's request, with header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


class TestRegistry:
    """A running registry: its address, its faults, and the requests that it got.

    Attributes:
        content: may be changed while it runs.
        faults: may be changed while it runs.
        requests: in the order of arrival.
        bytes_sent: bytes of bodies, by path.
    """

    __test__ = False

    def __init__(self, content: RegistryContent, access: Access | None, faults: Faults, server: _Server) -> None:
        self.content = content
        self.access = access
        self.faults = faults
        self.requests: list[RecordedRequest] = []
        self.bytes_sent: Counter[str] = Counter()
        self._server = server
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._tokens_given = 0

    @property
    def port(self) -> int:
        port: int = self._server.server_address[1]
        return port

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``, for references."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, or https."""
        return f"{'https' if self._server.tls else 'http'}://{self.host}"

    @property
    def connections(self) -> int:
        """The number of connections that clients have made."""
        return self._server.accepted

    @property
    def open_connections(self) -> int:
        return self._server.open_connections

    def release_stalls(self) -> None:
        """End the stalled answers; later ones do not stall."""
        self._server.stall_ended.set()

    def count(self, path_part: str) -> int:
        """The number of requests with *path_part* in their path."""
        return sum(path_part in request.path for request in self.requests)

    def take(self, fault: Literal["breaks", "ends", "stalls", "refusals"]) -> bool:
        """Whether *fault* is due now; counts it down."""
        with self._lock:
            left: int = getattr(self.faults, fault)
            setattr(self.faults, fault, max(0, left - 1))
            return left > 0

    def record(self, request: RecordedRequest) -> None:
        with self._lock:
            self.requests.append(request)

    def sent(self, path: str, size: int) -> None:
        with self._lock:
            self.bytes_sent[path] += size

    def new_token(self, lifetime: float, scopes: Iterable[str] = ()) -> str:
        """A token for *scopes*, each one ``repository:PATH:pull``."""
        with self._lock:
            self._tokens_given += 1
            token = f"token-{self._tokens_given}-of-{self.port}"
            self._tokens[token] = (time.monotonic() + lifetime, tuple(scopes))
            return token

    def is_valid(self, token: str, scope: str | None) -> bool:
        """Whether *token* is valid for *scope*; None for requests without a scope."""
        with self._lock:
            until, scopes = self._tokens.get(token, (0.0, ()))
            return time.monotonic() < until and (scope is None or scope in scopes)

    def revoke_tokens(self) -> None:
        """Make every token expire now."""
        with self._lock:
            self._tokens.clear()


@contextmanager
def serve_registry(
    content: RegistryContent,
    *,
    access: Access | None = None,
    faults: Faults | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[TestRegistry]:
    """Serve *content* on a free port of 127.0.0.1 until the end of the block.

    Args:
        tls: a server's context, to serve https.
    """
    server = _Server(tls)
    registry = TestRegistry(content, access, faults if faults is not None else Faults(), server)
    server.registry = registry
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="test registry")
    thread.start()
    try:
        yield registry
    finally:
        server.stop()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128
    registry: TestRegistry

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tls = tls
        self.stopping = threading.Event()
        self.stall_ended = threading.Event()
        self.accepted = 0
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        assert isinstance(request, socket.socket)
        with self._open_lock:
            self._open.add(request)
            self.accepted += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        assert isinstance(request, socket.socket)
        self.forget(request)
        super().shutdown_request(request)

    def secured(self, connection: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        """*connection* with TLS; takes ownership of it."""
        with self._open_lock:
            secured = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            self._open.discard(connection)
            self._open.add(secured)
        try:
            secured.do_handshake()
        except OSError:
            self.forget(secured)
            secured.close()
            raise
        return secured

    def forget(self, connection: socket.socket) -> None:
        with self._open_lock:
            self._open.discard(connection)

    @property
    def open_connections(self) -> int:
        with self._open_lock:
            return len(self._open)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors: clients may disconnect at any time, and a test sees any other error by the missing answer."""

    def stop(self) -> None:
        """End every connection, then the threads that wait on them."""
        self.stopping.set()
        self.stall_ended.set()
        self.shutdown()
        with self._open_lock:
            for connection in self._open:
                _hang_up(connection)
        self.server_close()


def _hang_up(connection: socket.socket) -> None:
    try:
        # Not SSLSocket.shutdown, which would remove the session while another thread reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        # The client has closed already.
        return


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # So that headers and a small body go out in one packet.
    wbufsize = 64 << 10
    server: _Server

    def setup(self) -> None:
        if self.server.tls is not None:
            # Here and not in the listening socket: a slow handshake would block all other clients.
            self.request = self.server.secured(self.request, self.server.tls)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.server.forget(self.request)
        self.request.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """No log; the requests are in ``requests``."""

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        registry = self.server.registry
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        registry.record(RecordedRequest(self.command, url.path, url.query, headers, body))
        if url.path == "/token":
            self._token(url.query, body)
            return
        if url.path != "/v2/" and registry.take("refusals"):
            extra = {"Retry-After": registry.faults.retry_after} if registry.faults.retry_after else {}
            self._error(registry.faults.refusal_status, "UNAVAILABLE", extra)
            return
        if registry.faults.redirect_all is not None and url.path.startswith("/v2/"):
            self._small(registry.faults.redirect_status, b"", {"Location": registry.faults.redirect_all + self.path})
            return
        route = _ROUTE.fullmatch(url.path)
        if not self._admitted(None if route is None else f"repository:{route['repository']}:pull"):
            return
        if url.path == "/v2/":
            self._small(200, b"{}", {"Docker-Distribution-Api-Version": "registry/2.0"})
            return
        if route is None:
            self._error(404, "NAME_UNKNOWN")
        elif route["kind"] == "manifests":
            self._manifest(route["repository"], route["name"])
        else:
            self._blob(Digest(route["name"]))

    # --- access ---

    def _admitted(self, scope: str | None) -> bool:
        registry, access = self.server.registry, self.server.registry.access
        if access is None or "X-Signature=" in self.path:
            return True
        given = self.headers.get("Authorization", "")
        if access.scheme == "basic":
            admitted = _user_of(given, access.users) is not None
            challenge = 'Basic realm="test registry"'
        else:
            admitted = registry.is_valid(given.removeprefix("Bearer "), scope)
            realm = access.realm or f"{registry.url}/token"
            challenge = f'Bearer realm="{realm}",service="test registry"' + (f',scope="{scope}"' if scope else "")
        if not admitted and access.hides is not None and scope is not None:
            self._error(access.hides, "NAME_UNKNOWN" if access.hides == 404 else "DENIED")
        elif not admitted:
            self._error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})
        return admitted

    def _token(self, query: str, body: bytes) -> None:
        registry, access = self.server.registry, self.server.registry.access
        if access is None or access.scheme != "token":
            self._error(404, "NAME_UNKNOWN")
            return
        form = parse_qs(body.decode("ascii", "replace"))
        if self.command == "POST":
            admitted = access.identity_token is not None and form.get("refresh_token") == [access.identity_token]
            scopes = form.get("scope", [])
        else:
            admitted = not access.users or _user_of(self.headers.get("Authorization", ""), access.users) is not None
            scopes = parse_qs(query).get("scope", [])
        if not admitted or not scopes:
            self._error(401, "UNAUTHORIZED")
            return
        stated = access.token_seconds if access.stated_seconds is None else access.stated_seconds
        name = "access_token" if self.command == "POST" else "token"
        given = registry.new_token(access.token_seconds, [one for text in scopes for one in text.split(" ")])
        answer = {name: given, "expires_in": stated}
        answer.update((key, given if value == "TOKEN" else value) for key, value in access.answer_fields.items())
        self._small(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    # --- content ---

    def _manifest(self, repository: str, name: str) -> None:
        registry = self.server.registry
        found = registry.content.manifests.get((repository, name))
        if found is None:
            self._error(404, "MANIFEST_UNKNOWN")
            return
        media_type, manifest = found
        if media_type not in ",".join(self.headers.get_all("Accept", [media_type])):
            # As in distribution: "manifest found, but accept header does not support" it.
            self._error(404, "MANIFEST_UNKNOWN")
            return
        digest = registry.faults.digest_header or digest_of(manifest)
        self._small(200, manifest, {"Content-Type": media_type, "Docker-Content-Digest": digest})

    def _blob(self, digest: Digest) -> None:
        registry = self.server.registry
        faults = registry.faults
        if faults.redirect_blobs is not None:
            target = f"{faults.redirect_blobs}{urlsplit(self.path).path}?X-Signature=signed-{registry.port}"
            self._small(faults.redirect_status, b"", {"Location": target})
            return
        held = registry.content.blobs.get(digest)
        if held is None:
            self._error(404, "BLOB_UNKNOWN")
            return
        if faults.wrong_bytes:
            whole = held if isinstance(held, bytes) else held.read_bytes()
            held = bytes([whole[0] ^ 1]) + whole[1:]
        size = len(held) if isinstance(held, bytes) else held.stat().st_size
        start, stop, partial = 0, size, False
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is not None and not faults.ignore_range:
            start = int(asked[1]) + faults.wrong_range
            stop = min(int(asked[2]) + 1, size) if asked[2] else size
            partial = True
            if start >= stop:
                self._error(416, "RANGE_INVALID", {"Content-Range": f"bytes */{size}"})
                return
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if partial:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if partial and faults.odd_range is not None:
            self._odd(faults.odd_range, held, start, stop, headers)
            return
        self._large(held, start, stop, 206 if partial else 200, headers)

    def _odd(self, how: OddRange, held: bytes | Path, start: int, stop: int, headers: dict[str, str]) -> None:
        size = len(held) if isinstance(held, bytes) else held.stat().st_size
        nameless = {name: value for name, value in headers.items() if name != "Content-Range"}
        match how:
            case "400" | "416" | "500" | "501":
                self._error(int(how), "RANGE_INVALID")
            case "nameless":
                self._large(held, start, stop, 206, nameless)
            case "whole":
                self._large(held, 0, size, 206, {**headers, "Content-Range": f"bytes 0-{size - 1}/{size}"})
            case "whole nameless":
                self._large(held, 0, size, 206, nameless)
            case "whole as 200":
                self._large(held, 0, size, 200, nameless)
            case "claimed":
                self._large(held, 0, size, 206, headers)
            case "multipart":
                whole = held if isinstance(held, bytes) else held.read_bytes()
                part = (
                    f"--x\r\nContent-Range: {headers['Content-Range']}\r\n\r\n".encode()
                    + whole[start:stop]
                    + b"\r\n--x--\r\n"
                )
                self._small(206, part, {"Content-Type": "multipart/byteranges; boundary=x"})
            case "short":
                stop = min(stop, start + _SHORT)
                self._large(held, start, stop, 206, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"})
            case "closed":
                if self.headers["Range"].endswith("-"):
                    self._error(416, "BLOB_UNKNOWN")
                else:
                    self._large(held, start, stop, 206, headers)
            case _:
                assert_never(how)

    # --- sending ---

    def _error(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps({"errors": [{"code": code, "message": "a planted message"}]}).encode()
        self._small(status, body, {"Content-Type": "application/json", **(headers or {})})

    def _small(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.server.registry.sent(urlsplit(self.path).path, len(body))
        self.wfile.flush()

    def _large(self, held: bytes | Path, start: int, stop: int, status: int, headers: Mapping[str, str]) -> None:
        registry = self.server.registry
        faults = registry.faults
        breaks, ends, stalls = registry.take("breaks"), registry.take("ends"), registry.take("stalls")
        limit = min(stop, start + faults.fault_after) if breaks or ends or stalls else stop
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if faults.compressed_header:
            self.send_header("Content-Encoding", "gzip")
        if faults.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif ends or faults.extra_bytes:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.flush()
        if self.command == "HEAD":
            return
        if isinstance(held, bytes):
            self._send_bytes(memoryview(held)[start:limit])
        else:
            with held.open("rb") as file:
                self._send_file(file, start, limit)
        if faults.extra_bytes and not (breaks or ends or stalls):
            self._send_bytes(memoryview(bytes(faults.extra_bytes)))
        if stalls and limit < stop:
            self.server.stall_ended.wait()
        if breaks:
            # With a linger time of 0, close() sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            self.close_connection = True
            return
        if faults.chunked and not ends:
            self.connection.sendall(b"0\r\n\r\n")
        if ends or stalls or faults.extra_bytes:
            self.close_connection = True

    def _send_file(self, file: BinaryIO, start: int, stop: int) -> None:
        faults = self.server.registry.faults
        if self.server.tls is None and not faults.chunked and faults.bytes_per_second is None:
            while start < stop:
                sent = os.sendfile(self.connection.fileno(), file.fileno(), start, min(stop - start, 64 * _BLOCK))
                if sent == 0:
                    break
                start += sent
                self.server.registry.sent(urlsplit(self.path).path, sent)
            return
        file.seek(start)
        while start < stop and (block := file.read(min(_BLOCK, stop - start))):
            self._send_bytes(memoryview(block))
            start += len(block)

    def _send_bytes(self, body: memoryview) -> None:
        faults = self.server.registry.faults
        pace = faults.bytes_per_second
        step = _BLOCK if pace is None else max(1, int(pace / 20))
        for position in range(0, len(body), step):
            block = body[position : position + step]
            if faults.chunked:
                self.connection.sendall(b"%x\r\n" % len(block))
            self.connection.sendall(block)
            if faults.chunked:
                self.connection.sendall(b"\r\n")
            self.server.registry.sent(urlsplit(self.path).path, len(block))
            if pace is not None and self.server.stopping.wait(len(block) / pace):
                return


def _user_of(authorization: str, users: Mapping[str, str]) -> str | None:
    """The user of a valid Basic *authorization*."""
    try:
        decoded = base64.b64decode(authorization.removeprefix("Basic "), validate=True).decode()
    except ValueError:
        return None
    username, _, password = decoded.partition(":")
    return username if users.get(username) == password and username in users else None
