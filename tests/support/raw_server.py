"""A server that sends a test's answers, byte for byte, one for each connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RawRequest:
    """A request's method, target (path and query), and header with names in lower case."""

    method: str
    target: str
    headers: dict[str, str]


@dataclass
class RawServer:
    port: int
    requests: list[RawRequest] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def targets(self) -> list[str]:
        return [request.target for request in self.requests]

    def ranges(self, part: str = "/blobs/") -> list[str | None]:
        return [request.headers.get("range") for request in self.requests if part in request.target]


def answer(status: int, body: bytes, *headers: str, length: int | None = -1, version: str = "1.1") -> bytes:
    """An answer; *length* is the value of Content-Length, None for no such header, -1 for the true length."""
    lines = [f"HTTP/{version} {status} Some Reason", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def raw_server(
    respond: Callable[[RawRequest], bytes | Iterable[bytes]], tls: ssl.SSLContext | None = None
) -> Iterator[RawServer]:
    """Args:
    respond: gives the answer, whole or in pieces; it ends early when the client hangs up.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = RawServer(listening.getsockname()[1])

        def serve(connection: socket.socket) -> None:
            # ValueError: not a request, such as a TLS handshake.
            with suppress(OSError, ValueError), connection:
                secured = tls.wrap_socket(connection, server_side=True) if tls is not None else connection
                with secured, secured.makefile("rb") as file:
                    lines = iter(file.readline, b"\r\n")
                    method, target, _ = next(lines, b"").decode().split()
                    parts = (line.decode().partition(":") for line in lines)
                    request = RawRequest(method, target, {name.lower(): value.strip() for name, _, value in parts})
                    server.requests.append(request)
                    answered = respond(request)
                    for piece in (answered,) if isinstance(answered, bytes) else answered:
                        secured.sendall(piece)
                    secured.shutdown(socket.SHUT_WR)
                    # Read until the client closes: unread data would make the end a reset.
                    while secured.recv(1 << 16):
                        pass

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.settimeout(20)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
