"""The target state for a device, merged from fleets or a device on a server and from files."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...errors import UsageError
from ...oci import Reference
from ..apps_json import AppsJson, parse_state, read_apps_json
from ..architecture import NeededArchitecture
from ..merge import merge_apps_json
from .client import CloudClient
from .fleet import CURRENT, LATEST, CloudDeviceType, CloudModel, find_device, find_fleet, find_release, release_note
from .state import device_state, fleet_state, make_apps_json


class StateRequest(msgspec.Struct, frozen=True):
    """A request for target states.

    Attributes:
        fleets: slugs, uuids or ids.
        commit: the release of the fleet; a commit belongs to one fleet only.
        device: the uuid of a registered device, in place of fleets.
        pin_device: whether the device stays at that release; None leaves files as they are, and does not pin to a fleet's.
    """

    fleets: tuple[str, ...] = ()
    commit: str | None = None
    device: str | None = None
    pin_device: bool | None = None

    def __post_init__(self) -> None:
        """Raises:
        UsageError: the fields contradict each other.
        """
        if self.device is not None and self.fleets:
            raise UsageError("--device implies its fleet: give --device or --fleet, not both")
        if self.commit is not None and not self.fleets:
            raise UsageError(
                "--commit chooses a release of a fleet: give --fleet with it (a device's is chosen by the server)"
            )
        if self.commit not in (None, CURRENT, LATEST) and len(self.fleets) > 1:
            raise UsageError(f"a commit belongs to one fleet: with several --fleet, --commit is {CURRENT} or {LATEST}")

    @property
    def asks_the_server(self) -> bool:
        return bool(self.fleets) or self.device is not None


class RequestedState(msgspec.Struct, frozen=True):
    """A merged target state.

    Attributes:
        apps: everything in one apps.json.
        needs: the architectures of the fleets, to be compared with the disk image's device type.
        notes: its sources, a line each, for users.
        from_server: the images in the server's own target states.
    """

    apps: AppsJson
    needs: tuple[NeededArchitecture, ...] = ()
    notes: tuple[str, ...] = ()
    from_server: tuple[Reference, ...] = ()


def find_states(
    request: StateRequest, client: CloudClient | None, files: Sequence[tuple[str, AppsJson]] = ()
) -> RequestedState | None:
    """The merged target state of *request* and *files*; None if there is neither.

    Args:
        client: for fleets and devices; may be None if *request* has none.
        files: apps.json files, each with its name.

    Raises:
        UsageError: they contradict each other, a name is malformed, or the Supervisor would not accept the result.
        SourceError: the server does not answer with it; the class of the error says why.
    """
    if request.pin_device is not None:
        files = [(what, _pinned(apps, what, request.pin_device)) for what, apps in files]
    states: list[tuple[str, AppsJson]] = []
    needs: list[NeededArchitecture] = []
    notes: list[str] = []
    if request.asks_the_server and client is None:
        raise ValueError("fleets and devices need a server")
    if client is not None:
        model = CloudModel(client)
        fleets = {fleet.uuid: fleet for fleet in (find_fleet(model, name) for name in dict.fromkeys(request.fleets))}
        for fleet in fleets.values():
            commit = find_release(model, fleet, request.commit or CURRENT)
            what = f"{fleet.slug} at release {commit}"
            apps = make_apps_json(
                fleet_state(client, fleet, commit), f"the target state of {what}", pin_device=bool(request.pin_device)
            )
            states.append((what, apps))
            needs.append(_needed(fleet.slug, fleet.device_type))
            notes.append(f"{what}: {_services(apps)}")
            if request.commit != LATEST and (note := release_note(model, fleet, commit)) is not None:
                notes.append(note)
        if request.device is not None:
            device = find_device(model, request.device)
            what = f"the device {device.uuid} of {device.fleet.slug}"
            apps = make_apps_json(
                device_state(client, device), f"the target state of {what}", pin_device=bool(request.pin_device)
            )
            states.append((what, apps))
            needs.append(_needed(f"of {what}", device.device_type))
            notes.append(f"{what}: {_services(apps)}")
            for commit in dict.fromkeys(service.release_uuid for service in apps.services):
                if (note := release_note(model, device.fleet, commit)) is not None:
                    notes.append(note)
    from_server = tuple(dict.fromkeys(image for _, apps in states for image in apps.images))
    states += files
    if not states:
        return None
    return RequestedState(merge_apps_json(states), tuple(needs), tuple(notes), from_server)


def _services(apps: AppsJson) -> str:
    count = len(apps.services)
    return f"{count} {'service' if count == 1 else 'services'}"


def _needed(name: str, device_type: CloudDeviceType) -> NeededArchitecture:
    return NeededArchitecture(name, device_type.slug, device_type.arch)


def _pinned(apps: AppsJson, what: str, pin_device: bool) -> AppsJson:
    if apps.pin_device == pin_device:
        return apps
    state = {**parse_state(apps.content, what), "pinDevice": pin_device}
    return read_apps_json(msgspec.json.encode(state, order="sorted"), what, (apps.version,))
