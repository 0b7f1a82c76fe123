"""The options that name fleets and their server.

``balena preload`` has --fleet, --commit, --pin-device-to-release and --dont-check-arch; there, ``--commit latest`` means
current.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ..errors import AuthenticationError, OutputError, UsageError
from ..progress import SILENT, Progress
from .option_group import Command, Decorator, option_group

if TYPE_CHECKING:
    from ..balena.apps_json import AppsJson
    from ..balena.architecture import NeededArchitecture
    from ..balena.cloud import CloudClient, CloudSettings
    from ..sources.registry import RegistryOptions, TokenProvider

_log = logging.getLogger(__name__)
_OWN_REGISTRY = "registry2."
"""How the name of a server's own registry begins."""


@dataclass(frozen=True, slots=True)
class ServerInputs:
    """Which server is asked, and who asks."""

    token: str | None = field(default=None, repr=False)
    api_url: str | None = None


@dataclass(frozen=True, slots=True)
class CloudInputs:
    """The options as they were given."""

    fleets: tuple[str, ...] = ()
    commit: str | None = None
    device: str | None = None
    pin_device_to_release: bool | None = None
    token: str | None = field(default=None, repr=False)
    api_url: str | None = None
    save_apps_json: Path | None = None
    dont_check_arch: bool = False

    @property
    def names_apps(self) -> bool:
        """Whether a fleet or a device is named, so that there is something to preload."""
        return bool(self.fleets) or self.device is not None

    @property
    def server(self) -> ServerInputs:
        return ServerInputs(self.token, self.api_url)


class CloudStates(msgspec.Struct, frozen=True):
    """What the options name.

    Attributes:
        apps: all apps.json in one; None if neither fleet, device nor file was named.
        needs: what the fleets are built for.
        notes: where the apps come from, a line each.
        token_provider: for :class:`RegistryOptions`; serves as long as the block lasts.
    """

    apps: AppsJson | None
    needs: tuple[NeededArchitecture, ...]
    notes: tuple[str, ...]
    token_provider: TokenProvider


def server_options(function: Command) -> Command:
    """--token and --api-url, given to *function* together, as ``server``."""
    return option_group(function, "server", ServerInputs, _server_options())


def cloud_options(function: Command) -> Command:
    """All of the options, given to *function* together, as ``cloud``."""
    options: list[Decorator] = [
        click.option(
            "--fleet", "fleets", multiple=True, metavar="ORG/FLEET",
            help="A fleet on balenaCloud or openBalena, by slug, uuid, id, or by name alone: its target state is preloaded. "
            "May be repeated for blocks and apps beside it.",
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


@contextmanager
def cloud_states(
    inputs: CloudInputs,
    options: RegistryOptions,
    files: Sequence[tuple[str, AppsJson]] = (),
    progress: Progress = SILENT,
) -> Iterator[CloudStates]:
    """Ask the server for what *inputs* names, and put it together with *files*.

    Args:
        options: how the network is reached; the same are for the registries, with the token provider that comes of this.
        files: apps.json files that other options name, each with its name.

    Raises:
        UsageError: the options contradict each other, or mean nothing.
        SourceError: the server does not give it; the kind of error tells why.
        OutputError: --save-apps-json cannot be written.
    """
    from ..balena.cloud import RegistryTokens, StateWishes, gather_states

    wishes = StateWishes(inputs.fleets, inputs.commit, inputs.device, inputs.pin_device_to_release)
    with ExitStack() as stack:
        if not wishes.asks_the_server:
            gathered = gather_states(wishes, None, files)
            tokens: TokenProvider = stack.enter_context(_LaterTokens(inputs.server, options))
        else:
            client = stack.enter_context(cloud_client(inputs.server, options))
            step = progress.begin(f"asking {client.settings.host}")
            gathered = gather_states(wishes, client, files)
            step.end()
            tokens = RegistryTokens(client, gathered.apps.images if gathered is not None else ())
        if gathered is None:
            yield CloudStates(None, (), (), tokens)
            return
        if inputs.save_apps_json is not None:
            _save(inputs.save_apps_json, gathered.apps.content)
        yield CloudStates(gathered.apps, gathered.needs, gathered.notes, tokens)


def cloud_client(server: ServerInputs, options: RegistryOptions) -> CloudClient:
    """A client for the server that *server*, the environment and the user's files name.

    Raises:
        UsageError, AuthenticationError: one of them says what cannot be.
    """
    from ..balena.cloud import CloudClient

    return CloudClient(_settings(server, options), options)


def _settings(server: ServerInputs, options: RegistryOptions) -> CloudSettings:
    from ..balena.cloud import find_settings

    return find_settings(
        options.environment,
        _home(),
        token=server.token,
        api_url=server.api_url,
        insecure_hosts=options.insecure_registries,
    )


class _LaterTokens:
    """Registry tokens for when no fleet is named, but an apps.json or image of a server's own registry may be.

    The login is looked up when a registry asks for a token, and not before. Who does without balena's server shall not hear of
    its settings: what is wrong with them is an error only for a registry that is called as balena's are.
    """

    def __init__(self, server: ServerInputs, options: RegistryOptions) -> None:
        self._server = server
        self._options = options
        self._lock = threading.Lock()
        self._settings: CloudSettings | None = None
        self._client: CloudClient | None = None
        self._tokens: TokenProvider | None = None

    def __enter__(self) -> _LaterTokens:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def __call__(self, registry: str, scopes: tuple[str, ...], refused: str | None, realm: str, /) -> str | None:
        from ..balena.cloud import CloudClient, RegistryTokens

        is_called_so = registry.startswith(_OWN_REGISTRY)
        with self._lock:
            if self._settings is None:
                try:
                    self._settings = _settings(self._server, self._options)
                except (UsageError, AuthenticationError) as error:
                    if is_called_so:
                        raise
                    _log.debug("%s gets no token of balena's: %s", registry, error)
                    return None
            if not is_called_so and not self._settings.gives_tokens_at(realm):
                return None
            if self._tokens is None:
                self._client = CloudClient(self._settings, self._options)
                self._tokens = RegistryTokens(self._client)
        return self._tokens(registry, scopes, refused, realm)

    def advice(self, registry: str, realm: str) -> str | None:
        """How to log in where no token was given."""
        with self._lock:
            return None if self._settings is None else self._settings.login_advice(registry, realm)


def _server_options() -> list[Decorator]:
    return [
        click.option(
            "--token", metavar="TOKEN",
            help="A session token or an API key. Default: BALENA_API_TOKEN, else ~/.balena/token, which 'balena login' writes.",
        ),
        click.option(
            "--api-url", metavar="URL",
            help="The API server. Default: as in BALENARC_BALENA_URL or ~/.balenarc.yml, else https://api.balena-cloud.com.",
        ),
    ]  # fmt: skip


def _save(path: Path, content: bytes) -> None:
    from ..disk.host.output import whole_file

    with whole_file(path, overwrite=True) as part:
        try:
            part.write_bytes(content)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        # A user id without a home directory: nobody has logged in there.
        return Path(os.devnull)
