"""The result of an inspection as text."""

from __future__ import annotations

import re
from collections import Counter

from .. import InspectedPartition, Inspection, ListedImage, StoreListing
from ..balena.os_image import OsImage
from ..balena.preloaded import PreloadedApps
from . import render

_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
_SHORT = 19
"""``sha256:`` and twelve digits, as ``docker images`` shows."""
_MAX_NAME = 512
"""More characters than any engine accepts in a reference; a damaged store may have megabytes."""
_MOST_NAMES = 50
_FINDINGS_SHOWN = 10
_SERVICES_SHOWN = 200


def show_inspection(found: Inspection, *, verbose: bool) -> None:
    """Tables of the contents, and the problems found; with *verbose* every layer too."""
    _show_one(found, found.disk.name, verbose=verbose)
    if found.inner is not None:
        inner = found.inner
        render.line()
        render.line(f"the disk image inside, which it installs, in partition {inner.partition}:")
        _show_one(inner.found, f"/{_path(inner.path)}", verbose=verbose)


def _show_one(found: Inspection, name: str, *, verbose: bool) -> None:
    disk = found.disk
    kind = {"mbr": "MBR", "gpt": "GPT", "none": "no partition table"}[disk.table]
    identity = f", disk id {disk.disk_id}" if disk.disk_id else ""
    render.line(f"{name}: {render.size(disk.size)}, {kind}, sectors of {disk.sector_size} bytes{identity}")
    for note in disk.notes:
        render.line(f"note: {note}")
    render.line()
    render.table(
        ("partition", "label", "holds", "start", "size", "free", "free inodes"),
        [_partition_row(one) for one in disk.partitions],
        right=frozenset({0, 3, 4, 5, 6}),
    )
    for one in disk.partitions:
        for note in one.notes:
            render.line(f"note: partition {one.partition.number}: {note}")
    render.line()
    if found.os is not None:
        _show_os(found, found.os)
        if found.data is not None or not found.os.flasher:
            render.line()
    if found.store is not None and found.data is not None:
        _show_store(found.store, found.data.number, verbose=verbose)
    elif found.data is not None:
        render.line(f"no engine store in partition {found.data.number}")
    elif found.os is None or not found.os.flasher:
        render.line("no partition with an engine store found; give its place with --data-partition and --data-root")
    if found.apps is not None:
        render.line()
        _show_apps(found.apps, verbose=verbose)
    for note in found.notes:
        render.warning(note)


def _partition_row(one: InspectedPartition) -> tuple[str, ...]:
    space = one.space
    return (
        str(one.partition.number),
        one.label or "-",
        one.filesystem.kind.value if one.filesystem else "extended" if one.partition.kind == "extended" else "unknown",
        render.size(one.partition.start),
        render.size(one.partition.size),
        render.size(space.free) if space else "",
        f"{space.free_inodes:,}" if space and space.free_inodes is not None else "",
    )


def _show_os(found: Inspection, os_image: OsImage) -> None:
    for system in os_image.systems:
        variant = f" ({system.variant})" if system.variant else ""
        built = f", built with Supervisor {system.supervisor}" if system.supervisor else ""
        render.line(f"{system.name} {system.version}{variant} in {system.partition}{built}")
    if not os_image.systems:
        render.line("balenaOS, by the labels of its partitions; its version is not known")
    if os_image.device_type is not None:
        render.line(f"device type {os_image.device_type.slug}, architecture {os_image.device_type.arch}")
    for supervisor in found.supervisors:
        render.line(
            f"Supervisor {supervisor.version or 'of unknown version'} in the store ({supervisor.image_id[:_SHORT]})"
        )
    if found.store is not None and not found.supervisors:
        render.line("no Supervisor in the store")
    if os_image.flasher:
        render.line("flasher: it installs another disk image when it boots")
    for inner in os_image.inner_images:
        signed = ", signed (checked only by secure boot)" if inner.signed else ""
        render.line(f"  /{_path(inner.path)} in {inner.partition}: {render.size(inner.size)}{signed}")
    if os_image.secure_boot:
        render.line("installs with secure boot, so the disk image in it must stay as it was signed")
    if (config := os_image.config) is not None:
        said = [
            f"application {config.application_id}" if config.application_id is not None else "",
            f"device type {config.device_type}" if config.device_type else "",
            f"hostname {config.hostname}" if config.hostname else "",
            "an API key is set" if config.has_api_key else "no API key is set",
        ]
        render.line(f"config.json: {', '.join(filter(None, said))}")
    for note in os_image.notes:
        render.line(f"note: {note}")


