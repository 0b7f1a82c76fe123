"""The API server and the login: from the caller, the environment, or the files of ``balena login``.

Sources: balena-settings-client (``lib/defaults.ts``, ``settings.ts``, ``environment.ts``): ``balenaUrl`` is
``balena-cloud.com`` unless ``~/.balenarc.yml`` or ``BALENARC_BALENA_URL`` says otherwise, ``apiUrl`` is
``https://api.<balenaUrl>`` unless set itself, ``dataDirectory`` is ``~/.balena``; the environment overrides the file.
balena-settings-storage: the token is the content of the file ``token`` in the data directory.

Unlike with balena's own tools, a ``balenarc.yml`` in the current directory is not read: it would choose the server that gets
the token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ...errors import AuthenticationError, UsageError
from ...http.address import is_listed, is_loopback, origin

DEFAULT_DOMAIN = "balena-cloud.com"
TOKEN_VARIABLE = "BALENA_API_TOKEN"
_FILE = ".balenarc.yml"
_MAX_FILE_BYTES = 64 << 10
_MAX_TOKEN_BYTES = 64 << 10
_TOKEN = re.compile(r"[\x21-\x7e]+")
_LINE = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)[ \t]*:(?:[ \t]+(.*))?")
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """A server and a login.

    Attributes:
        api_url: ``https://api.balena-cloud.com``, without a path.
        token: a session token or an API key; empty without a login, which suffices for public data.
        token_origin: where the token was found, for messages.
    """

    api_url: str
    token: str = field(default="", repr=False)
    token_origin: str = ""

    @property
    def host(self) -> str:
        """``api.balena-cloud.com``, with the port if one is given."""
        return urlsplit(self.api_url).netloc

    @property
    def registry(self) -> str | None:
        """The domain of the server's own registry, by balena's naming; None if the server's name is not like that."""
        first, _, domain = self.host.partition(".")
        return f"registry2.{domain}" if first == "api" and domain else None

    def gives_tokens_at(self, realm: str) -> bool:
        """Whether the token server *realm*, which a registry names, is this server."""
        try:
            return origin(realm) == origin(self.api_url)
        except ValueError:
            return False

    def not_logged_in(self) -> str:
        """The advice for a user who needs a login and has none."""
        return (
            f"not logged in to {self.host}: run 'balena login', or give a token with --token or {TOKEN_VARIABLE} "
            "(dashboard: Preferences, Access tokens)"
        )


def find_settings(
    environment: Mapping[str, str],
    home: Path,
    *,
    token: str | None = None,
    api_url: str | None = None,
    insecure_hosts: tuple[str, ...] = (),
) -> CloudSettings:
    """The settings: arguments override the environment, which overrides the files in *home*.

    Args:
        token: given by the caller.
        api_url: given by the caller: ``https://api.example.com``, or only the host.
        insecure_hosts: servers (``host[:port]``) for which plain http is allowed; this machine always is.

    Raises:
    UsageError: an address is malformed or would send the token unencrypted, or ``~/.balenarc.yml`` has more than lines of
        ``key: value``.
    AuthenticationError: the token cannot be read, or is malformed.
    """
    file = _LazyFile(home / _FILE)
    found, place = _token(token, environment, home, file)
    return CloudSettings(_api_url(api_url, environment, file, insecure_hosts), found, place)


