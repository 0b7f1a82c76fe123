"""The choice of a proxy, from the environment.

The rules are those of Go's golang.org/x/net/http/httpproxy, which docker follows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import msgspec

from ..errors import UsageError
from .address import is_loopback, origin


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's URL, and separately its user name and password."""

    url: str
    username: str = ""
    password: str = field(default="", repr=False)


class ProxyRules(msgspec.Struct, frozen=True):
    """The proxies for plain http and for https, and the hosts without a proxy."""

    http: Proxy | None = None
    https: Proxy | None = None
    no_proxy: tuple[str, ...] = ()

    def proxy_for(self, url: str) -> Proxy | None:
        """The proxy for the absolute URL *url*; None for a direct connection."""
        scheme, host, port = origin(url)
        proxy = self.https if scheme == "https" else self.http
        if proxy is None or is_loopback(host) or any(_matches(entry, host, port) for entry in self.no_proxy):
            return None
        return proxy


def proxy_rules(environment: Mapping[str, str]) -> ProxyRules:
    """Read HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or their lower-case spellings.

    Raises:
        UsageError: a proxy's URL is malformed, or of an unsupported kind.
    """
    # In a CGI program HTTP_PROXY is the request's header "Proxy", which an attacker controls.
    upper_http = "" if "REQUEST_METHOD" in environment else environment.get("HTTP_PROXY", "")
    no_proxy = environment.get("NO_PROXY") or environment.get("no_proxy", "")
    return ProxyRules(
        _proxy("HTTP_PROXY", upper_http or environment.get("http_proxy", "")),
        _proxy("HTTPS_PROXY", environment.get("HTTPS_PROXY") or environment.get("https_proxy", "")),
        tuple(entry for text in no_proxy.split(",") if (entry := text.strip().lower())),
    )


def _proxy(variable: str, text: str) -> Proxy | None:
    if not text:
        return None
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise UsageError(f"{variable} in the environment is not a proxy address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{variable} in the environment names a proxy of kind {parts.scheme[:20]!r}: only http and https are supported"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Proxy(f"{parts.scheme}://{host}{port}", unquote(parts.username or ""), unquote(parts.password or ""))


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            network = ipaddress.ip_network(entry, strict=False)
            return ipaddress.ip_address(host) in network
        except ValueError:
            return False
    name, entry_port = _split_port(entry)
    if not name or (entry_port and entry_port != str(port)):
        return False
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(host)
    except ValueError:
        return _matches_name(name, host)


def _matches_name(name: str, host: str) -> bool:
    # ".example.com" and "*.example.com" are the hosts below example.com; "example.com" is itself and those.
    suffix = name.removeprefix("*") if name.startswith("*.") else name
    if suffix.startswith("."):
        return host.endswith(suffix)
    return host == suffix or host.endswith(f".{suffix}")


def _split_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""
