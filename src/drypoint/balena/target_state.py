"""What the versions of apps.json have in common: services, and the checks that the Supervisor makes of names and values.

Source: balena-supervisor, src/types/basic.ts. A check is as strict as the Supervisor's own and no stricter, but for
identifiers written in odd ways (``"12.0"``), which nobody writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from ..errors import InvalidReferenceError
from ..oci import Reference, parse_reference

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = "dict[str, Json]"

DOCKER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
ENVIRONMENT_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
ANY_NAME = re.compile(r".*", re.DOTALL)
MAX_FAULTS_SHOWN = 20
_MAX_TEXT = 255
_MAX_IDENTIFIER = 10**21
"""From here on JavaScript writes a number with an exponent, which the Supervisor's check does not take."""
_SHOWN_KEY = 80


class Service(msgspec.Struct, frozen=True):
    """One container to be: its place in the target state and the image it runs.

    Attributes:
        app_uuid: of version 2, which has no uuids, the app's id.
    """

    app_uuid: str
    app_name: str
    release_uuid: str
    name: str
    image: Reference


class StateChecker:
    """Goes through a target state and notes what the Supervisor would not take, each fault by its JSON path.

    Of the faults the first :data:`MAX_FAULTS_SHOWN` are kept; ``fault_count`` counts all.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.fault_count = 0

    def fault(self, path: str, text: str) -> None:
        self.fault_count += 1
        if self.fault_count <= MAX_FAULTS_SHOWN:
            self.faults.append(f"{path}: {text}")

    def objects(
        self, value: Json, path: str, names: re.Pattern[str], *, or_lists: bool = False
    ) -> Iterator[tuple[str, JsonObject]]:
        """The members of *value*, which has to be an object of objects; *or_lists*: lists are taken too, but not given."""
        if not isinstance(value, dict):
            self.fault(path, f"expected an object, found {kind(value)}")
            return
        for key, item in value.items():
            self.name(key, path, names)
            if isinstance(item, dict):
                yield key, item
            elif not (or_lists and isinstance(item, list)):
                self.fault(at(path, key), f"expected an object, found {kind(item)}")

    def texts(self, value: Json, path: str, names: re.Pattern[str]) -> None:
        """*value* has to be an object whose values are texts."""
        if not isinstance(value, dict):
            self.fault(path, f"expected an object whose values are texts, found {kind(value)}")
            return
        for key, item in value.items():
            self.name(key, path, names)
            if not isinstance(item, str):
                self.fault(at(path, key), f"expected a text, found {kind(item)}")

    def name(self, key: str, path: str, names: re.Pattern[str]) -> None:
        if names.fullmatch(key) is None:
            self.fault(at(path, key), "the name is empty or holds a character that the Supervisor does not take")
        elif _utf16_length(key) > _MAX_TEXT:
            self.fault(at(path, key), f"the name has more than {_MAX_TEXT} characters")

    def short_text(self, owner: JsonObject, key: str, path: str) -> str:
        """The text *key* of *owner*; empty when it has a fault."""
        value = owner.get(key)
        if isinstance(value, str) and _utf16_length(value) <= _MAX_TEXT:
            return value
        self.fault(at(path, key), f"expected a text of at most {_MAX_TEXT} characters")
        return ""

    def identifier(self, owner: JsonObject, key: str, path: str) -> None:
        if not is_identifier(owner.get(key)):
            self.fault(at(path, key), "expected a whole number that is not negative")

    def boolean(self, owner: JsonObject, key: str, path: str) -> None:
        if key in owner and not isinstance(owner[key], bool):
            self.fault(at(path, key), "expected true or false")

    def object_if_there(self, owner: JsonObject, key: str, path: str, *, or_list: bool = False) -> None:
        value = owner.get(key)
        if key in owner and not isinstance(value, dict) and not (or_list and isinstance(value, list)):
            self.fault(at(path, key), f"expected an object, found {kind(value)}")

    def image(self, owner: JsonObject, path: str) -> Reference | None:
        """The image that a service runs, None when it is none."""
        text = self.short_text(owner, "image", path)
        try:
            return parse_reference(text) if text else None
        except InvalidReferenceError as error:
            self.fault(at(path, "image"), str(error))
            return None


def at(path: str, key: str) -> str:
    """The path of the member *key*; long keys are cut off."""
    shown = key if len(key) <= _SHOWN_KEY else key[:_SHOWN_KEY] + "…"
    return f"{path}.{shown}" if path else shown


def is_identifier(value: Json) -> bool:
    """``NumericIdentifier``: a number or its decimal text, whole and not negative."""
    match value:
        case bool():
            return False
        case int():
            return 0 <= value < _MAX_IDENTIFIER
        case float():
            return 0 <= value < _MAX_IDENTIFIER and value.is_integer()
        case str():
            return is_string_identifier(value)
        case _:
            return False


def is_string_identifier(text: str) -> bool:
    """``StringIdentifier``: the decimal text of a whole number that is not negative."""
    return text.isascii() and text.isdecimal() and len(text.lstrip("0")) <= 21


def kind(value: Json) -> str:
    """What *value* is, in words."""
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


def _utf16_length(text: str) -> int:
    """Length as the Supervisor counts it, in UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
