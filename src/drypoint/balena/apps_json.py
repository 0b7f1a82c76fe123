"""apps.json: the target state that the balena Supervisor reads at first boot.

Format: version 3, as the Supervisor's own types have it (balena-supervisor, src/types/state.ts, ``AppsJsonFormat``, and
src/types/basic.ts). The Supervisor passes over the whole file, in silence, when one field is wrong; so each field is checked
here, and every fault is named by its JSON path. Bytes are written to the device as they came, never serialised anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from ..errors import InvalidReferenceError, UsageError
from ..oci import Reference, parse_reference

MAX_BYTES = 16 << 20
_MAX_TEXT = 255
_MAX_FAULTS_SHOWN = 20
_DOCKER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_ENVIRONMENT_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_CONFIG_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[!#-&(-_a-~]+")
_ANY_NAME = re.compile(r".*", re.DOTALL)
_CLASSES = ("fleet", "app", "block")

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class Service:
    """One container to be: its place in the target state and the image it runs."""

    app_uuid: str
    app_name: str
    release_uuid: str
    name: str
    image: Reference


@dataclass(frozen=True, slots=True)
class AppsJson:
    """A checked apps.json; ``content`` is its exact bytes."""

    content: bytes
    services: tuple[Service, ...]
    pin_device: bool

    @property
    def images(self) -> tuple[Reference, ...]:
        """The images of all services, each once, in the order of the file."""
        return tuple(dict.fromkeys(service.image for service in self.services))


def read_apps_json(content: bytes, what: str) -> AppsJson:
    """Read and check a version 3 apps.json.

    Args:
        content: the file's bytes.
        what: how errors name the file.

    Raises:
        UsageError: it is too large, no JSON, of another version, or breaks the Supervisor's types; the faults are listed.
    """
    if len(content) > MAX_BYTES:
        raise UsageError(f"{what} has {len(content)} bytes; an apps.json of more than {MAX_BYTES} bytes is not taken")
    try:
        state: Json = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(f"{what} is not JSON: {error}") from error
    if isinstance(state, list):
        raise UsageError(
            f"{what} is an apps.json of version 1 (a list), which only Supervisors before 7 read; version 3 is needed"
        )
    if not isinstance(state, dict) or "apps" not in state:
        raise UsageError(f"{what} is no apps.json: expected an object with 'apps' and 'config' at the top")
    walk = _Walk()
    services = tuple(walk.services(state))
    if walk.faults:
        shown = "\n".join(f"  {fault}" for fault in walk.faults[:_MAX_FAULTS_SHOWN])
        more = len(walk.faults) - _MAX_FAULTS_SHOWN
        rest = f"\n  and {more} more" if more > 0 else ""
        raise UsageError(f"{what} would be passed over by the Supervisor:\n{shown}{rest}")
    return AppsJson(content, services, state.get("pinDevice") is True)


class _Walk:
    """Goes through the target state once, gathering services and faults."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def services(self, state: dict[str, Json]) -> Iterator[Service]:
        self._boolean(state, "pinDevice", "")
        self._texts(state.get("config") or {}, "config", _CONFIG_NAME)
        for uuid, app in self._objects(state.get("apps") or {}, "apps", _ANY_NAME):
            yield from self._app(uuid, app, f"apps.{uuid}")

    def _app(self, uuid: str, app: dict[str, Json], path: str) -> Iterator[Service]:
        self._identifier(app, "id", path)
        self._boolean(app, "is_host", path)
        name = self._short_text(app, "name", path)
        if "parent_app" in app:
            self._short_text(app, "parent_app", path)
        if (app.get("class") or "fleet") not in _CLASSES:
            self._fault(f"{path}.class", f"expected one of {', '.join(_CLASSES)}")
        releases = app.get("releases")
        if not isinstance(releases, dict) or not releases:
            hint = "; an app without releases but with services is version 2" if "services" in app else ""
            self._fault(f"{path}.releases", f"expected at least one release{hint}")
            return
        for release_uuid, release in self._objects(releases, f"{path}.releases", _ANY_NAME):
            release_path = f"{path}.releases.{release_uuid}"
            self._identifier(release, "id", release_path)
            for kind in ("volumes", "networks"):
                for _ in self._objects(release.get(kind) or {}, f"{release_path}.{kind}", _DOCKER_NAME):
                    pass
            services = self._objects(release.get("services") or {}, f"{release_path}.services", _DOCKER_NAME)
            for service_name, service in services:
                image = self._service(service, f"{release_path}.services.{service_name}")
                if image is not None:
                    yield Service(uuid, name, release_uuid, service_name, image)

    def _service(self, service: dict[str, Json], path: str) -> Reference | None:
        self._identifier(service, "id", path)
        self._identifier(service, "image_id", path)
        self._texts(service.get("environment"), f"{path}.environment", _ENVIRONMENT_NAME)
        self._texts(service.get("labels"), f"{path}.labels", _LABEL_NAME)
        if service.get("running") is not None:
            self._boolean(service, "running", path)
        for key in ("composition", "contract"):
            if key in service and not isinstance(service[key], dict):
                self._fault(f"{path}.{key}", "expected an object")
        image = self._short_text(service, "image", path)
        if not image:
            return None
        try:
            return parse_reference(image)
        except InvalidReferenceError as error:
            self._fault(f"{path}.image", str(error))
            return None

    def _objects(self, value: Json, path: str, names: re.Pattern[str]) -> Iterator[tuple[str, dict[str, Json]]]:
        if not isinstance(value, dict):
            self._fault(path, "expected an object")
            return
        for key, item in value.items():
            self._name(key, path, names)
            if isinstance(item, dict):
                yield key, item
            else:
                self._fault(f"{path}.{key[:80]}", "expected an object")

    def _texts(self, value: Json, path: str, names: re.Pattern[str]) -> None:
        if not isinstance(value, dict):
            self._fault(path, "expected an object whose values are texts")
            return
        for key, item in value.items():
            self._name(key, path, names)
            if not isinstance(item, str):
                self._fault(f"{path}.{key[:80]}", f"expected a text, found {_kind(item)}")

    def _name(self, key: str, path: str, names: re.Pattern[str]) -> None:
        if names.fullmatch(key) is None:
            self._fault(
                f"{path}.{key[:80]}", "the name is empty or holds a character that the Supervisor does not take"
            )
        elif _utf16_length(key) > _MAX_TEXT:
            self._fault(f"{path}.{key[:80]}…", f"the name has more than {_MAX_TEXT} characters")

    def _short_text(self, owner: dict[str, Json], key: str, path: str) -> str:
        value = owner.get(key)
        if isinstance(value, str) and value and _utf16_length(value) <= _MAX_TEXT:
            return value
        self._fault(f"{path}.{key}", f"expected a text of 1 to {_MAX_TEXT} characters")
        return ""

    def _identifier(self, owner: dict[str, Json], key: str, path: str) -> None:
        if not _is_identifier(owner.get(key)):
            self._fault(f"{path}.{key}", "expected a whole number that is not negative")

    def _boolean(self, owner: dict[str, Json], key: str, path: str) -> None:
        if key in owner and not isinstance(owner[key], bool):
            self._fault(f"{path}.{key}".lstrip("."), "expected true or false")

    def _fault(self, path: str, text: str) -> None:
        self.faults.append(f"{path}: {text}")


def _is_identifier(value: Json) -> bool:
    """``NumericIdentifier``: a number or its decimal text, whole and not negative."""
    match value:
        case bool():
            return False
        case int():
            return value >= 0
        case float():
            return value >= 0 and value.is_integer()
        case str():
            return value.isascii() and value.isdecimal()
        case _:
            return False


def _utf16_length(text: str) -> int:
    """Length as the Supervisor counts it, in UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _kind(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a text"
