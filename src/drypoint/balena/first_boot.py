"""How a device will behave when it first boots from a preloaded disk image, for the person who made it."""

from __future__ import annotations

import msgspec

from .apps_json import AppsJson
from .compatibility import SupervisorVersion

_SHOWN_SERVICES = 8
_TROUBLESHOOTING = """\
If a service does not start, look on the device:
  balena-engine images                    should list {images} of the images named in apps.json
  journalctl -n 400 -u balena.service     images that the engine could not load
  balena-engine logs balena_supervisor    whether the Supervisor has taken apps.json
  ls /mnt/data/apps.json*                 apps.json.preloaded once it has
"""


class _Release(msgspec.Struct):
    id: int | str


class _App(msgspec.Struct):
    kind: str | None = msgspec.field(default=None, name="class")
    releases: dict[str, _Release] = {}


class _State(msgspec.Struct):
    apps: dict[str, _App] = {}


def first_boot(apps: AppsJson, supervisor: SupervisorVersion, *, installs: bool) -> str:
    """What happens, in a few lines, and where to look if it does not.

    Args:
        installs: whether the disk image is a flasher, which installs the preloaded one first.
    """
    lines: list[str] = []
    if installs:
        lines.append(
            "The device installs the preloaded disk image to its own storage and shuts down; then, at its first boot:"
        )
    for name, release, services in _releases(apps):
        shown = ", ".join(services[:_SHOWN_SERVICES]) + (", …" if len(services) > _SHOWN_SERVICES else "")
        lines.append(f"The Supervisor {supervisor} starts {name} at release {release}, without a network too: {shown}.")
    if apps.pin_device:
        lines.append("Pinned: once registered, the device stays at this release until somebody moves it.")
    else:
        lines.append(
            "Not pinned: once registered, the device follows its fleet, and downloads what differs from this release."
        )
    return "\n".join(lines) + "\n" + _TROUBLESHOOTING.format(images=len(apps.images))


def pinned_release(apps: AppsJson) -> int | None:
    """The id of the release of the app of class fleet, to which *apps* pins the device; None if it pins to nothing."""
    if not apps.pin_device:
        return None
    try:
        state = msgspec.json.decode(apps.content, type=_State)
    except msgspec.MsgspecError:
        # Version 2 has its numbers elsewhere; the flashers that know the file are newer than the Supervisors that read it.
        return None
    ids = [
        release.id
        for app in state.apps.values()
        if (app.kind or "fleet") == "fleet"
        for release in app.releases.values()
    ]
    return int(ids[0]) if ids else None


def _releases(apps: AppsJson) -> list[tuple[str, str, list[str]]]:
    found: dict[tuple[str, str], list[str]] = {}
    for service in apps.services:
        found.setdefault((service.app_name, service.release_uuid), []).append(service.name)
    return [(name, release, services) for (name, release), services in found.items()]
