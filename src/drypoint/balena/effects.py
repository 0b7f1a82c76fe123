"""Warnings for an apps.json that a Supervisor accepts, but handles differently than the file suggests.

Sources: balena-supervisor, src/device-state/preload.ts (which release and app it uses), src/types/state.ts (from 12.11.15
to 14.0.20 ``false`` is replaced by the default), src/device-state/db-format.ts (apps by id), and deep-object-diff, which
compares a service with its container.
"""

from __future__ import annotations

from collections.abc import Iterator

from .apps_json import AppsJson, parse_state
from .identifiers import Json, JsonObject, first_key, number_of
from .requirements import consequence, open_requirements
from .supervisor_version import SupervisorVersion

_STARTS_ALL = ((12, 11, 15), (14, 0, 21))
_STUCK_ON_OWN_PROPERTY = ((15, 0, 0), (17, 1, 7))
_OWN_PROPERTY = "hasOwnProperty"
_SHOWN = 80
_SHOWN_SERVICES = 5


def effects(apps: AppsJson, supervisor: SupervisorVersion) -> tuple[str, ...]:
    """Warnings for *apps*, which *supervisor* accepts; a sentence each."""
    state = parse_state(apps.content, "apps.json")
    found = _objects(state, "apps")
    return (
        *_of_requirements(state, supervisor),
        *(_of_releases(found) if apps.version == 3 else ()),
        *_of_ids(found),
        *_of_services(found, supervisor),
        *(_of_pinning(found, apps.version) if apps.pin_device else ()),
    )


def starts_all(supervisor: SupervisorVersion) -> bool:
    """Whether *supervisor* also starts services whose ``running`` is false."""
    return _STARTS_ALL[0] <= supervisor.numbers < _STARTS_ALL[1]


def _of_releases(apps: dict[str, JsonObject]) -> Iterator[str]:
    for app in apps.values():
        releases = _objects(app, "releases")
        if len(releases) > 1:
            first = first_key({**releases})
            yield f"{_name(app)} has {len(releases)} releases in apps.json, of which the Supervisor runs {first[:_SHOWN]} only"


def _of_ids(apps: dict[str, JsonObject]) -> Iterator[str]:
    by_id: dict[float, list[JsonObject]] = {}
    for app in apps.values():
        by_id.setdefault(number_of(app.get("id")), []).append(app)
    for number, same in by_id.items():
        if len(same) > 1:
            names = ", ".join(map(_name, same))
            yield f"the apps {names} have the id {number:.0f}, so that the Supervisor runs one of them only"


def _of_services(apps: dict[str, JsonObject], supervisor: SupervisorVersion) -> Iterator[str]:
    stopped: list[str] = []
    stuck: list[str] = []
    for app in apps.values():
        for release in (app, *_objects(app, "releases").values()):
            for key, service in _objects(release, "services").items():
                name = f"{_name(app)}/{str(service.get('serviceName', key))[:_SHOWN]}"
                if _running(service) is False:
                    stopped.append(name)
                if any(_OWN_PROPERTY in _members(service, part) for part in ("environment", "labels")):
                    stuck.append(name)
    if stopped:
        does = (
            f"the Supervisor {supervisor} starts it all the same"
            if starts_all(supervisor)
            else "its container is made, but not started"
        )
        yield f"{_listed(stopped)}: running is false, and {does}"
    if stuck and _STUCK_ON_OWN_PROPERTY[0] <= supervisor.numbers < _STUCK_ON_OWN_PROPERTY[1]:
        yield (
            f"{_listed(stuck)}: a label or variable is called {_OWN_PROPERTY}; the Supervisor {supervisor} fails on it as soon "
            "as the service changes, and makes no update then"
        )


def _of_requirements(state: JsonObject, supervisor: SupervisorVersion) -> Iterator[str]:
    undecided: dict[str, list[str]] = {}
    for one in open_requirements(state, supervisor):
        if one.met is False:
            yield f"{one.service} requires {one.text}, so that the Supervisor {supervisor} does not run it (it is optional)"
            continue
        without = "does not run it (it is optional)" if one.optional else consequence(supervisor)
        text = f"it is not known whether the device has {one.text}, as the contract requires; if not, the Supervisor {without}"
        undecided.setdefault(text, []).append(one.service)
    for text, services in undecided.items():
        yield f"{_listed(services)}: {text}"


def _of_pinning(apps: dict[str, JsonObject], version: int) -> Iterator[str]:
    if version == 2:
        if len(apps) > 1:
            yield f"of {len(apps)} apps in apps.json, the Supervisor pins the last one: {_name(list(apps.values())[-1])}"
        return
    fleets = [app for app in apps.values() if (app.get("class") or "fleet") == "fleet"]
    # For none, first_boot.pinning_warning warns.
    if len(fleets) > 1:
        yield f"of {len(fleets)} apps of class fleet in apps.json, the Supervisor pins the first one: {_name(fleets[0])}"


def _running(service: JsonObject) -> Json:
    own = service.get("running")
    return own if own is not None else _members(service, "composition").get("running")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_SERVICES} more" if len(names) > _SHOWN_SERVICES else ""
    return ", ".join(names[:_SHOWN_SERVICES]) + more


def _name(app: JsonObject) -> str:
    return str(app.get("name"))[:_SHOWN]


def _objects(owner: JsonObject, key: str) -> dict[str, JsonObject]:
    return {name: item for name, item in _members(owner, key).items() if isinstance(item, dict)}


def _members(owner: JsonObject, key: str) -> JsonObject:
    value = owner.get(key)
    return value if isinstance(value, dict) else {}
