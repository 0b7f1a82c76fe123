"""Options for HTTP."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..version import __version__
from .retry import RetryPolicy
from .zones import Reach, Zone


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Options for HTTP; the defaults are those of ``docker pull`` on this machine.

    Attributes:
        insecure_registries: registries (``host[:port]``, or CIDR blocks of addresses) for which plain http is allowed if https
            fails. Certificates are checked for these too. Loopback needs no entry.
        allowed_hosts: hosts (``host[:port]``, or CIDR blocks of addresses) that others than the caller may name in any
            network; *insecure_registries* are among them. Without an entry, a host that a redirect, a token server's address or
            an apps.json names is only reached in a network that is no more private than that of the server or file that names
            it.
        named_from: the zone of those who give host names to the caller: ``Zone.PUBLIC`` for a service with users anywhere.
            None: the caller itself gives them, and may give any.
        ca_files: PEM files of certificate authorities to trust in addition to the system's.
        certs_directory: docker's directory of certificates by registry.
        environment: the environment with the proxy variables.
        connect_timeout: seconds to connect to a host.
        read_timeout: seconds without a byte after which a connection counts as broken.
        request_timeout: seconds for a whole manifest or token, and for the header of any other answer, with all redirects
            before it. Blobs and disk images have a minimum rate instead, see :mod:`drypoint.http.transfer`.
        user_agent: the User-Agent header of all requests.
    """

    insecure_registries: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    named_from: Zone | None = None
    ca_files: tuple[Path, ...] = ()
    certs_directory: Path = Path("/etc/docker/certs.d")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    connect_timeout: float = 15.0
    read_timeout: float = 30.0
    request_timeout: float = 120.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    user_agent: str = f"drypoint/{__version__}"

    def reach(self, named_from: Zone | None) -> Reach:
        """The permitted addresses for hosts that are named from the zone *named_from*."""
        return Reach(named_from, (*self.allowed_hosts, *self.insecure_registries))