class _LazyFile:
    """``~/.balenarc.yml``, only read if a value is not set elsewhere."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] | None = None

    def get(self, key: str) -> str:
        if self._values is None:
            content = _read(self._path, _MAX_FILE_BYTES)
            self._values = {} if content is None else read_plain_yaml(content, str(self._path))
        return self._values.get(key, "")


def read_plain_yaml(content: bytes, what: str) -> dict[str, str]:
    """Parse lines of ``key: value``, which suffices for ``.balenarc.yml``; comments and quotes are supported.

    Raises:
        UsageError: there is other YAML in it.
    """
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"{what} is not UTF-8 text") from None
    values: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.rstrip()
        if not text or text.lstrip().startswith("#") or text in ("---", "..."):
            continue
        match = _LINE.fullmatch(text)
        value = _scalar(match[2] or "") if match is not None else None
        if match is None or value is None:
            raise UsageError(
                f"{what}, line {number}: expected 'key: value'; other YAML is not supported; "
                f"give the server with --api-url, and the token with --token or {TOKEN_VARIABLE}"
            )
        values[match[1]] = value
    return values


def _scalar(text: str) -> str | None:
    """The value of a plain or quoted scalar on one line; None for anything else."""
    quote = text[:1]
    if quote in ("'", '"'):
        inner, closing, rest = text[1:].partition(quote)
        after = rest.strip()
        simple = closing and "\\" not in inner and (not after or (rest[0] in " \t" and after.startswith("#")))
        return inner if simple else None
    value = re.split(r"[ \t]#", f" {text}", maxsplit=1)[0].strip()
    return None if value[:1] in ("[", "{", "&", "*", "!", "|", ">", "%", "@", "`") or ": " in value else value


def _token(given: str | None, environment: Mapping[str, str], home: Path, file: _LazyFile) -> tuple[str, str]:
    if given is not None:
        return _checked_token(given, "--token"), "--token"
    if environment.get(TOKEN_VARIABLE):
        return _checked_token(environment[TOKEN_VARIABLE], TOKEN_VARIABLE), TOKEN_VARIABLE
    directory = environment.get("BALENARC_DATA_DIRECTORY") or file.get("dataDirectory") or str(home / ".balena")
    path = Path(directory) / "token"
    try:
        content = _read(path, _MAX_TOKEN_BYTES)
    except UsageError as error:
        raise AuthenticationError(f"{error}; log in again: balena login") from error
    if content is None:
        return "", ""
    return _checked_token(content.decode("utf-8", "replace"), str(path)), str(path)


def _checked_token(text: str, where: str) -> str:
    token = text.strip()
    if len(token) > _MAX_TOKEN_BYTES or _TOKEN.fullmatch(token) is None:
        # Not quoted: it may contain a token.
        raise AuthenticationError(f"{where} does not hold a token: expected one line without spaces")
    return token


def _api_url(given: str | None, environment: Mapping[str, str], file: _LazyFile, insecure: tuple[str, ...]) -> str:
    if given is not None:
        return _checked_url(given, "--api-url", insecure)
    for name, key in (("BALENARC_API_URL", "apiUrl"), ("BALENARC_BALENA_URL", "balenaUrl")):
        value = environment.get(name) or ""
        where = name
        if not value and not (key == "apiUrl" and environment.get("BALENARC_BALENA_URL")):
            value, where = file.get(key), f"{key} in ~/{_FILE}"
        if value:
            return _checked_url(value if key == "apiUrl" else _of_domain(value, where), where, insecure)
    return f"https://api.{DEFAULT_DOMAIN}"


def _of_domain(domain: str, where: str) -> str:
    if _DOMAIN.fullmatch(domain) is None:
        raise UsageError(f"{where} is {domain[:100]!r}: expected a domain such as {DEFAULT_DOMAIN}, without https://")
    return f"https://api.{domain}"


def _checked_url(text: str, where: str, insecure: tuple[str, ...]) -> str:
    url = (text if "://" in text else f"https://{text}").rstrip("/")
    try:
        scheme, host, _ = origin(url)
        parts = urlsplit(url)
    except ValueError:
        # Not quoted: it may contain a password.
        raise UsageError(f"{where} is not a server's address; one looks like https://api.{DEFAULT_DOMAIN}") from None
    if parts.path or parts.query or parts.fragment:
        raise UsageError(f"{where}: expected a server's address without a path, such as https://api.{DEFAULT_DOMAIN}")
    if scheme == "http" and not is_loopback(host) and not is_listed(parts.netloc, insecure):
        raise UsageError(
            f"{where} is a plain http address, which would send the token unencrypted: use https, or allow the host "
            f"with --insecure-registry {parts.netloc[:100]} if you trust the network"
        )
    return f"{scheme}://{parts.netloc.lower()}"


def _read(path: Path, limit: int) -> bytes | None:
    """The content of a small file; None if there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > limit:
        raise UsageError(f"{path} has more than the {limit} bytes allowed")
    return content
