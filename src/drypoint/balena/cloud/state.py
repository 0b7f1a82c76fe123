"""Target states from the server, and apps.json made from them.

Source: open-balena-api, ``src/features/device-state``. ``GET /device/v3/fleet/<fleet uuid>/state?releaseUuid=<commit>`` answers
``{"<fleet uuid>": {"name", "apps", "config"}}``, from version 7.13.1 on (7.13.0 mixed up releases); the status is 401
for a fleet or release that the login may not read, and without a login. ``GET /device/v3/<device uuid>/state`` answers the same
with the device's uuid as key; the status is 304 for a device that is deleted, never existed, or is frozen.
"""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import quote

import msgspec

from ...errors import AuthenticationError, SourceError
from ..apps_json import AppsJson, read_apps_json
from ..identifiers import Json
from .client import CloudClient
from .fleet import Device, Fleet

FLEET_STATE_SINCE = "7.13.1"
"""The first version of open-balena-api with target states of fleets for devices to come."""
_Object: TypeAlias = "dict[str, Json]"
_UNKNOWN = frozenset((401, 404))
_UNKNOWN_DEVICE = frozenset((304, 401, 404))


def fleet_state(client: CloudClient, fleet: Fleet, commit: str) -> _Object:
    """The target state, apps and config, for a new device of *fleet* if the fleet runs the release *commit*.

    Raises:
        AuthenticationError: the login may not read it.
        SourceError: the server is too old, or cannot be reached.
    """
    path = f"/device/v3/fleet/{quote(fleet.uuid, safe='')}/state"
    answer = client.get(path, [("releaseUuid", commit)], expected=_UNKNOWN)
    if answer.status == 401:
        client.check_login()
        raise AuthenticationError(
            f"{client.settings.host} does not give the target state of {fleet.slug} at release {commit}: the login has no "
            "permission to read it, or the release was just deleted"
        )
    if answer.status == 404:
        raise _too_old(client, "a fleet")
    return _state_of(client, client.read(answer, dict[str, msgspec.Raw], path), fleet.uuid, path)


def device_state(client: CloudClient, device: Device) -> _Object:
    """The target state of the registered *device*: the app of its fleet, and its config.

    Releases of the host OS and of the Supervisor, which a server may add, are left out: the device has both, and gets newer
    ones itself. The Supervisor needs all images of apps.json, so their images would have to be preloaded too. Every app that
    is not the device's fleet counts as such: on a private server, their class may be any.

    Raises:
        AuthenticationError: the login may not read it.
        SourceError: the device is deleted, its fleet has no release, the server is too old, or cannot be reached.
    """
    path = f"/device/v3/{quote(device.uuid, safe='')}/state"
    answer = client.get(path, expected=_UNKNOWN_DEVICE)
    if answer.status == 401:
        client.check_login()
        raise AuthenticationError(
            f"{client.settings.host} does not give the target state of the device {device.uuid}: the login has no permission"
        )
    if answer.status == 304:
        raise SourceError(
            f"{client.settings.host} gives no target state for the device {device.uuid}: it is frozen, or was deleted"
        )
    if answer.status == 404:
        raise _too_old(client, "a device")
    state = _state_of(client, client.read(answer, dict[str, msgspec.Raw], path), device.uuid, path)
    apps = state.get("apps")
    own = apps.get(device.fleet.uuid) if isinstance(apps, dict) else None
    if not isinstance(own, dict):
        raise SourceError(
            f"{client.settings.host}{path} answers with a state that lacks the app of the device's fleet, {device.fleet.slug}"
        )
    if not own.get("releases"):
        raise SourceError(
            f"the device {device.uuid} belongs to the fleet {device.fleet.slug}, which has no release to run, so there is "
            f"nothing to preload; make one with 'balena push {device.fleet.slug}'"
        )
    return {**state, "apps": {device.fleet.uuid: own}}


def make_apps_json(state: _Object, what: str, *, pin_device: bool = False) -> AppsJson:
    """The apps.json for *state*: its apps and config; with *pin_device* the device stays at that release.

    The same state gives the same bytes, whatever the order of the server's answer.

    Raises:
        UsageError: the Supervisor would not accept it; the faults are listed.
    """
    whole = {"apps": state.get("apps"), "config": state.get("config"), "pinDevice": pin_device}
    return read_apps_json(msgspec.json.encode(whole, order="sorted"), what)


def _state_of(client: CloudClient, answer: dict[str, msgspec.Raw], uuid: str, path: str) -> _Object:
    if uuid not in answer:
        raise SourceError(f"{client.settings.host}{path} answers with the state of another fleet or device")
    try:
        state: Json = msgspec.json.decode(answer[uuid])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise SourceError(f"{client.settings.host}{path} answers with a state that is not well formed") from None
    if not isinstance(state, dict) or not isinstance(state.get("apps"), dict):
        raise SourceError(f"{client.settings.host}{path} answers with a state that has no apps")
    return {key: value for key, value in state.items() if key != "name"}


def _too_old(client: CloudClient, what: str) -> SourceError:
    return SourceError(
        f"{client.settings.host} does not give target states (v3) of {what}: open-balena-api {FLEET_STATE_SINCE} or later is "
        "needed. Update the server, or save the target state of a device by other means and give it with --apps-json"
    )
