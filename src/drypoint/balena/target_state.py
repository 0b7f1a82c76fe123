"""The common parts of all versions of apps.json: services, and the Supervisor's checks of names and values.

Source: balena-supervisor, src/types/basic.ts. Rules that depend on the Supervisor's version: :mod:`.supervisor_rules`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..errors import InvalidReferenceError
from ..oci import Reference, parse_reference
from .contract_rules import contract_faults
from .identifiers import Json, JsonObject, is_identifier, is_whole
from .supervisor_rules import Names, Rules

MAX_FAULTS_SHOWN = 20
MAX_TEXT = 255
_SHOWN_KEY = 80


class Service(msgspec.Struct, frozen=True):
    """A service: its place in the target state, and the image that it runs.

    Attributes:
        app_uuid: in version 2, which has no uuids, the app's id.
        running: whether the Supervisor starts the container, or only creates it.
    """

    app_uuid: str
    app_name: str
    release_uuid: str
    name: str
    image: Reference
    running: bool = True


class StateChecker:
    """Checks a target state by the Supervisor's rules and collects the faults by their JSON paths.

    The first :data:`MAX_FAULTS_SHOWN` faults are kept; ``fault_count`` counts all.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.faults: dict[str, str] = {}
        self.fault_count = 0

    def fault(self, path: str, text: str) -> None:
        self.fault_count += 1
        if len(self.faults) < MAX_FAULTS_SHOWN:
            self.faults.setdefault(path, text)

    def or_default(self, owner: JsonObject, key: str) -> Json:
        """The member *key*, or an empty object if it counts as missing."""
        value = owner.get(key)
        missing = value is None or (self.rules.empty_is_missing and _is_empty(value))
        return {} if missing else value

    def objects(
        self, value: Json, path: str, names: Names, *, or_lists: bool = False
    ) -> Iterator[tuple[str, JsonObject]]:
        """The members of *value*, which must be an object of objects; with *or_lists*, lists are valid too, but not yielded."""
        if not isinstance(value, dict):
            self.fault(path, f"expected an object, found {kind(value)}")
            return
        for key, item in value.items():
            self.name(key, path, names)
            if isinstance(item, dict):
                yield key, item
            elif not (or_lists and isinstance(item, list)):
                self.fault(at(path, key), f"expected an object, found {kind(item)}")

    def texts(self, value: Json, path: str, names: Names) -> None:
        """Check that *value* is an object whose values are texts."""
        if not isinstance(value, dict):
            self.fault(path, f"expected an object whose values are texts, found {kind(value)}")
            return
        for key, item in value.items():
            self.name(key, path, names)
            if not isinstance(item, str):
                self.fault(at(path, key), f"expected a text, found {kind(item)}")

    def labels_or_variables(self, value: Json, path: str, names: Names) -> None:
        """Like *texts*, for labels and variables, which the Supervisor compares with a container's."""
        self.texts(value, path, names)
        for key in self.rules.throws_on_names.intersection(value) if isinstance(value, dict) else ():
            self.fault(at(path, key), "the Supervisor fails on this name when it compares it with a container's")

    def name(self, key: str, path: str, names: Names) -> None:
        if names.pattern.fullmatch(key) is None:
            self.fault(at(path, key), f"the name may hold {names.allowed}" if key else "the name is empty")
        elif _utf16_length(key) > MAX_TEXT:
            self.fault(at(path, key), f"the name has more than {MAX_TEXT} characters")

    def short_text(self, owner: JsonObject, key: str, path: str) -> str:
        """The text *key* of *owner*; empty if it has a fault."""
        value = owner.get(key)
        if isinstance(value, str) and _utf16_length(value) <= MAX_TEXT:
            return value
        self.fault(at(path, key), f"expected a text of at most {MAX_TEXT} characters")
        return ""

    def identifier(self, owner: JsonObject, key: str, path: str) -> None:
        value = owner.get(key)
        if not (is_identifier(value) if self.rules.typed else is_whole(value)):
            self.fault(at(path, key), "expected a whole number that is not negative")

    def boolean(self, owner: JsonObject, key: str, path: str) -> None:
        if key in owner and not isinstance(owner[key], bool):
            self.fault(at(path, key), "expected true or false")

    def object_if_there(self, owner: JsonObject, key: str, path: str) -> None:
        if key in owner and not isinstance(owner[key], dict):
            self.fault(at(path, key), f"expected an object, found {kind(owner[key])}")

    def members(self, owner: JsonObject, path: str) -> None:
        """Check that no member of *owner*, an app or a service, has a name on which the Supervisor fails."""
        for key in self.rules.throws_on.intersection(owner):
            self.fault(at(path, key), "the Supervisor fails on a member of this name")

    def running(self, service: JsonObject, path: str) -> None:
        value = service.get("running")
        missing = value is None or (self.rules.empty_is_missing and _is_empty(value))
        if not missing and not isinstance(value, bool):
            self.fault(at(path, "running"), "expected true or false")

    def contract(self, service: JsonObject, path: str) -> None:
        rules = self.rules.contract
        if "contract" not in service or rules is None:
            return
        contract = service["contract"]
        if not self.rules.typed and (contract is None or _is_empty(contract)):
            return
        if not isinstance(contract, dict):
            self.fault(at(path, "contract"), f"expected an object, found {kind(contract)}")
            return
        for part, text in contract_faults(contract, rules):
            self.fault(at(at(path, "contract"), part), text)

    def image(self, owner: JsonObject, path: str) -> Reference | None:
        """The image of a service; None if it is not a reference."""
        text = self.short_text(owner, "image", path)
        try:
            return parse_reference(text) if text else None
        except InvalidReferenceError as error:
            self.fault(at(path, "image"), str(error))
            return None


def at(path: str, key: str) -> str:
    """The path of the member *key*; long keys are truncated."""
    shown = key if len(key) <= _SHOWN_KEY else key[:_SHOWN_KEY] + "…"
    return f"{path}.{shown}" if path else shown


def kind(value: Json) -> str:
    """The JSON type of *value* in words."""
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


def is_truthy(value: Json) -> bool:
    """Whether *value* is truthy in JavaScript."""
    return bool(value) or isinstance(value, (dict, list))


def _is_empty(value: Json) -> bool:
    """Whether *value* is false, 0 or an empty text: falsy in JavaScript, but not null."""
    return not value and not isinstance(value, (dict, list))


def _utf16_length(text: str) -> int:
    """The length in UTF-16 code units, as in JavaScript."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
