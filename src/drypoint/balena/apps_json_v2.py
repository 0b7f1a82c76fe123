"""apps.json of version 2: what the Supervisors 7 to 12 read.

Format: balena-supervisor at v12.11.43, src/types/state.ts and src/types/basic.ts (``TargetApps``), and at v7.0.0,
src/lib/validation.coffee, which asks for the same where both look: apps by id, each with one release, its services by id
with the composition's fields among their own; config names without a colon, and label names that are letters, digits, dots
and dashes, a letter first. What newer Supervisors make of it: src/lib/legacy.ts, ``fromV2TargetApps``. What the API makes of
a release: open-balena-api, src/features/device-state/routes/state-get-v2.ts: composition first, the service's own fields
over it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..errors import UsageError
from ..oci import Reference
from .target_state import (
    DOCKER_NAME,
    ENVIRONMENT_NAME,
    Json,
    JsonObject,
    Service,
    StateChecker,
    at,
    is_identifier,
    is_string_identifier,
)

_LABEL_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9.-]*")


def is_version_2(state: JsonObject) -> bool:
    """Whether a Supervisor takes *state* for one of version 2: an app is keyed by a number."""
    apps = state.get("apps")
    return isinstance(apps, dict) and any(is_string_identifier(key) for key in apps)


def to_version_2(state: JsonObject) -> JsonObject:
    """The state of version 2 for *state*, a checked one of version 3. Nothing of *state* is shared with it but its leaves.

    Raises:
        UsageError: version 2 has no words for it: it holds more than one app or one release, or an app that is no fleet's.
    """
    apps = _object(state.get("apps"))
    if len(apps) > 1:
        names = ", ".join(str(_object(app).get("name"))[:80] for app in list(apps.values())[:5])
        raise UsageError(f"Supervisors before 13 run one app, but the target state has {len(apps)}: {names}")
    made: JsonObject = {}
    for app in map(_object, apps.values()):
        what = str(app.get("name"))[:80]
        if (app.get("class") or "fleet") != "fleet" or app.get("is_host"):
            raise UsageError(f"Supervisors before 13 run the app of a fleet only, and {what} is none")
        releases = _object(app.get("releases"))
        if len(releases) != 1:
            raise UsageError(f"Supervisors before 13 run one release of an app, but {what} has {len(releases)}")
        made[_decimal(app.get("id"))] = _app(app, *next(iter(releases.items())))
    config = _object(state.get("config"))
    return {"apps": made, "config": dict(config), "pinDevice": state.get("pinDevice") is True}


def _app(app: JsonObject, commit: str, release: Json) -> JsonObject:
    content = _object(release)
    services: JsonObject = {}
    for name, service in _object(content.get("services")).items():
        number = _decimal(_object(service).get("id"))
        if number in services:
            raise UsageError(
                f"two services of the release {commit[:80]} have the id {number}, by which version 2 keys them"
            )
        services[number] = _service(name, _object(service))
    return {
        "name": app.get("name"),
        "commit": commit,
        "releaseId": content.get("id"),
        "services": services,
        "volumes": dict(_object(content.get("volumes"))),
        "networks": dict(_object(content.get("networks"))),
    }


def _service(name: str, service: JsonObject) -> JsonObject:
    own: JsonObject = {
        "serviceName": name,
        "imageId": service.get("image_id"),
        "image": service.get("image"),
        "running": service.get("running") is not False,
        "environment": dict(_object(service.get("environment"))),
        "labels": dict(_object(service.get("labels"))),
    }
    if "contract" in service:
        own["contract"] = service["contract"]
    return {**_object(service.get("composition")), **own}


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _decimal(identifier: Json) -> str:
    """An identifier, a checked one, as a key."""
    return str(int(identifier)) if isinstance(identifier, (int, float, str)) else ""


class StateCheckerV2(StateChecker):
    """Goes through a state of version 2 once, gathering services and faults."""

    def services(self, state: JsonObject) -> Iterator[Service]:
        self.boolean(state, "pinDevice", "")
        self.texts(state.get("config"), "config", ENVIRONMENT_NAME)
        for key, app in self._by_identifier(state.get("apps"), "apps"):
            yield from self._app(key, app, at("apps", key))

    def _app(self, key: str, app: JsonObject, path: str) -> Iterator[Service]:
        name = self.short_text(app, "name", path)
        commit = self.short_text(app, "commit", path)
        self.identifier(app, "releaseId", path)
        for part in ("volumes", "networks"):
            # Those before 12.11.15 take the member for granted.
            for _ in self.objects(app.get(part) or {}, f"{path}.{part}", DOCKER_NAME, or_lists=True):
                pass
        for number, service in self._by_identifier(app.get("services"), f"{path}.services"):
            service_path = at(f"{path}.services", number)
            image = self._service(service, service_path)
            if number.strip("0") == "":
                self.fault(service_path, "0 is no service's id to older Supervisors")
            if image is not None:
                yield Service(key, name, commit, str(service.get("serviceName")), image)

    def _service(self, service: JsonObject, path: str) -> Reference | None:
        name = self.short_text(service, "serviceName", path)
        if isinstance(service.get("serviceName"), str) and DOCKER_NAME.fullmatch(name) is None:
            self.fault(
                f"{path}.serviceName", "expected the name of a service: letters, digits, dots, dashes, underscores"
            )
        if not is_identifier(service.get("imageId")):
            self.fault(f"{path}.imageId", "expected a whole number that is not negative")
        self.texts(service.get("environment"), f"{path}.environment", ENVIRONMENT_NAME)
        self.texts(service.get("labels"), f"{path}.labels", _LABEL_NAME)
        if service.get("running") is not None:
            self.boolean(service, "running", path)
        self.object_if_there(service, "contract", path)
        if service.get("image") == "":
            self.fault(f"{path}.image", "there is no image of this name")
        return self.image(service, path)

    def _by_identifier(self, value: Json, path: str) -> Iterator[tuple[str, JsonObject]]:
        for key, item in self.objects(value, path, re.compile(r".+", re.DOTALL)):
            if is_string_identifier(key):
                yield key, item
            else:
                self.fault(at(path, key), "expected a number as the key, as version 2 has it")
