"""The options of the network."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from .. import RegistryOptions
from .option_group import Command, option_group


class NetworkInputs(msgspec.Struct, frozen=True):
    """The options as they were given."""

    insecure_registries: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    certificates: tuple[Path, ...]

    def options(self) -> RegistryOptions:
        return RegistryOptions(
            insecure_registries=self.insecure_registries,
            allowed_hosts=self.allowed_hosts,
            ca_files=self.certificates,
        )


def network_options(function: Command) -> Command:
    """--insecure-registry, --allow-host and --add-certificate, given to *function* together, as ``network``."""
    options = [
        click.option(
            "--insecure-registry", "insecure_registries", multiple=True, metavar="HOST[:PORT]",
            help="A registry or server that may be accessed by plain http. Those on this machine always may. May be repeated.",
        ),
        click.option(
            "--allow-host", "allowed_hosts", multiple=True, metavar="HOST[:PORT]|CIDR",
            help="A host in a private network, or on this machine, that a redirect, a registry's token server or an apps.json "
            "may name. Hosts that you name yourself need no permission. May be repeated.",
        ),
        click.option(
            "--add-certificate", "certificates", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
            help="A PEM file of certificate authorities to trust in addition to the system's. May be repeated.",
        ),
    ]  # fmt: skip
    return option_group(function, "network", NetworkInputs, options)
