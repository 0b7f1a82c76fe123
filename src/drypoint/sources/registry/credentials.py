"""Credentials for registries, from the files and helpers of ``docker login``.

Format: the Docker command line's config.json (``auths``, ``credHelpers``, ``credsStore``) and the protocol of
docker-credential-helpers: the server's address on standard input, JSON on standard output.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from ...concurrency.tasks import current
from ...errors import AuthenticationError
from ...go_json import JsonError, decode_base64, decode_go

DOCKER_HUB_KEY = "https://index.docker.io/v1/"
"""Docker's key for the credentials of docker.io, from its first protocol."""

_MAX_CONFIG_BYTES = 4 << 20
HELPER_SECONDS = 60.0
"""How long a credential helper may take."""
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOUND = b"credentials not found in native keychain"
_IDENTITY_TOKEN_USER = "<token>"
"""The user name that marks a helper's secret as an identity token."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name with a password, or an identity token (an OAuth2 refresh token), or a registry token, which is sent as
    it is."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool((self.username and self.password) or self.identity_token or self.registry_token)


class CredentialStore(Protocol):
    def get(self, registry: str) -> Credentials | None:
        """The credentials for *registry* (a reference's domain: ``docker.io``, ``localhost:5000``), or None.

        Raises:
            AuthenticationError: the store cannot be read. The registry is then asked without credentials, and the message is
                shown if it requires some.
        """


class StaticCredentials(msgspec.Struct, frozen=True):
    """Credentials given by the caller, by domain; *otherwise* is the store for all other registries."""

    by_registry: Mapping[str, Credentials]
    otherwise: CredentialStore | None = None

    def get(self, registry: str) -> Credentials | None:
        given = self.by_registry.get(registry)
        if given is None and self.otherwise is not None:
            return self.otherwise.get(registry)
        return given


class _RawAuth(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _RawConfig(msgspec.Struct):
    auths: dict[str, _RawAuth] | None = None
    credHelpers: dict[str, str] | None = None  # noqa: N815  (the file's spelling)
    credsStore: str = ""  # noqa: N815


class _RawHelperAnswer(msgspec.Struct):
    Username: str = ""
    Secret: str = ""


class DockerConfigStore(msgspec.Struct, frozen=True):
    """The file that ``docker login`` writes: ``$DOCKER_CONFIG/config.json``, else ``~/.docker/config.json``.

    As with docker, a registry with a credential helper is only looked up there.
    """

    path: Path | None = None

    def get(self, registry: str) -> Credentials | None:
        path = self.path or _default_path()
        config = _read(path)
        key = DOCKER_HUB_KEY if registry == "docker.io" else registry
        helper = (config.credHelpers or {}).get(key) or config.credsStore
        if helper:
            return _ask_helper(helper, key)
        auths = config.auths or {}
        entry = auths.get(key)
        if entry is None and registry != "docker.io":
            # Older logins have URLs as keys.
            entry = next((auth for name, auth in auths.items() if _hostname(name) == registry), None)
        return _from_entry(entry, registry, path) if entry is not None else None


def _default_path() -> Path:
    directory = os.environ.get("DOCKER_CONFIG")
    if directory:
        return Path(directory) / "config.json"
    try:
        return Path.home() / ".docker" / "config.json"
    except RuntimeError:
        # A user id without a home directory has no login.
        return Path("/nonexistent/.docker/config.json")


def _read(path: Path) -> _RawConfig:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_CONFIG_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return _RawConfig()
    except OSError as error:
        raise AuthenticationError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_CONFIG_BYTES:
        raise AuthenticationError(f"{path} has more than the {_MAX_CONFIG_BYTES} bytes allowed")
    try:
        # The Docker command line accepts an empty file, too.
        return decode_go(content, _RawConfig, first=True) if content.strip() else _RawConfig()
    except JsonError:
        # Without the parser's message, which may quote the file and its passwords.
        raise AuthenticationError(f"{path} is not a Docker configuration file; fix it or log in again") from None


def _from_entry(entry: _RawAuth, registry: str, path: Path) -> Credentials | None:
    username, password = entry.username, entry.password
    if entry.auth:
        try:
            # Passwords are bytes; what is not UTF-8 is kept as it is.
            decoded = decode_base64(entry.auth).decode("utf-8", "surrogateescape")
        except JsonError:
            raise AuthenticationError(
                f"{path}: the 'auth' of {registry} is not base64; run: docker login {registry}"
            ) from None
        username, colon, password = decoded.partition(":")
        if not colon:
            raise AuthenticationError(
                f"{path}: the 'auth' of {registry} is not NAME:PASSWORD; run: docker login {registry}"
            )
        # Old logins padded the password.
        password = password.strip("\0")
    found = Credentials(username, password, entry.identitytoken, entry.registrytoken)
    return found or None


def _hostname(key: str) -> str:
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _ask_helper(name: str, key: str) -> Credentials | None:
    program = f"docker-credential-{name[:100]}"
    if _HELPER_NAME.fullmatch(name) is None:
        raise AuthenticationError(f"{program!r} is not a credential helper's name")
    try:
        # As with docker: a program that the user names in the configuration, found on PATH.
        process = subprocess.Popen(
            [program, "get"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise AuthenticationError(
            f"credential helper {program} for {key} is not installed; install it or remove it from config.json"
        ) from None
    except OSError as error:
        raise AuthenticationError(f"credential helper {program} cannot be started: {error.strerror}") from error
    with process:
        try:
            with current().waker(process.kill):
                answered, _ = process.communicate(key.encode(), HELPER_SECONDS)
        except subprocess.TimeoutExpired:
            raise AuthenticationError(
                f"credential helper {program} gave no answer for {key} in {HELPER_SECONDS:g} seconds"
            ) from None
        finally:
            # No effect on a process that has ended.
            process.kill()
    current().check()
    if process.returncode != 0:
        if _NOT_FOUND in answered:
            return None
        # Its output may hold a secret, so it is not quoted.
        raise AuthenticationError(
            f"credential helper {program} failed for {key} with exit status {process.returncode}; "
            f"try it by hand: echo {key} | {program} get"
        )
    try:
        answer = decode_go(answered, _RawHelperAnswer, first=True)
    except JsonError:
        raise AuthenticationError(f"credential helper {program} did not answer with credentials for {key}") from None
    if answer.Username == _IDENTITY_TOKEN_USER:
        return Credentials(identity_token=answer.Secret) or None
    return Credentials(answer.Username, answer.Secret) or None
