"""The options that name fleets and their server.

``balena preload`` has --fleet, --commit, --pin-device-to-release and --dont-check-arch; there, ``--commit latest`` means
current.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import click

from ..balena.cloud_states import CloudServer
from ..errors import UsageError
from .option_group import Command, Decorator, option_group

_MAX_TOKEN_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class CloudInputs:
    """The options as they were given."""

    fleets: tuple[str, ...] = ()
    commit: str | None = None
    device: str | None = None
    pin_device_to_release: bool | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    api_url: str | None = None
    save_apps_json: Path | None = None
    dont_check_arch: bool = False

    @property
    def server(self) -> CloudServer:
        return cloud_server(self.token, self.token_file, self.api_url)


def cloud_server(token: str | None, token_file: Path | None, api_url: str | None) -> CloudServer:
    """The server and the login.

    Raises:
        UsageError: the token is given twice, or its file cannot be read, or holds none.
    """
    if token_file is None:
        return CloudServer(token, api_url)
    if token is not None:
        raise UsageError("give either --token or --token-file")
    try:
        with token_file.open("rb") as file:
            content = file.read(_MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {token_file}: {error.strerror}") from error
    text = content.decode("ascii", "replace").strip()
    if not text.isascii() or not text.isprintable() or len(text.split()) != 1 or len(content) > _MAX_TOKEN_BYTES:
        # The file may hold another secret, so it is not quoted.
        raise UsageError(f"{token_file} does not hold a token: expected one word")
    return CloudServer(text, api_url)


def server_options(function: Command) -> Command:
    """--token and --api-url, given to *function* together, as ``server``."""
    return option_group(function, "server", cloud_server, _server_options())


def cloud_options(function: Command) -> Command:
    """All of the options, given to *function* together, as ``cloud``."""
    options: list[Decorator] = [
        click.option(
            "--fleet", "fleets", multiple=True, metavar="ORG/FLEET",
            help="A fleet on balenaCloud or openBalena, by slug, uuid, id, or by name alone: its target state is preloaded. "
            "May be repeated for further blocks and apps.",
        ),
        click.option(
            "--commit", metavar="COMMIT",
            help="The release of the fleet: a commit or its first digits, 'current' (what the fleet's devices run) or "
            "'latest' (the newest). Default: current.",
        ),
        click.option(
            "--device", metavar="UUID",
            help="Instead of a fleet: the target state of this registered device.",
        ),
        click.option(
            "--pin-device-to-release/--no-pin-device-to-release", default=None,
            help="Keep the device on the preloaded release when it joins its fleet. Default: as --apps-json says, else "
            "it follows the fleet.",
        ),
        *_server_options(),
        click.option(
            "--save-apps-json", type=click.Path(path_type=Path), metavar="FILE",
            help="Also write the apps.json to FILE, for later use with --apps-json and without the server.",
        ),
        click.option(
            "--dont-check-arch", is_flag=True,
            help="Do not check that the processor of the disk image's device type can run the fleet's images.",
        ),
    ]  # fmt: skip
    return option_group(function, "cloud", CloudInputs, options)


def _server_options() -> list[Decorator]:
    return [
        click.option(
            "--token", metavar="TOKEN",
            help="A session token or an API key. Default: BALENA_API_TOKEN, else ~/.balena/token, which 'balena login' writes.",
        ),
        click.option(
            "--token-file", type=click.Path(path_type=Path), metavar="FILE",
            help="Read the token from FILE instead: a command line shows in the list of processes. /dev/fd/N is an open "
            "descriptor.",
        ),
        click.option(
            "--api-url", metavar="URL",
            help="The API server. Default: as in BALENARC_BALENA_URL or ~/.balenarc.yml, else https://api.balena-cloud.com.",
        ),
    ]  # fmt: skip
