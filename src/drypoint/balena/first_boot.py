"""The report on how a device will behave when it first boots from a preloaded disk image.

Sources: balena-supervisor, src/device-state/preload.ts (at v12.11.43 and v13.1.6 too) for apps.json,
src/api-binder/index.ts for pinning, src/device-state/target-state.ts and src/local-mode.ts for a device without a server;
meta-balena, balena.service, start-balena-supervisor (the container's name since 2.78.0), resin-init-flasher and
resin-device-register.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import assert_never

import msgspec

from ..decoders import json_decoder
from ..digest import Digest, hex_of
from ..oci import Image, Reference
from ..progress import human_size
from .apps_json import AppsJson
from .boot_config import other_fleet_warning
from .effects import starts_all
from .identifiers import integer_of
from .supervisor_version import SupervisorVersion
from .target_state import Service

_SHOWN_SERVICES = 20
_SHOWN_IDS = 4
_ID_DIGITS = 12
"""Digits of an id in ``balena-engine images``."""
_FIRST_TO_RENAME = (12, 11, 24)
_FIRST_TO_RENAME_WHAT_IT_TOOK = (13, 1, 11)
_FIRST_TO_SAY_COMPLETE = (8, 0, 0)
_COMMANDS_WIDTH = len("balena-engine logs balena_supervisor") + 2


class Fate(Enum):
    """What a device does with its fleet once it is online."""

    FOLLOWS = "it registers and follows its fleet, and downloads what differs from this release."
    STAYS = "it registers and is pinned: it stays at this release until it is moved."
    LEAVES = (
        "it joins the other fleet that config.json names (see the warning): the preloaded services are removed, and "
        "the release of that fleet is downloaded."
    )


class _RawConfig(msgspec.Struct, rename="camel"):
    api_endpoint: str | None = None


class _Release(msgspec.Struct):
    id: int | float | str


class _App(msgspec.Struct):
    kind: str | bool | int | float | None = msgspec.field(default=None, name="class")
    releases: dict[str, _Release] = {}
    release_id: int | float | str | None = msgspec.field(default=None, name="releaseId")


class _State(msgspec.Struct):
    apps: dict[str, _App] = {}


def first_boot(
    apps: AppsJson,
    supervisor: SupervisorVersion,
    *,
    installs: bool,
    config: bytes | None = None,
    images: Mapping[Reference, Image] | None = None,
    sizes: Mapping[Digest, int] | None = None,
) -> str:
    """Lines on what was preloaded, what the device does with it, and where to look if it does not.

    Args:
        installs: whether the disk image is a flasher, which installs the preloaded one first.
        config: the config.json that the device boots with; None if unknown.
        images: the images of the services, by their names in the store.
        sizes: bytes of layers in the engine's store, by chain-id.
    """
    lines = [*_contents(apps, images or {}, sizes or {}), "", "What the device will do:"]
    if installs:
        lines.append(
            "  First it installs the preloaded disk image to its own storage and shuts down. Then, from its own storage:"
        )
    lines.append(
        f"  At first boot the Supervisor {supervisor} reads apps.json (version {apps.version}) {_starts(apps, supervisor)}"
    )
    online = "As soon as it is online, "
    if config is not None and not _has_server(config):
        lines.append(
            "  config.json names no server, so it stays like this and joins no fleet until it is configured (--config "
            "FILE, or 'balena os configure')."
        )
        online = "Configured and online, "
    lines.append(f"  {online}{fate(apps, config).value}")
    if any(service.running or starts_all(supervisor) for service in apps.services):
        lines += ["", *_troubleshooting(apps, supervisor, images or {})]
    return "\n".join(lines) + "\n"


def fate(apps: AppsJson, config: bytes | None) -> Fate:
    """The behaviour of a device that is preloaded with *apps* and boots with the config.json *config*."""
    if other_fleet_warning(config, apps) is not None:
        return Fate.LEAVES
    return Fate.STAYS if pinned_release(apps) is not None else Fate.FOLLOWS


def pinned_release(apps: AppsJson) -> int | None:
    """The id of the release to which *apps* pins the device, that of the app of class fleet; None if it does not pin.

    For the flasher's registration service, which is older than version 3.
    """
    if not apps.pin_device:
        return None
    state = json_decoder(_State).decode(apps.content)
    for app in state.apps.values():
        if (app.kind or "fleet") != "fleet":
            continue
        match apps.version:
            case 2:
                found = [] if app.release_id is None else [app.release_id]
            case 3:
                found = [release.id for release in app.releases.values()]
            case _:
                assert_never(apps.version)
        if found:
            return integer_of(found[0])
    return None


def pinning_warning(apps: AppsJson) -> str | None:
    """A warning for an apps.json with pinDevice that pins nothing, else None."""
    if not apps.pin_device or pinned_release(apps) is not None:
        return None
    return (
        "apps.json says pinDevice, but the Supervisor pins a device only to an app of class fleet, and there is none: "
        "the device will not be pinned"
    )


def _starts(apps: AppsJson, supervisor: SupervisorVersion) -> str:
    running = {service.running or starts_all(supervisor) for service in apps.services}
    if not running:
        return "and starts nothing: there is no service in it."
    if running == {True}:
        return "and starts these services. For that it needs no network."
    which = "none of these services" if running == {False} else "these services, but not those with 'running: false'"
    return f"and starts {which}: it only creates their containers. For that it needs no network."


def _has_server(config: bytes) -> bool:
    try:
        return bool(json_decoder(_RawConfig).decode(config).api_endpoint)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return False


def _contents(apps: AppsJson, images: Mapping[Reference, Image], sizes: Mapping[Digest, int]) -> list[str]:
    """Each release, followed by its services: name, size, repository."""
    releases: dict[tuple[str, str], list[Service]] = {}
    for service in apps.services:
        releases.setdefault((service.app_name, service.release_uuid), []).append(service)
    lines = []
    for (name, release), services in releases.items():
        lines.append(f"{name} at release {release}:")
        shown = services[:_SHOWN_SERVICES]
        rows = [
            (
                one.name,
                _size(images.get(_stored(one.image)), sizes),
                f"{one.image.familiar_name}{'' if one.running else '  (running: false)'}",
            )
            for one in shown
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        for service_name, size, repository in rows:
            sized = f"{size.rjust(widths[1])}  " if widths[1] else ""
            lines.append(f"  {service_name.ljust(widths[0])}  {sized}{repository}")
        if len(services) > len(shown):
            lines.append(f"  and {len(services) - len(shown)} more services")
    return lines


def _size(image: Image | None, sizes: Mapping[Digest, int]) -> str:
    known = [] if image is None else [sizes.get(layer.chain_id) for layer in image.layers]
    counted = [size for size in known if size is not None]
    return human_size(sum(counted)) if counted and len(counted) == len(known) else ""


def _troubleshooting(apps: AppsJson, supervisor: SupervisorVersion, images: Mapping[Reference, Image]) -> list[str]:
    numbers = supervisor.numbers
    table = [
        ("balena-engine images", f"lists {_ids(apps, images)}"),
        ("journalctl -n 400 -u balena.service", "lists images that the engine could not load"),
        ("balena-engine logs balena_supervisor", _log(numbers)),
    ]
    if numbers >= _FIRST_TO_RENAME_WHAT_IT_TOOK:
        table.append(("ls /mnt/data/apps.json*", "shows apps.json.preloaded once the Supervisor has taken it"))
    elif numbers >= _FIRST_TO_RENAME:
        table.append(
            ("ls /mnt/data/apps.json*", "shows apps.json.preloaded once the Supervisor has read it, taken or not")
        )
    lines = ["If a service does not start, look on the device:"]
    lines += [f"  {command.ljust(_COMMANDS_WIDTH)}{text}" for command, text in table]
    if apps.version == 2:
        lines.append("  (before balenaOS 2.78.0 the container is called resin_supervisor)")
    return lines


def _log(supervisor: tuple[int, int, int]) -> str:
    if supervisor >= _FIRST_TO_SAY_COMPLETE:
        return "says 'Preloading complete' once it has taken apps.json, else 'Loading preloaded apps failed'"
    return "says 'Loading preloaded apps failed' if it does not take apps.json"


def _stored(image: Reference) -> Reference:
    """The image's name in the store: with a digest there is no tag."""
    return image if image.digest is None else image.with_digest(image.digest)


def _ids(apps: AppsJson, images: Mapping[Reference, Image]) -> str:
    """The short ids of the images that the device must list."""
    ids = dict.fromkeys(
        hex_of(images[one].image_id)[:_ID_DIGITS] if one in images else one.familiar_name
        for one in map(_stored, apps.images)
    )
    more = f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else ""
    return ", ".join(list(ids)[:_SHOWN_IDS]) + more