def _show_store(store: StoreListing, partition: int, *, verbose: bool) -> None:
    shared = [layer for layer in store.layers if len(layer.images) > 1]
    render.line(
        f"store at {_path(store.root) or '/'} in partition {partition}: {_count(len(store.images), 'image')}, "
        f"{_count(len(store.layers), 'layer')} ({render.size(store.size)}), {len(shared)} shared, "
        f"{_count(len(store.containers), 'container')}"
    )
    if store.images:
        containers = Counter(one.image_id for one in store.containers)
        owners = {layer.chain_id: len(layer.images) for layer in store.layers}
        render.line()
        render.table(
            ("image", "id", "platform", "created", "layers", "shared", "size", ""),
            [
                (
                    _names(image, verbose=verbose),
                    image.image_id[:_SHORT],
                    image.platform,
                    (image.created or "")[:10],
                    str(len(image.layers)),
                    str(sum(owners.get(chain_id, 0) > 1 for chain_id in image.layers)),
                    render.size(image.size) if image.size is not None else "?",
                    _remark(image, containers[image.image_id]),
                )
                for image in store.images
            ],
            right=frozenset({4, 5, 6}),
        )
    if verbose and store.layers:
        render.line()
        render.table(
            ("layer (chain-id)", "diff-id", "size", "images"),
            [
                (
                    layer.chain_id[:_SHORT],
                    (layer.diff_id or "?")[:_SHORT],
                    render.size(layer.size) if layer.size is not None else "?",
                    str(len(layer.images)),
                )
                for layer in store.layers
            ],
            right=frozenset({2, 3}),
        )
    _show_leftovers(store, verbose=verbose)


def _show_leftovers(store: StoreListing, *, verbose: bool) -> None:
    orphans = store.orphans
    for what, names in (
        (f"directory in {orphans.place} not used by any layer", orphans.directories),
        ("layer not used by any image", orphans.layers),
        ("image without a name", orphans.images),
    ):
        for name in names if verbose else names[:_FINDINGS_SHOWN]:
            render.line(f"orphan: {what}: {name}")
        if not verbose and len(names) > _FINDINGS_SHOWN:
            render.line(f"orphan: {len(names) - _FINDINGS_SHOWN} more; -v shows all")
    shown = store.findings if verbose else store.findings[:_FINDINGS_SHOWN]
    for finding in shown:
        render.warning(f"in the store: {_path(finding.path)}: {finding.text} ({finding.code})")
    if len(store.findings) > len(shown):
        render.warning(f"in the store: {len(store.findings) - len(shown)} more findings; -v shows all")


def _show_apps(apps: PreloadedApps, *, verbose: bool) -> None:
    pinned = ", the device stays on its release" if apps.pin_device else ""
    render.line(f"preloaded by {_path(apps.path)}{pinned}:")
    rows = [
        (
            one.app_name,
            one.release_uuid[:12],
            one.name,
            one.image if verbose else _shortened(one.image),
            "there" if one.usable else "damaged" if one.image_id is not None else "missing",
        )
        for one in apps.services[:_SERVICES_SHOWN]
    ]
    if rows:
        render.table(("app", "release", "service", "image", "in the store"), rows)
    if len(apps.services) > len(rows):
        render.line(f"and {len(apps.services) - len(rows)} more services; --json has all")
    for note in apps.notes:
        render.line(f"note: {note}")


def _names(image: ListedImage, *, verbose: bool) -> str:
    if not image.references:
        return "(no name)"
    if verbose:
        return " ".join(name[:_MAX_NAME] for name in image.references[:_MOST_NAMES])
    more = f" and {len(image.references) - 1} more" if len(image.references) > 1 else ""
    return _shortened(image.references[0][:_MAX_NAME]) + more


def _shortened(text: str) -> str:
    return _DIGEST.sub(r"\1…", text)


def _remark(image: ListedImage, containers: int) -> str:
    said = ("" if image.usable else "damaged", _count(containers, "container") if containers else "")
    return ", ".join(filter(None, said))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _path(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
