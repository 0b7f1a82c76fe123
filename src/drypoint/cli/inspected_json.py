"""An inspection as ``inspect --json`` prints it; documented in docs/reference/json.md."""

from __future__ import annotations

from .. import InspectedPartition, Inspection, StoreListing
from ..balena.os_image import OsImage
from ..balena.preloaded import PreloadedApps


def inspection_object(found: Inspection) -> dict[str, object]:
    """The inspection as one JSON object."""
    inner = found.inner
    return {
        **_inspection_object(found),
        "inner": None
        if inner is None
        else {"partition": inner.partition, "path": _path(inner.path), **_inspection_object(inner.found)},
    }


def _inspection_object(found: Inspection) -> dict[str, object]:
    disk = found.disk
    return {
        "disk": {
            "size": disk.size,
            "sector_size": disk.sector_size,
            "table": disk.table,
            "id": disk.disk_id,
            "notes": list(disk.notes),
        },
        "partitions": [_partition_object(one) for one in disk.partitions],
        "os": _os_object(found.os) if found.os is not None else None,
        "data_partition": found.data.number if found.data is not None else None,
        "store": None if found.store is None or found.data is None else _store_object(found.store, found.data.number),
        "supervisors": [{"id": one.image_id, "version": one.version} for one in found.supervisors],
        "apps": _apps_object(found.apps) if found.apps is not None else None,
        "notes": list(found.notes),
    }


def _partition_object(one: InspectedPartition) -> dict[str, object]:
    partition, filesystem, space = one.partition, one.filesystem, one.space
    return {
        "number": partition.number,
        "kind": partition.kind.value,
        "type": partition.type,
        "name": partition.name,
        "guid": partition.guid,
        "bootable": partition.bootable,
        "start": partition.start,
        "size": partition.size,
        "file_system": None
        if filesystem is None
        else {
            "kind": filesystem.kind.value,
            "label": filesystem.label,
            "uuid": filesystem.uuid,
            "block_size": filesystem.block_size,
            "size": space.total if space else None,
            "free_bytes": space.free if space else None,
            "reserved_bytes": space.reserved if space else None,
            "inodes": space.inodes if space else None,
            "free_inodes": space.free_inodes if space else None,
        },
        "notes": list(one.notes),
    }


def _os_object(os_image: OsImage) -> dict[str, object]:
    device_type, config = os_image.device_type, os_image.config
    return {
        "systems": [
            {
                "partition": system.partition,
                "name": system.name,
                "version": system.version,
                "variant": system.variant,
                "path": _path(system.path),
                "supervisor_version": system.supervisor,
            }
            for system in os_image.systems
        ],
        "device_type": {"slug": device_type.slug, "arch": device_type.arch} if device_type is not None else None,
        "flasher": os_image.flasher,
        "inner_images": [
            {"partition": inner.partition, "path": _path(inner.path), "size": inner.size, "signed": inner.signed}
            for inner in os_image.inner_images
        ],
        "secure_boot": os_image.secure_boot,
        "config": None
        if config is None
        else {
            "application_id": config.application_id,
            "device_type": config.device_type,
            "hostname": config.hostname,
            "has_api_key": config.has_api_key,
        },
        "notes": list(os_image.notes),
    }


def _store_object(store: StoreListing, partition: int) -> dict[str, object]:
    return {
        "partition": partition,
        "data_root": _path(store.root),
        "images": [
            {
                "id": image.image_id,
                "references": list(image.references),
                "platform": image.platform,
                "created": image.created,
                "layers": list(image.layers),
                "size": image.size,
                "usable": image.usable,
            }
            for image in store.images
        ],
        "layers": [
            {
                "chain_id": layer.chain_id,
                "diff_id": layer.diff_id,
                "parent": layer.parent,
                **dict(layer.detail),
                "size": layer.size,
                "images": list(layer.images),
                "usable": layer.usable,
            }
            for layer in store.layers
        ],
        "layer_bytes": store.size,
        "containers": [
            {"id": one.container_id, "name": one.name, "image_id": one.image_id} for one in store.containers
        ],
        "orphans": {
            "directories": list(store.orphans.directories),
            "layers": list(store.orphans.layers),
            "images": list(store.orphans.images),
        },
        "findings": [
            {"code": finding.code, "path": _path(finding.path), "text": finding.text} for finding in store.findings
        ],
    }


def _apps_object(apps: PreloadedApps) -> dict[str, object]:
    return {
        "path": _path(apps.path),
        "pin_device": apps.pin_device,
        "services": [
            {
                "app_uuid": one.app_uuid,
                "app_name": one.app_name,
                "release_uuid": one.release_uuid,
                "service": one.name,
                "image": one.image,
                "image_id": one.image_id,
                "usable": one.usable,
            }
            for one in apps.services
        ],
        "notes": list(apps.notes),
    }


def _path(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
