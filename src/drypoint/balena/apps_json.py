"""apps.json: the target state that the balena Supervisor reads at first boot.

Format: version 3, by the Supervisor's own types (balena-supervisor, src/types/state.ts, ``AppsJsonFormat``, and
src/types/basic.ts); version 2, see :mod:`.apps_json_v2`; changes between Supervisors, see :mod:`.supervisor_rules`. The
Supervisor silently ignores the whole file if one field is wrong; so each field is checked here, and every fault is named by
its JSON path. The bytes are written to the device as they came, never serialised again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Literal, TypeAlias

import msgspec

from ..errors import UsageError
from ..oci import Reference
from .apps_json_v2 import StateCheckerV2, is_version_2
from .identifiers import Json, JsonObject, begins_with_number, is_identifier, is_small, is_zero
from .supervisor_rules import (
    ANY_NAMES,
    DOCKER_NAMES,
    ENVIRONMENT_NAMES,
    FIRST_OF_VERSION_2,
    FIRST_OF_VERSION_3,
    rules_of,
    versions_with_changes,
)
from .supervisor_version import SupervisorVersion
from .target_state import Service, StateChecker, at, is_truthy

MAX_BYTES = 16 << 20
_CLASSES = ("fleet", "app", "block")
_PROTOTYPE = "__proto__"
"""A key that JavaScript does not list after a copy."""

AppsJsonVersion: TypeAlias = Literal[2, 3]
ONLY_2: Collection[AppsJsonVersion] = frozenset((2,))
ONLY_3: Collection[AppsJsonVersion] = frozenset((3,))
LATEST_OF: dict[AppsJsonVersion, SupervisorVersion] = {
    2: SupervisorVersion(12, 11, 43),
    3: versions_with_changes(since=FIRST_OF_VERSION_3)[-1],
}
"""A Supervisor with the newest rules, by the version of apps.json that it reads without a conversion."""
ANY_VERSION: Collection[AppsJsonVersion] = frozenset((2, 3))


class AppsJson(msgspec.Struct, frozen=True):
    """A checked apps.json; ``content`` is its exact bytes.

    Attributes:
        version: of the format: 3 for Supervisor 13 and later, 2 for 7 to 12.
    """

    content: bytes
    services: tuple[Service, ...]
    pin_device: bool
    version: AppsJsonVersion = 3

    @property
    def images(self) -> tuple[Reference, ...]:
        """The distinct images of all services, in the order of the file."""
        return tuple(dict.fromkeys(service.image for service in self.services))


def read_apps_json(content: bytes, what: str, versions: Collection[AppsJsonVersion] = ONLY_3) -> AppsJson:
    """Read an apps.json that some Supervisor accepts; :func:`.fit` checks it for one Supervisor.

    Args:
        content: the file's bytes.
        what: the file's name in errors.
        versions: the versions to accept.

    Raises:
        UsageError: it is too large, not JSON, of another version, or no Supervisor accepts it; the faults are listed.
    """
    state = parse_state(content, what)
    version: AppsJsonVersion = 2 if is_version_2(state) else 3
    if version not in versions:
        wanted = " or ".join(str(one) for one in sorted(versions))
        readers = "Supervisors before 13" if version == 2 else "Supervisors from 13 on"
        raise UsageError(f"{what} is an apps.json of version {version}, for {readers}; version {wanted} is needed")
    found = check_state(state, version, LATEST_OF[version])
    if found.faults:
        taken = next((one for one in _checks(state, version) if not one.faults), None)
        if taken is None:
            raise UsageError(f"the Supervisor would ignore {what}:\n{listed(found)}")
        found = taken
    return AppsJson(content, found.services, is_truthy(state.get("pinDevice")), version)


class Checked(msgspec.Struct, frozen=True):
    """The result of checking a target state.

    Attributes:
        faults: the expected value by the JSON path of each fault; the first ones of *fault_count*.
    """

    services: tuple[Service, ...]
    faults: dict[str, str]
    fault_count: int


def check_state(state: JsonObject, version: AppsJsonVersion, supervisor: SupervisorVersion) -> Checked:
    """Check *state*, of *version*, by the rules of *supervisor*."""
    rules = rules_of(supervisor)
    walk = StateCheckerV2(rules) if version == 2 else _StateCheckerV3(rules)
    services = tuple(walk.services(state))
    return Checked(services, walk.faults, walk.fault_count)


def first_to_take(state: JsonObject, version: AppsJsonVersion, after: SupervisorVersion) -> SupervisorVersion | None:
    """The first Supervisor after *after* that accepts *state* as it is; None if none does."""
    for supervisor in _readers(version):
        if supervisor > after and not check_state(state, version, supervisor).faults:
            return supervisor
    return None


def listed(checked: Checked) -> str:
    """The faults, one a line."""
    shown = "\n".join(f"  {path}: {text}" for path, text in checked.faults.items())
    more = checked.fault_count - len(checked.faults)
    return shown + (f"\n  and {more} more" if more > 0 else "")


def _checks(state: JsonObject, version: AppsJsonVersion) -> Iterator[Checked]:
    return (check_state(state, version, supervisor) for supervisor in _readers(version))


def _readers(version: AppsJsonVersion) -> tuple[SupervisorVersion, ...]:
    """The first of each range of equal rules among those that read *version* as it is, oldest first."""
    if version == 3:
        return versions_with_changes(since=FIRST_OF_VERSION_3)
    return tuple(one for one in versions_with_changes(since=FIRST_OF_VERSION_2) if one.numbers < FIRST_OF_VERSION_3)


def parse_state(content: bytes, what: str) -> JsonObject:
    """The object in an apps.json of version 2 or 3; only the presence of apps is checked.

    Raises:
        UsageError: it is too large, or not an apps.json of these versions.
    """
    if len(content) > MAX_BYTES:
        raise UsageError(f"{what} has more than {MAX_BYTES} bytes, too many for an apps.json")
    try:
        state: Json = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(f"{what} is not JSON: {error}") from error
    if isinstance(state, list):
        raise UsageError(
            f"{what} is an apps.json of version 1 (a list), which only Supervisors before 7 read; version 3 is needed"
        )
    if not isinstance(state, dict) or "apps" not in state:
        hint = ""
        if isinstance(state, dict) and len(state) == 1 and isinstance(inner := next(iter(state.values())), dict):
            # The unchanged answer of the API.
            hint = "; what is under its only key may be one" if "apps" in inner else ""
        raise UsageError(f"{what} is not an apps.json: expected an object with 'apps' and 'config' at the top{hint}")
    return state


class _StateCheckerV3(StateChecker):
    """Checks a state of version 3 in one pass, collecting services and faults."""

    def services(self, state: JsonObject) -> Iterator[Service]:
        self.boolean(state, "pinDevice", "")
        self.members(state, "")
        config, apps = self.or_default(state, "config"), self.or_default(state, "apps")
        self.texts(config, "config", self.rules.config_names)
        if apps == {} and config == {}:
            self.fault("apps", "there is neither an app nor configuration")
        for uuid, app in self.objects(apps, "apps", ANY_NAMES):
            path = at("apps", uuid)
            if uuid == _PROTOTYPE:
                self.fault(path, "JavaScript loses a member of this name")
            if self.rules.digit_is_number and begins_with_number(uuid):
                self.fault(path, "it begins with a number, so the Supervisor takes the file for one of version 2")
            yield from self._app(uuid, app, path)

    def _app(self, uuid: str, app: JsonObject, path: str) -> Iterator[Service]:
        self.members(app, path)
        self._identifier(app, "id", path)
        if is_zero(app.get("id")):
            self.fault(at(path, "id"), "0 is not an id that an app can have")
        self.boolean(app, "is_host", path)
        name = self.short_text(app, "name", path)
        if "parent_app" in app:
            self.short_text(app, "parent_app", path)
        kind = self.or_default(app, "class")
        if kind not in _CLASSES and (kind != {} or app.get("class") == {}):
            self.fault(f"{path}.class", f"expected one of {', '.join(_CLASSES)}")
        releases = self.or_default(app, "releases")
        if not isinstance(releases, dict) or not releases.keys() - {_PROTOTYPE}:
            self.fault(f"{path}.releases", "expected at least one release")
            return
        for release_uuid, release in self.objects(releases, f"{path}.releases", ANY_NAMES):
            for key, image, running in self._release(release, at(f"{path}.releases", release_uuid)):
                yield Service(uuid, name, release_uuid, key, image, running)

    def _release(self, release: JsonObject, path: str) -> Iterator[tuple[str, Reference, bool]]:
        self._identifier(release, "id", path)
        for part in ("volumes", "networks"):
            for _ in self.objects(self.or_default(release, part), f"{path}.{part}", DOCKER_NAMES, or_lists=True):
                pass
        for key, service in self.objects(self.or_default(release, "services"), f"{path}.services", DOCKER_NAMES):
            image = self._service(service, at(f"{path}.services", key))
            if image is not None:
                yield key, image, service.get("running") is not False

    def _service(self, service: JsonObject, path: str) -> Reference | None:
        self.members(service, path)
        self._identifier(service, "id", path)
        self._identifier(service, "image_id", path)
        self.labels_or_variables(service.get("environment"), f"{path}.environment", ENVIRONMENT_NAMES)
        self.labels_or_variables(service.get("labels"), f"{path}.labels", self.rules.label_names)
        self.running(service, path)
        self.object_if_there(service, "composition", path)
        self.contract(service, path)
        if service.get("image") == "":
            self.fault(f"{path}.image", "there is no image of this name")
        return self.image(service, path)

    def _identifier(self, owner: JsonObject, key: str, path: str) -> None:
        self.identifier(owner, key, path)
        if is_identifier(value := owner.get(key)) and not is_small(value):
            self.fault(at(path, key), "the number is too large")
