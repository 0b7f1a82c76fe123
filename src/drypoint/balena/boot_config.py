"""config.json of the boot partition: replaced, merged, and compared with the fleet that is preloaded.

Sources: meta-balena's README.md (keys), balena-supervisor's src/config (applicationId), balena-cli's ``config write`` (dotted
keys). balena's tools write the object on one line; an existing file keeps its layout. The file holds API keys of the device
or the fleet: no value of it ever appears in a message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from ..decoders import json_decoder
from ..errors import DiskImageError, UsageError
from .apps_json import AppsJson

CONFIG_FILE = "config.json"
MAX_CONFIG_BYTES = 1 << 20
_MAX_DEPTH = 16
_KEY_PART = re.compile(r"((?:[^.\\]|\\.)+)(\.|$)", re.DOTALL)
_LAYOUT = re.compile(rb"\s*\{([ \t]*\r?\n([ \t]*))?\s*(?:\"(?:[^\"\\]|\\.)*\"\s*:(\s*))?", re.DOTALL)
_COMPACT, _ONE_LINE = -1, 0
_MAX_INDENT = 8


@dataclass(frozen=True, slots=True)
class Setting:
    """A key, as a path from the top of the object, and its value as JSON."""

    key: tuple[str, ...]
    value: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return ".".join(self.key)


class ConfigApplication(msgspec.Struct, frozen=True):
    """The fleet that a device with this config.json joins; *name* is "" if the file has none."""

    application_id: int
    name: str


class _RawConfig(msgspec.Struct, rename="camel"):
    application_id: msgspec.Raw = msgspec.Raw()
    application_name: msgspec.Raw = msgspec.Raw()
    api_endpoint: msgspec.Raw = msgspec.Raw()


class _RawApp(msgspec.Struct):
    id: int | str = ""
    name: str = ""
    kind: str | None = msgspec.field(default=None, name="class")


class _RawApps(msgspec.Struct):
    apps: dict[str, _RawApp] = {}
    pin_device: bool = msgspec.field(default=False, name="pinDevice")


def parse_setting(text: str) -> Setting:
    r"""Parse ``key=value``, the argument of ``--set``.

    The value is JSON if it parses as JSON, else a text. Dots separate keys of nested objects, ``os.network.wifi=…``; a dot
    inside a key is written ``\.``.

    Raises:
        UsageError: there is no ``=``, or no key before it. The message does not repeat the text, which may be a secret.
    """
    name, equals, value = text.partition("=")
    key = tuple(re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL) for match in _KEY_PART.finditer(name))
    spelled = "".join(match[0] for match in _KEY_PART.finditer(name))
    if not equals or not key or spelled != name or name.endswith(".") or len(key) > _MAX_DEPTH:
        raise UsageError(
            f"a --set is malformed: a setting of {CONFIG_FILE} is KEY=VALUE or A.B.C=VALUE, with at most {_MAX_DEPTH} parts, "
            "none of them empty"
        )
    if len(text) > MAX_CONFIG_BYTES:
        raise UsageError(f"the value of {'.'.join(key)[:100]} has more than {MAX_CONFIG_BYTES} characters")
    try:
        encoded = value.strip().encode()
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"a setting of {CONFIG_FILE} is not valid UTF-8") from error
    return Setting(key, encoded if _fault(encoded) is None else msgspec.json.encode(value))


def check_config(content: bytes, what: str) -> bytes:
    """*content*, checked to be a config.json.

    Args:
        what: the file's name in errors.

    Raises:
        UsageError: it is too large, or not a JSON object.
    """
    if len(content) > MAX_CONFIG_BYTES:
        raise UsageError(f"{what} has more than {MAX_CONFIG_BYTES} bytes, too many for a {CONFIG_FILE}")
    fault = _fault(content) or _not_an_object(content)
    if fault is not None:
        raise UsageError(f"{what} is not a {CONFIG_FILE}: {fault}")
    return content


def merge_config(content: bytes | None, settings: Sequence[Setting]) -> bytes:
    """The config.json *content* with *settings* set, in order; other keys stay as they are.

    Values keep their spelling, numbers too; keys keep their order, and new ones come last. The layout is that of *content*,
    one line or indented; if there is none, one line without spaces, as balena's tools write it.

    Raises:
        DiskImageError: *content* is not a JSON object.
        UsageError: a setting's path goes through a value that is not an object, or the result would be too large.
    """
    if not settings:
        return content or b"{}"
    if content is not None:
        fault = _fault(content) or _not_an_object(content)
        if fault is not None:
            raise DiskImageError(
                f"the {CONFIG_FILE} in the boot partition cannot be edited: {fault}; replace it with --config"
            )
    merged = msgspec.Raw(content or b"{}")
    for setting in settings:
        merged = _set(merged, setting, 0)
    laid_out = msgspec.json.format(bytes(merged), indent=_indentation(content))
    if content is not None and content.endswith(b"\n"):
        laid_out += b"\n"
    if len(laid_out) > MAX_CONFIG_BYTES:
        raise UsageError(f"{CONFIG_FILE} would have more than {MAX_CONFIG_BYTES} bytes with the new settings")
    return laid_out


def config_application(config: bytes) -> ConfigApplication | None:
    """The fleet in *config*, a config.json; None if it names none, or is not a config.json."""
    try:
        raw = json_decoder(_RawConfig).decode(config)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None
    number = _number(_plain(raw.application_id))
    name = _plain(raw.application_name)
    return None if number is None else ConfigApplication(number, name if isinstance(name, str) else "")


def other_fleet_warning(config: bytes | None, apps: AppsJson) -> str | None:
    """A warning if *config* belongs to another fleet than the one that *apps* preloads, else None.

    Without an API to register with (``apiEndpoint``), a device keeps running what is preloaded, whatever fleet is named.
    """
    joined = config_application(config) if config is not None else None
    if config is None or joined is None:
        return None
    if not _plain(json_decoder(_RawConfig).decode(config).api_endpoint):
        return None
    try:
        raw = json_decoder(_RawApps).decode(apps.content)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None
    fleets = [(_app_number(key, app), app.name) for key, app in raw.apps.items() if (app.kind or "fleet") == "fleet"]
    known = [(number, name) for number, name in fleets if number is not None]
    if not known or joined.application_id in dict(known):
        return None
    preloaded = " and ".join(_fleet(number, name) for number, name in known)
    pinned = " It will not be pinned to the preloaded release." if raw.pin_device else ""
    return (
        f"{CONFIG_FILE} makes the device join {_fleet(joined.application_id, joined.name)}, but {preloaded} is "
        "preloaded: at first boot the device starts the preloaded services, and as soon as it is online and registered, the "
        f"Supervisor removes them and their images and downloads the release of the fleet that it joined.{pinned} To avoid "
        "this, give the preloaded fleet's file with --config"
    )


def plain_http_warning(config: bytes | None) -> str | None:
    """A warning if *config* names its server with plain http, else None.

    Supervisor 16.12.9 was observed to exit with it.
    """
    try:
        raw = json_decoder(_RawConfig).decode(config or b"{}")
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None
    endpoint = _plain(raw.api_endpoint)
    if not isinstance(endpoint, str) or not endpoint.strip().lower().startswith("http:"):
        return None
    return (
        f"{CONFIG_FILE} names the server (apiEndpoint) with http:// instead of https://: the device sends everything, also its "
        "keys, unencrypted, and some Supervisors (16.12.9) exit at such an address and start no service"
    )


def _fault(content: bytes) -> str | None:
    """Why *content* is not JSON, by position only: msgspec's message repeats none of its text."""
    try:
        msgspec.json.decode(content)
    except RecursionError:
        return "it is nested too deep"
    except UnicodeError:
        return "it is not UTF-8"
    except msgspec.MsgspecError as error:
        return str(error)[:200]
    return None


