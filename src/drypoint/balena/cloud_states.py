"""Target states from an API server, and tokens for the registries of their images."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..errors import AuthenticationError, UsageError
from ..http.zones import Zone
from ..progress import SILENT, Progress

if TYPE_CHECKING:
    from ..sources.registry import RegistryOptions, TokenProvider
    from .apps_json import AppsJson
    from .architecture import NeededArchitecture
    from .cloud import CloudClient, CloudSettings, RegistryTokens, StateRequest

_log = logging.getLogger(__name__)
_OWN_REGISTRY = "registry2."
"""The start of the name of a server's own registry."""


@dataclass(frozen=True, slots=True)
class CloudServer:
    """An API server and a login.

    Attributes:
        token: a session token or an API key; None for BALENA_API_TOKEN, else balena-cli's login.
        api_url: None for the environment's or ~/.balenarc.yml's, else https://api.balena-cloud.com.
    """

    token: str | None = field(default=None, repr=False)
    api_url: str | None = None


class CloudStates(msgspec.Struct, frozen=True):
    """The merged target states of the server and of files.

    Attributes:
        apps: all of them in one apps.json; None if no fleet, device or file was named.
        needs: the architectures of the fleets.
        notes: the sources of the apps, a line each.
        token_provider: for :class:`RegistryOptions`; valid inside the block.
        named_from: for :class:`RegistrySource`: by the domains of registries that the caller does not name, the zone of the
            server or file that does.
    """

    apps: AppsJson | None
    needs: tuple[NeededArchitecture, ...]
    notes: tuple[str, ...]
    token_provider: TokenProvider
    named_from: Mapping[str, Zone] = {}


@contextmanager
def cloud_states(
    request: StateRequest,
    server: CloudServer,
    options: RegistryOptions,
    files: Sequence[tuple[str, AppsJson]] = (),
    callers: Collection[str] = (),
    progress: Progress = SILENT,
) -> Iterator[CloudStates]:
    """Get the target states of *request* from *server*, and merge them with *files*.

    Args:
        options: the network's options, also for the registries, there with the resulting token provider.
        files: apps.json files, each with its name.
        callers: registries that the caller names itself, by their domains.

    Raises:
        UsageError: *files* contradict the fleets, or a name is malformed.
        SourceError: the server does not answer with it; the class of the error says why.
    """
    from .cloud import RegistryTokens, find_states

    with ExitStack() as stack:
        zone = Zone.PUBLIC
        if not request.asks_the_server:
            states = find_states(request, None, files)
            tokens: TokenProvider = stack.enter_context(_LaterTokens(server, options, callers))
        else:
            client = stack.enter_context(cloud_client(server, options))
            step = progress.begin(f"asking {client.settings.host}")
            states = find_states(request, client, files)
            step.end()
            tokens = RegistryTokens(client, () if states is None else states.from_server, callers)
            zone = client.zone
        if states is None:
            yield CloudStates(None, (), (), tokens)
            return
        named_from = {image.domain: Zone.PUBLIC for image in states.apps.images}
        named_from |= {image.domain: zone for image in states.from_server}
        for registry in (*callers, _own_registry(server, options)):
            named_from.pop(registry, None)
        yield CloudStates(states.apps, states.needs, states.notes, tokens, named_from)


def _own_registry(server: CloudServer, options: RegistryOptions) -> str:
    """The registry of the server that is set, by balena's naming; empty if that cannot be known."""
    try:
        return _settings(server, options).registry or ""
    except (UsageError, AuthenticationError):
        return ""


def cloud_client(server: CloudServer, options: RegistryOptions) -> CloudClient:
    """A client for the server and login in *server*, the environment or the user's files.

    Raises:
        UsageError, AuthenticationError: one of these is malformed.
    """
    from .cloud import CloudClient

    return CloudClient(_settings(server, options), options)


def _settings(server: CloudServer, options: RegistryOptions) -> CloudSettings:
    from .cloud import find_settings

    return find_settings(
        options.environment,
        _home(),
        token=server.token,
        api_url=server.api_url,
        insecure_hosts=options.insecure_registries,
    )


class _LaterTokens:
    """Registry tokens if no fleet is named: an apps.json or an image may still be from balena's registry.

    The login is only looked up when a registry asks for a token. Faults in its settings are an error only for registries
    with a name like balena's: users of other registries must not see them.
    """

    def __init__(self, server: CloudServer, options: RegistryOptions, callers: Collection[str]) -> None:
        self._server = server
        self._callers = callers
        self._options = options
        self._lock = threading.Lock()
        self._settings: CloudSettings | None = None
        self._client: CloudClient | None = None
        self._tokens: RegistryTokens | None = None

    def __enter__(self) -> _LaterTokens:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def __call__(self, registry: str, scopes: tuple[str, ...], refused: str | None, realm: str, /) -> str | None:
        from .cloud import CloudClient, RegistryTokens

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
                self._tokens = RegistryTokens(self._client, callers=self._callers)
        return self._tokens(registry, scopes, refused, realm)

    def advice(self, registry: str, realm: str) -> str | None:
        """How to log in, for a registry for which there is no token."""
        with self._lock:
            return None if self._tokens is None else self._tokens.advice(registry, realm)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        # A user id without a home directory has no login.
        return Path(os.devnull)
