"""apps.json of version 2, which the Supervisors 7 to 12 read.

Format: balena-supervisor at v12.11.43, src/types/state.ts and src/types/basic.ts (``TargetApps``), and before 12.11.15
src/lib/validation.ts: apps by id, each with one release, its services by id with the composition's fields among their own.
Conversion by newer Supervisors: src/lib/legacy.ts, ``fromV2TargetApps``. Conversion by the API: open-balena-api,
src/features/device-state/routes/state-get-v2.ts: the composition first, overridden by the service's own fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..errors import UsageError
from ..oci import Reference
from .identifiers import Json, JsonObject, integer_of, is_canonical, is_identifier_text, is_whole
from .supervisor_rules import ANY_NAMES, DOCKER_NAMES, ENVIRONMENT_NAMES
from .target_state import MAX_TEXT, Service, StateChecker, at, is_truthy, kind

_SETTING = re.compile(r"(?:RESIN_|BALENA_)?HOST_(?:CONFIG|EXTLINUX|ODMDATA|SPLASH)_")
"""The prefix of names in config that the Supervisor keeps unchanged; it fills in its own settings itself."""


def is_version_2(state: JsonObject) -> bool:
    """Whether a Supervisor takes *state* for version 2: an app's key is a number."""
    apps = state.get("apps")
    return isinstance(apps, dict) and any(is_identifier_text(key) for key in apps)


def to_version_2(state: JsonObject) -> JsonObject:
    """The state of version 2 for *state*, a checked one of version 3. It shares no objects with *state*.

    Raises:
        UsageError: version 2 cannot express it: there is more than one app or release, or the app is not a fleet's.
    """
    apps = _object(state.get("apps"))
    if len(apps) > 1:
        names = ", ".join(str(_object(app).get("name"))[:80] for app in list(apps.values())[:5])
        raise UsageError(f"Supervisors before 13 run one app, but the target state has {len(apps)}: {names}")
    made: JsonObject = {}
    for app in map(_object, apps.values()):
        what = str(app.get("name"))[:80]
        if (app.get("class") or "fleet") != "fleet" or app.get("is_host"):
            raise UsageError(f"Supervisors before 13 only run the app of a fleet, and {what} is not one")
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
                f"two services of the release {commit[:80]} have the id {number}, which is their key in version 2"
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
    """A checked identifier as a key."""
    return str(integer_of(identifier))


class StateCheckerV2(StateChecker):
    """Checks a state of version 2 in one pass, collecting services and faults."""

    def services(self, state: JsonObject) -> Iterator[Service]:
        if "name" in state and "\n" in self.short_text(state, "name", ""):
            self.fault("name", "expected a text without line breaks")
        config = state.get("config")
        # The Supervisor ignores all other names.
        settings = (
            {key: value for key, value in config.items() if _SETTING.match(key)} if isinstance(config, dict) else {}
        )
        self.texts(settings, "config", ENVIRONMENT_NAMES)
        for key, app in self.objects(state.get("apps"), "apps", ANY_NAMES):
            path = at("apps", key)
            if not self._is_number(key) or not is_canonical(key) or key in ("0", "-0"):
                self.fault(path, "expected a number as the key, as version 2 has it, and not 0")
            yield from self._app(key, app, path)

    def _app(self, key: str, app: JsonObject, path: str) -> Iterator[Service]:
        self.members(app, path)
        name = self.short_text(app, "name", path)
        commit = app.get("commit", "")
        if self.rules.typed and "commit" in app:
            self.short_text(app, "commit", path)
        if "releaseId" in app and (self.rules.typed or app["releaseId"] is not None):
            self.identifier(app, "releaseId", path)
        self._volumes(app, path)
        services = self.or_default(app, "services") if self.rules.typed else _empty_list_as_object(app.get("services"))
        for number, service in self.objects(services, f"{path}.services", ANY_NAMES):
            service_path = at(f"{path}.services", number)
            if not self._is_number(number):
                self.fault(service_path, "expected a number as the key, as version 2 has it")
            elif not self.rules.typed and (float(number) == 0 or len(number) > MAX_TEXT):
                self.fault(service_path, "expected a number other than 0 as the key, of at most 255 digits")
            image = self._service(service, service_path)
            if image is not None:
                running = service.get("running") is not False
                commit_text = commit if isinstance(commit, str) else ""
                yield Service(key, name, commit_text, str(service.get("serviceName")), image, running)

    def _service(self, service: JsonObject, path: str) -> Reference | None:
        self.members(service, path)
        name = self.short_text(service, "serviceName", path)
        if self.rules.typed and isinstance(service.get("serviceName"), str):
            self.name(name, f"{path}.serviceName", DOCKER_NAMES)
        self.identifier(service, "imageId", path)
        for part, names in (("environment", ENVIRONMENT_NAMES), ("labels", self.rules.label_names)):
            value = service.get(part)
            value = value if self.rules.typed else _empty_list_as_object(value)
            self.labels_or_variables(value, f"{path}.{part}", names)
        if self.rules.typed:
            self.running(service, path)
        self.contract(service, path)
        if service.get("image") == "":
            self.fault(f"{path}.image", "there is no image of this name")
        return self.image(service, path)

    def _volumes(self, app: JsonObject, path: str) -> None:
        if self.rules.typed:
            for part in ("volumes", "networks"):
                for _ in self.objects(self.or_default(app, part), f"{path}.{part}", DOCKER_NAMES, or_lists=True):
                    pass
            return
        volumes = app.get("volumes")
        if isinstance(volumes, str) and volumes:
            self.fault(f"{path}.volumes", "expected an object, found a text")
        for key, volume in volumes.items() if isinstance(volumes, dict) else ():
            if is_truthy(volume) and not isinstance(volume, (dict, list)):
                self.fault(at(f"{path}.volumes", key), f"expected an object, found {kind(volume)}")

    def _is_number(self, key: str) -> bool:
        return is_identifier_text(key) if self.rules.typed else is_whole(key)


def _empty_list_as_object(value: Json) -> Json:
    return {} if value == [] else value
