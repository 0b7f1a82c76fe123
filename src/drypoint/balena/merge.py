"""Merging target states: the apps of several fleets on one device.

The Supervisor runs any number of apps, but only one of class fleet (balena-supervisor, src/types/state.ts and
src/device-state/preload.ts: that one is pinned). There is one config for the device, and it is the fleet's: open-balena-api
(src/features/device-state/state-get-utils.ts, getConfig) takes it from the fleet that the device belongs to. A state that
was asked for by itself has one for every app, with RESIN_SUPERVISOR_POLL_INTERVAL in it at least.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..errors import UsageError
from .apps_json import AppsJson, parse_state, read_apps_json
from .identifiers import Json, JsonObject

_SHOWN = 10


def merge_apps_json(states: Sequence[tuple[str, AppsJson]]) -> AppsJson:
    """One apps.json with the apps and the config of all *states*; a single one stays the same, byte for byte.

    If values of config differ, those of the state with the app of class fleet are used.

    Args:
        states: each with its name for errors.

    Raises:
        UsageError: they contradict each other (an app in two of them, different values of config without a fleet to decide,
            different pinDevice), there is more than one app of class fleet, or one of them is of version 2, which has one app.
    """
    if not states:
        raise ValueError("nothing to merge")
    if len(states) == 1:
        return states[0][1]
    apps: dict[str, tuple[str, Json]] = {}
    config: dict[str, tuple[str, Json]] = {}
    conflicts: list[str] = []
    parsed = [(what, _parsed(what, one)) for what, one in states]
    decided: set[str] = set()
    # The fleet's first: the others are compared with it.
    for what, state in sorted(parsed, key=lambda one: not _has_fleet(one[1])):
        conflicts += [
            f"the app {uuid[:80]} is in {apps[uuid][0]} and in {what}, and they differ"
            for uuid in _add(apps, state, "apps", what)
        ]
        differing = _add(config, state, "config", what)
        conflicts += [
            f"config.{name[:80]} has one value in {config[name][0]} and another in {what}"
            for name in differing
            if name not in decided or _has_fleet(state)
        ]
        if _has_fleet(state):
            decided |= config.keys()
    pinned = {one.pin_device for _, one in states}
    if len(pinned) > 1:
        conflicts.append("some say pinDevice and some do not, but a device is pinned or it is not")
    fleets = [(what, app) for what, app in apps.values() if isinstance(app, dict) and _is_fleet(app)]
    if len(fleets) > 1:
        named = ", ".join(f"{str(app.get('name'))[:80]} ({what})" for what, app in fleets[:_SHOWN])
        conflicts.append(
            f"a device belongs to one fleet, but {len(fleets)} apps are of class fleet: {named}; the others must be of "
            "class app or block"
        )
    if conflicts:
        shown = "\n".join(f"  {text}" for text in conflicts[:_SHOWN])
        rest = f"\n  and {len(conflicts) - _SHOWN} more" if len(conflicts) > _SHOWN else ""
        raise UsageError(f"these target states cannot be merged:\n{shown}{rest}")
    whole: JsonObject = {
        "apps": {uuid: app for uuid, (_, app) in apps.items()},
        "config": {name: value for name, (_, value) in config.items()},
        "pinDevice": pinned == {True},
    }
    return read_apps_json(msgspec.json.encode(whole, order="sorted"), "the merged apps.json")


def _parsed(what: str, one: AppsJson) -> JsonObject:
    if one.version == 2:
        raise UsageError(
            f"{what} is of version 2, which holds the only app of a device: it cannot be merged with others"
        )
    return parse_state(one.content, what)


def _has_fleet(state: JsonObject) -> bool:
    apps = state.get("apps")
    return isinstance(apps, dict) and any(isinstance(app, dict) and _is_fleet(app) for app in apps.values())


def _is_fleet(app: JsonObject) -> bool:
    return (app.get("class") or "fleet") == "fleet"


def _add(known: dict[str, tuple[str, Json]], state: JsonObject, part: str, what: str) -> list[str]:
    """Add the members of *part* of *state* to *known*; returns the keys that exist already with another value."""
    values = state.get(part)
    differing = []
    for key, value in values.items() if isinstance(values, dict) else ():
        if known.setdefault(key, (what, value))[1] != value:
            differing.append(key)
    return differing
