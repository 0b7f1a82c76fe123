"""Target states from an API server, and its tokens for the registries that their images are in."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..errors import AuthenticationError, UsageError
from ..progress import SILENT, Progress

if TYPE_CHECKING:
    from ..sources.registry import RegistryOptions, TokenProvider
    from .apps_json import AppsJson
    from .architecture import NeededArchitecture
    from .cloud import CloudClient, CloudSettings, StateRequest

_log = logging.getLogger(__name__)
_OWN_REGISTRY = "registry2."
"""How the name of a server's own registry begins."""


@dataclass(frozen=True, slots=True)
class CloudServer:
    """Which API server is asked, and who asks.

    Attributes:
        token: a session token or an API key; None: of BALENA_API_TOKEN, else of the login of balena-cli.
        api_url: None: of the environment or ~/.balenarc.yml, else https://api.balena-cloud.com.
    """

    token: str | None = field(default=None, repr=False)
    api_url: str | None = None


class CloudStates(msgspec.Struct, frozen=True):
    """What is wanted of the server, and of files.

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


@contextmanager
def cloud_states(
    request: StateRequest,
    server: CloudServer,
    options: RegistryOptions,
    files: Sequence[tuple[str, AppsJson]] = (),
    progress: Progress = SILENT,
) -> Iterator[CloudStates]:
    """Ask *server* for what *request* names, and put it together with *files*.

    Args:
        options: how the network is reached; the same are for the registries, with the token provider that comes of this.
        files: apps.json files, each with its name.

    Raises:
        UsageError: *files* contradict the fleets, or a name means nothing.
        SourceError: the server does not give it; the kind of error tells why.
    """
    from .cloud import RegistryTokens, gather_states

    with ExitStack() as stack:
        if not request.asks_the_server:
            gathered = gather_states(request, None, files)
            tokens: TokenProvider = stack.enter_context(_LaterTokens(server, options))
        else:
            client = stack.enter_context(cloud_client(server, options))
            step = progress.begin(f"asking {client.settings.host}")
            gathered = gather_states(request, client, files)
            step.end()
            tokens = RegistryTokens(client, gathered.apps.images if gathered is not None else ())
        if gathered is None:
            yield CloudStates(None, (), (), tokens)
            return
        yield CloudStates(gathered.apps, gathered.needs, gathered.notes, tokens)


def cloud_client(server: CloudServer, options: RegistryOptions) -> CloudClient:
    """A client for the server that *server*, the environment and the user's files name.

    Raises:
        UsageError, AuthenticationError: one of them says what cannot be.
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
    """Registry tokens for when no fleet is named, but an apps.json or image of a server's own registry may be.

    The login is looked up when a registry asks for a token, and not before. Who does without balena's server shall not hear of
    its settings: what is wrong with them is an error only for a registry that is called as balena's are.
    """

    def __init__(self, server: CloudServer, options: RegistryOptions) -> None:
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
                self._tokens = RegistryTokens(self._client)
        return self._tokens(registry, scopes, refused, realm)

    def advice(self, registry: str, realm: str) -> str | None:
        """How to log in where no token was given."""
        with self._lock:
            return None if self._settings is None else self._settings.login_advice(registry, realm)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        # A user id without a home directory: nobody has logged in there.
        return Path(os.devnull)