def _not_an_object(content: bytes) -> str | None:
    return None if content.lstrip().startswith(b"{") else "it holds something else than a JSON object"


def _set(raw: msgspec.Raw, setting: Setting, depth: int) -> msgspec.Raw:
    try:
        fields = json_decoder(dict[str, msgspec.Raw]).decode(raw)
    except msgspec.MsgspecError as error:
        # A value on the path is not an object; the message names its key only.
        raise UsageError(
            f"{setting.name} cannot be set in {CONFIG_FILE}: {'.'.join(setting.key[:depth])} exists and is not an object"
        ) from error
    key = setting.key[depth]
    if depth + 1 == len(setting.key):
        fields[key] = msgspec.Raw(setting.value)
    else:
        fields[key] = _set(fields.get(key, msgspec.Raw(b"{}")), setting, depth + 1)
    return msgspec.Raw(msgspec.json.encode(fields))


def _indentation(content: bytes | None) -> int:
    """The indent for :func:`msgspec.json.format`: spaces a level, 0 for one line with spaces, -1 for one without."""
    match = _LAYOUT.match(content or b"{}")
    if match is None:
        return _COMPACT
    if match[1] is not None:
        # msgspec cannot indent with tabs.
        return min(max(match[2].count(b" "), 2 if b"\t" not in match[2] else 4), _MAX_INDENT)
    return _ONE_LINE if match[3] else _COMPACT


def _plain(raw: msgspec.Raw) -> object:
    """The value of a field; None if it is missing or malformed."""
    return msgspec.json.decode(raw) if bytes(raw) and _fault(bytes(raw)) is None else None


def _app_number(key: str, app: _RawApp) -> int | None:
    """The id of an app: version 3 has uuids as keys and the id inside, version 2 has ids as keys."""
    inside = _number(app.id)
    return _number(key) if inside is None else inside


def _number(value: object) -> int | None:
    """A number, or the decimal text of one, which the Supervisor accepts too."""
    match value:
        case bool():
            return None
        case int():
            return value
        case str() if value.isascii() and value.isdecimal() and len(value) < 20:
            return int(value)
        case _:
            return None


def _fleet(number: int, name: str) -> str:
    return f"the fleet {name[:100]!r} ({number})" if name else f"the fleet {number}"
