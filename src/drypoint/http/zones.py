"""Limits for hosts that others name: a server on the internet must not lead drypoint to hosts in a private network.

The user may name any host. A host that a server names, in a redirect or as its token server, or that an apps.json names, must
not be in a more private network than the one who names it, as in browsers (WICG, "Local Network Access", address spaces). The
address of the connection itself is checked, not an earlier resolution of the name: so DNS rebinding has no effect.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from enum import Enum

import msgspec

from .address import is_listed

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_ROUTED = (ipaddress.IPv6Network("64:ff9b:1::/48"), ipaddress.IPv6Network("::/96"))
"""NAT64 of one's own network (RFC 8215), and addresses that once were of IPv4 (RFC 4291, section 2.5.5.1)."""
_THIS_HOST = ipaddress.IPv4Network("0.0.0.0/8")


class Zone(Enum):
    """The privacy of an address's network."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "this machine's own"
    LINK_LOCAL = "link-local"
    """The local link. Clouds have services there that hand out credentials."""


_REACHABLE_FROM = {
    Zone.PUBLIC: frozenset((Zone.PUBLIC,)),
    Zone.PRIVATE: frozenset((Zone.PUBLIC, Zone.PRIVATE)),
    Zone.LOOPBACK: frozenset((Zone.PUBLIC, Zone.PRIVATE, Zone.LOOPBACK)),
    Zone.LINK_LOCAL: frozenset((Zone.PUBLIC, Zone.PRIVATE, Zone.LINK_LOCAL)),
}


def zone_of(address: str) -> Zone:
    """The zone of *address*, IPv4 or IPv6; an IPv6 address that embeds an IPv4 address has the zone of that.

    Raises:
        ValueError: it is not an address.
    """
    found = _embedded(ipaddress.ip_address(address.strip("[]")))
    if found.is_link_local:
        return Zone.LINK_LOCAL
    # Linux treats connections to 0.0.0.0 and :: as loopback.
    if found.is_loopback or found.is_unspecified or (found.version == 4 and found in _THIS_HOST):
        return Zone.LOOPBACK
    if not found.is_global or found.is_multicast:
        return Zone.PRIVATE
    if found.version == 6 and (found.is_site_local or any(found in network for network in _NOT_ROUTED)):
        return Zone.PRIVATE
    return Zone.PUBLIC


def written_address(host: str) -> str | None:
    """The address *host*, in any spelling that name resolution accepts: ``127.1``, ``0x7f000001``; None for a name."""
    text = host.strip("[]")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(text))
    except (OSError, ValueError):
        return None


def _embedded(address: _IPAddress) -> _IPAddress:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


class Reach(msgspec.Struct, frozen=True):
    """The addresses to which connections are permitted.

    Attributes:
        named_from: the zone of the one who names the hosts; None for the caller, who may name any.
        allowed: hosts (``host[:port]``, or CIDR blocks of addresses) that are permitted in any case.
    """

    named_from: Zone | None = None
    allowed: tuple[str, ...] = ()

    def permits(self, host: str, port: int, address: str) -> bool:
        """Whether a connection to *address* is permitted, for *host* at *port*."""
        if self.named_from is None or zone_of(address) in _REACHABLE_FROM[self.named_from]:
            return True
        return any(is_listed(domain, self.allowed) for domain in _domains(host, port, address))


def _domains(host: str, port: int, address: str) -> Iterable[str]:
    for name in (host.strip("[]"), address):
        name = f"[{name}]" if ":" in name else name
        yield name
        yield f"{name}:{port}"
