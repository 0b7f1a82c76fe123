"""Hosts and origins of URLs, and URLs in messages."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SHOWN_LENGTH = 300


def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address without a port, is loopback by its spelling; no name is resolved."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_listed(domain: str, entries: Iterable[str]) -> bool:
    """Whether *domain* (``host[:port]``) is one of *entries*: the same text, or an address in a CIDR block."""
    address = None
    try:
        address = ipaddress.ip_address(urlsplit(f"//{domain}").hostname or "")
    except ValueError:
        address = None
    for entry in entries:
        if entry.lower() == domain.lower():
            return True
        if address is not None and "/" in entry:
            try:
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                continue
    return False


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: a secret for one URL may go to another one only if they are equal.

    Raises:
        ValueError: not an http or https URL with a host, or one with a user name in it.
    """
    # urlsplit ignores blanks before a URL and line breaks inside; an HTTP client may then use another URL.
    if url[:1] <= " " or any(blank in url for blank in "\t\r\n"):
        raise ValueError("not an address: it has blanks in it")
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None:
        raise ValueError("not an http or https address with a host")
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]


def shown(url: str) -> str:
    """Host and path of *url* for a message: queries of signed URLs are secrets, and so are names before an @."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(an address that cannot be read)"
    text = f"{parts.netloc.rpartition('@')[2]}{parts.path}"
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "…"
