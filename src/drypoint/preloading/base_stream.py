"""A base disk image that comes as a stream: it is passed on as it is, and cannot be looked into."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import msgspec

from ..errors import ContentError, DiskImageError, TransferError, UsageError

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60.0
_PLAIN_NAME = re.compile(r"[^/\0]{1,200}")
DEFAULT_NAME = "disk.img"


class BaseStream(msgspec.Struct, frozen=True):
    """The bytes of a disk image, plain or compressed, in order.

    Attributes:
        chunks: exactly *size* bytes; whatever is raised by them ends the job.
        name: what the disk image is called in the archive.
    """

    chunks: Iterator[bytes]
    size: int
    name: str = DEFAULT_NAME


def read_stream(file: BinaryIO, size: int | None, name: str = DEFAULT_NAME) -> BaseStream:
    """A base from an open file, a pipe for one.

    Args:
        size: how many bytes there are; None for a regular file, which knows.

    Raises:
        UsageError: the length is not known.
    """
    if size is None:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(
                "how long the disk image on standard input is has to be known before it is there: give --base-size BYTES"
            )
        size = max(0, status.st_size - os.lseek(file.fileno(), 0, os.SEEK_CUR))
    return BaseStream(_read(file, size, name), size, name)


@contextmanager
def file_stream(path: Path) -> Iterator[BaseStream]:
    """A base from a file.

    Raises:
        DiskImageError: it cannot be read.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DiskImageError(f"cannot open {path}: {error.strerror}") from error
    with file:
        size = os.fstat(file.fileno()).st_size
        yield BaseStream(_read(file, size, str(path)), size, path.name)


@contextmanager
def url_stream(url: str, ca_files: Sequence[Path] = ()) -> Iterator[BaseStream]:
    """A base from a web server that says its length.

    Args:
        ca_files: certificate authorities to trust beside the system's.

    Raises:
        TransferError: it cannot be had, or the server does not say how long it is.
        UsageError: it is no such address, or has a user name in it; a certificate cannot be read.
    """
    import urllib3

    from ..sources.registry.address import origin
    from ..sources.registry.proxy import proxy_rules
    from ..sources.registry.trust import tls_context

    try:
        origin(url)
    except ValueError as error:
        raise UsageError(
            "BASE is an address that cannot be used: give one of http or https with a host, without a user name and password"
        ) from error
    shown = _without_secrets(url)
    context = tls_context(urlsplit(url).hostname or "", ca_files, Path("/nonexistent"))
    proxy = proxy_rules(os.environ).proxy_for(url)
    timeout = urllib3.Timeout(connect=_TIMEOUT_SECONDS, read=_TIMEOUT_SECONDS)
    pool: urllib3.PoolManager
    if proxy is None:
        pool = urllib3.PoolManager(ssl_context=context, timeout=timeout)
    else:
        headers = (
            urllib3.make_headers(proxy_basic_auth=f"{proxy.username}:{proxy.password}") if proxy.username else None
        )
        pool = urllib3.ProxyManager(proxy.url, proxy_headers=headers, ssl_context=context, timeout=timeout)
    with pool:
        try:
            response = pool.request("GET", url, preload_content=False, decode_content=False, retries=3)
        except urllib3.exceptions.HTTPError as error:
            raise TransferError(f"{shown} cannot be had: {type(error).__name__}") from error
        try:
            if response.status != 200:
                raise TransferError(f"{shown} cannot be had: the server answers {response.status}")
            length = response.headers.get("Content-Length", "")
            if not (length.isascii() and length.isdecimal() and len(length) < 19):
                raise TransferError(f"{shown}: the server does not say how long it is; download it first")
            yield BaseStream(_download(response, int(length), shown), int(length), _name_of(url))
        finally:
            response.release_conn()
            response.close()


def _read(file: BinaryIO, size: int, name: str) -> Iterator[bytes]:
    left = size
    while left:
        try:
            chunk = file.read(min(_CHUNK, left))
        except OSError as error:
            raise DiskImageError(f"cannot read {name}: {error.strerror}") from error
        if not chunk:
            raise ContentError(f"{name} ends {left} bytes before the {size} that it should have")
        left -= len(chunk)
        yield chunk


def _download(response: object, size: int, shown: str) -> Iterator[bytes]:
    import urllib3

    assert isinstance(response, urllib3.BaseHTTPResponse)
    left = size
    while left:
        try:
            chunk = response.read(min(_CHUNK, left))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransferError(f"{shown} broke off {left} bytes before its end: {type(error).__name__}") from error
        if not chunk:
            raise TransferError(f"{shown} broke off {left} bytes before its end")
        left -= len(chunk)
        yield chunk


def _name_of(url: str) -> str:
    name = urlsplit(url).path.rpartition("/")[2]
    return name if _PLAIN_NAME.fullmatch(name) else DEFAULT_NAME


def _without_secrets(url: str) -> str:
    """The address without user, password and query: the last may be a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
