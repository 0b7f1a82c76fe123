"""NetworkManager's connection profiles, which balenaOS copies from ``system-connections/`` of the boot partition at each boot.

Sources: nm-settings-keyfile(5) and nm-settings(5); GLib's key file format; names that NetworkManager ignores: its libnm-core
(nm_keyfile_utils_ignore_filename); meta-balena's balena-net-config. A profile may hold a password: messages have line numbers
and names of keys, never values.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..disk.fat.paths import check_fat_path
from ..errors import UsageError

CONNECTIONS_DIRECTORY = "system-connections"
MAX_CONNECTION_BYTES = 64 << 10
STATIC_IP_NAME = "static_ip"
_GROUP = re.compile(r"\[([^\[\]\x00-\x1f\x7f]+)\]\s*")
# Names that an interrupted g_file_set_contents() leaves. So sample.ignore is ignored, and so is wifi.office.
_TEMPORARY = re.compile(r".*\.[A-Za-z0-9]{6}", re.DOTALL)
_NAMELESS = ipaddress.ip_network("0.0.0.0/8")


@dataclass(frozen=True, slots=True)
class NetworkConnection:
    """A connection profile: its file name, its content, and its ``connection.id`` and ``uuid`` ("" for none)."""

    name: str
    content: bytes = field(repr=False)
    id: str
    uuid: str = ""


def read_connection(name: str, content: bytes, what: str) -> NetworkConnection:
    """Check a connection profile for the file name *name*.

    Args:
        what: the file's name in errors.

    Raises:
        UsageError: it is not a keyfile, lacks ``id`` or ``type`` in ``[connection]``, or NetworkManager ignores its name.
    """
    if len(content) > MAX_CONNECTION_BYTES:
        raise UsageError(f"{what} has more than {MAX_CONNECTION_BYTES} bytes, too many for a connection profile")
    why = _passed_over(name)
    if why is not None:
        raise UsageError(f"{what}: NetworkManager ignores files whose names {why}; give it another name")
    check_fat_path(name)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} is not a connection profile: it is not UTF-8") from error
    connection = _group(text, "connection", what)
    for key in ("id", "type"):
        if not connection.get(key):
            raise UsageError(f"{what} is not a connection profile: {key} is missing in its [connection]")
    return NetworkConnection(name, content, connection["id"], connection.get("uuid", ""))


def static_ip_connection(text: str) -> NetworkConnection:
    """A profile that gives ethernet the address *text*: ``10.0.0.1/24``, with a gateway ``10.0.0.1/24,10.0.0.254``.

    IPv6 is link-local only: router advertisements would give the device a route, which a static address without a gateway
    is meant to prevent.

    Raises:
        UsageError: it is not an address that an interface can have.
    """
    address_text, comma, gateway_text = text.partition(",")
    expected = "expected ADDRESS/PREFIX or ADDRESS/PREFIX,GATEWAY of IPv4, as in 10.0.0.1/24,10.0.0.254"
    try:
        if "/" not in address_text:
            raise ValueError("the prefix is missing")
        interface = ipaddress.IPv4Interface(address_text.strip())
        gateway = ipaddress.IPv4Address(gateway_text.strip()) if comma else None
    except ValueError as error:
        hint = "; for IPv6 write a profile and give it with --network-connection" if ":" in text else ""
        raise UsageError(f"--static-ip {text[:60]!r}: {expected}{hint}") from error
    fault = _address_fault(interface, gateway)
    if fault is not None:
        raise UsageError(f"--static-ip {text[:60]!r}: {fault}; {expected}")
    address = f"{interface.with_prefixlen},{gateway}" if gateway is not None else interface.with_prefixlen
    content = (
        f"[connection]\nid={STATIC_IP_NAME}\ntype=ethernet\n\n"
        f"[ipv4]\nmethod=manual\naddress1={address}\n\n"
        "[ipv6]\nmethod=link-local\n"
    )
    return NetworkConnection(STATIC_IP_NAME, content.encode(), STATIC_IP_NAME)


def check_distinct(connections: Iterable[NetworkConnection]) -> None:
    """Check that no profile replaces another.

    Raises:
        UsageError: two have the same file name (without regard to case, as in FAT), or the same uuid.
    """
    names: set[str] = set()
    uuids: set[str] = set()
    for connection in connections:
        name, uuid = connection.name.lower(), connection.uuid.lower()
        if name in names:
            raise UsageError(f"two network connections have the file name {connection.name!r}; rename one")
        if uuid and uuid in uuids:
            raise UsageError(
                f"the network connection {connection.name!r} has the same uuid as another: NetworkManager would use only one"
            )
        names.add(name)
        uuids.add(uuid)


def _passed_over(name: str) -> str | None:
    if name.startswith("."):
        return "begin with a dot"
    if name.endswith("~"):
        return "end with ~"
    if name.lower().endswith((".pem", ".der")):
        return "end with .pem or .der"
    if _TEMPORARY.fullmatch(name):
        return "end with a dot and six letters or digits, as its temporary files do"
    return None


def _group(text: str, wanted: str, what: str) -> dict[str, str]:
    """The keys of one group. As in GLib, repeated groups are merged, and the last of equal keys counts."""
    found: dict[str, str] = {}
    group: str | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        header = _GROUP.fullmatch(line.lstrip())
        if header is not None:
            group = header[1]
            continue
        key, equals, value = line.partition("=")
        if group is None or not equals or not key.strip() or "\0" in line:
            expected = "a [group]" if group is None else "key=value or a [group]"
            raise UsageError(f"{what} is not a connection profile: line {number} is not {expected}")
        if group == wanted:
            found[key.strip()] = value.strip()
    return found


def _address_fault(interface: ipaddress.IPv4Interface, gateway: ipaddress.IPv4Address | None) -> str | None:
    network = interface.network
    if network.prefixlen == 0:
        return "a prefix of 0 leaves no network"
    for address in (interface.ip, gateway):
        if address is None:
            continue
        if address.is_multicast or address.is_loopback or address.is_reserved or address in _NAMELESS:
            return f"no interface can have the address {address}"
        if network.prefixlen < 31 and address in (network.network_address, network.broadcast_address):
            return f"{address} stands for the whole of {network}, or for all in it"
    if gateway is not None and (gateway not in network or gateway == interface.ip):
        return f"the gateway {gateway} is not another address in {network}"
    return None
