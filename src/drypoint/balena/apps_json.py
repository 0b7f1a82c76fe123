"""apps.json: the target state that the balena Supervisor reads at first boot.

Format: version 3, as the Supervisor's own types have it (balena-supervisor, src/types/state.ts, ``AppsJsonFormat``, and
src/types/basic.ts); version 2, see :mod:`.apps_json_v2`. The Supervisor passes over the whole file, in silence, when one field
is wrong; so each field is checked here, and every fault is named by its JSON path. Bytes are written to the device as they
came, never serialised anew.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Literal, TypeAlias

import msgspec

from ..errors import UsageError
from ..oci import Reference
from .apps_json_v2 import StateCheckerV2, is_version_2
from .target_state import ANY_NAME, DOCKER_NAME, ENVIRONMENT_NAME, Json, JsonObject, Service, StateChecker, at

MAX_BYTES = 16 << 20
_CONFIG_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[!#-&(-_a-~]+")
_CLASSES = ("fleet", "app", "block")

AppsJsonVersion: TypeAlias = Literal[2, 3]
ONLY_2: Collection[AppsJsonVersion] = frozenset((2,))
ONLY_3: Collection[AppsJsonVersion] = frozenset((3,))
ANY_VERSION: Collection[AppsJsonVersion] = frozenset((2, 3))


class AppsJson(msgspec.Struct, frozen=True):
    """A checked apps.json; ``content`` is its exact bytes.

    Attributes:
        version: of the format: 3 for Supervisors from 13 on, 2 for 7 to 12.
    """

    content: bytes
    services: tuple[Service, ...]
    pin_device: bool
    version: AppsJsonVersion = 3

    @property
    def images(self) -> tuple[Reference, ...]:
        """The images of all services, each once, in the order of the file."""
        return tuple(dict.fromkeys(service.image for service in self.services))


def read_apps_json(content: bytes, what: str, versions: Collection[AppsJsonVersion] = ONLY_3) -> AppsJson:
    """Read and check an apps.json.

    Args:
        content: the file's bytes.
        what: how errors name the file.
        versions: those that are taken.

    Raises:
        UsageError: it is too large, no JSON, of another version, or breaks the Supervisor's types; the faults are listed.
    """
    state = parse_state(content, what)
    version: AppsJsonVersion = 2 if is_version_2(state) else 3
    if version not in versions:
        wanted = " or ".join(str(one) for one in sorted(versions))
        readers = "Supervisors before 13" if version == 2 else "Supervisors from 13 on"
        raise UsageError(
            f"{what} is an apps.json of version {version}, which is for {readers}; version {wanted} is needed"
        )
    walk = StateCheckerV2() if version == 2 else _StateCheckerV3()
    services = tuple(walk.services(state))
    if walk.fault_count:
        shown = "\n".join(f"  {fault}" for fault in walk.faults)
        more = walk.fault_count - len(walk.faults)
        rest = f"\n  and {more} more" if more > 0 else ""
        raise UsageError(f"{what} would be passed over by the Supervisor:\n{shown}{rest}")
    return AppsJson(content, services, state.get("pinDevice") is True, version)


def parse_state(content: bytes, what: str) -> JsonObject:
    """The object in an apps.json of version 2 or 3, unchecked but for its having apps.

    Raises:
        UsageError: it is too large, or something else.
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
            # The answer of the API, as it is.
            hint = "; what is under its only key may be one" if "apps" in inner else ""
        raise UsageError(f"{what} is no apps.json: expected an object with 'apps' and 'config' at the top{hint}")
    return state


class _StateCheckerV3(StateChecker):
    """Goes through a state of version 3 once, gathering services and faults."""

    def services(self, state: JsonObject) -> Iterator[Service]:
        self.boolean(state, "pinDevice", "")
        self.texts(_or_empty(state, "config"), "config", _CONFIG_NAME)
        for uuid, app in self.objects(_or_empty(state, "apps"), "apps", ANY_NAME):
            yield from self._app(uuid, app, at("apps", uuid))

    def _app(self, uuid: str, app: JsonObject, path: str) -> Iterator[Service]:
        self.identifier(app, "id", path)
        self.boolean(app, "is_host", path)
        name = self.short_text(app, "name", path)
        if "parent_app" in app:
            self.short_text(app, "parent_app", path)
        if app.get("class") not in (None, *_CLASSES):
            self.fault(f"{path}.class", f"expected one of {', '.join(_CLASSES)}")
        releases = app.get("releases")
        if not isinstance(releases, dict) or not releases:
            self.fault(f"{path}.releases", "expected at least one release")
            return
        for release_uuid, release in self.objects(releases, f"{path}.releases", ANY_NAME):
            release_path = at(f"{path}.releases", release_uuid)
            self.identifier(release, "id", release_path)
            for part in ("volumes", "networks"):
                for _ in self.objects(_or_empty(release, part), f"{release_path}.{part}", DOCKER_NAME, or_lists=True):
                    pass
            for key, service in self.objects(_or_empty(release, "services"), f"{release_path}.services", DOCKER_NAME):
                image = self._service(service, at(f"{release_path}.services", key))
                if image is not None:
                    yield Service(uuid, name, release_uuid, key, image)

    def _service(self, service: JsonObject, path: str) -> Reference | None:
        self.identifier(service, "id", path)
        self.identifier(service, "image_id", path)
        self.texts(service.get("environment"), f"{path}.environment", ENVIRONMENT_NAME)
        self.texts(service.get("labels"), f"{path}.labels", _LABEL_NAME)
        if service.get("running") is not None:
            self.boolean(service, "running", path)
        self.object_if_there(service, "composition", path)
        self.object_if_there(service, "contract", path, or_list=True)
        if service.get("image") == "":
            self.fault(f"{path}.image", "there is no image of this name")
        return self.image(service, path)


def _or_empty(owner: JsonObject, key: str) -> Json:
    """The Supervisor's ``withDefault``: what is missing or null is empty."""
    value = owner.get(key)
    return {} if value is None else value
