"""drypoint puts container images into a disk image: the files that Docker or balenaEngine would write, without an engine.

    from pathlib import Path
    import drypoint

    with drypoint.RegistrySource() as registry:
        alpine = drypoint.ImageRequest(drypoint.parse_reference("alpine:3.20"), registry)
        request = drypoint.PreloadRequest([alpine], drypoint.parse_platform("linux/arm64"))
        drypoint.preload(Path("base.img"), Path("out.img"), request)

All public names are here; each is loaded at its first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib

from .version import __version__

# A name that type checkers know: importing typing takes longer than all else up to the first line of the program.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from .balena.boot_request import BootRequest
    from .balena.cloud_states import CloudServer
    from .balena.injected import inject_request
    from .balena.inspecting import Inspection, inspect
    from .balena.job import BalenaPreload, FirstBoot, preload_request
    from .balena.previous import previous_images
    from .balena.request import BalenaRequest
    from .balena.supervisor_request import SupervisorRequest, supervisor_image, supervisor_request
    from .balena.verifying import verify_balena
    from .concurrency.stage import Write, pulled
    from .concurrency.uninterrupted import may_interrupt
    from .digest import Digest
    from .disk import Partition
    from .disk.formats import opened_image
    from .disk.host.restore import restore
    from .disk.host.workspace import Destination, check_destination
    from .errors import (
        AuthenticationError,
        ContentError,
        DigestMismatchError,
        DiskImageError,
        DrypointError,
        FilesystemError,
        ImageNotFoundError,
        InvalidReferenceError,
        LayerError,
        ManifestError,
        NoSpaceError,
        OutputError,
        PartitionTableError,
        ResourceError,
        SourceError,
        StoreError,
        ToolError,
        TransferError,
        UsageError,
        VerificationError,
    )
    from .etch.base_manifest import base_manifest
    from .fstree import clean_path
    from .fstree.extra_file import ExtraFile
    from .http.zones import Zone
    from .injection.request import InjectRequest
    from .inspection import InspectedPartition
    from .jobs.archive_file import archive_file
    from .jobs.base_stream import BaseStream
    from .jobs.clean import Cleaned, clean, device_backups
    from .jobs.inject import Injected, inject
    from .jobs.pack import Packed, pack
    from .jobs.pack_base import PackBase, UnreadBase, open_pack_base, write_base_manifest
    from .jobs.plan import Plan, plan
    from .jobs.preload import Result, preload
    from .jobs.request import ImageRequest, PreloadRequest
    from .jobs.summary import how_found
    from .jobs.timestamps import source_date_epoch
    from .limits import Limits, parse_limits
    from .oci import Image, Layer, Platform, Reference, parse_platform, parse_reference
    from .progress import Progress, Step
    from .sizing.growth_forecast import Growth
    from .sizing.layer_index import LayerIndex, index_directory
    from .sizing.layer_sizes import LayerSize
    from .sources import DockerArchiveSource, ImageSource, OciLayoutSource
    from .sources.registry import RegistryOptions, RegistrySource
    from .stores import ListedImage, PlannedLayer, Removal, SharedLayer, StoreListing
    from .verification import KINDS, Finding, ImageVerdict, Report, verify
    from .volumes.target import DEFAULT_DATA_ROOT, DEFAULT_PARTITION, Target

__all__ = [
    "AuthenticationError",
    "BalenaPreload",
    "BalenaRequest",
    "BaseStream",
    "BootRequest",
    "Cleaned",
    "CloudServer",
    "ContentError",
    "DEFAULT_DATA_ROOT",
    "DEFAULT_PARTITION",
    "Destination",
    "Digest",
    "DigestMismatchError",
    "DiskImageError",
    "DockerArchiveSource",
    "DrypointError",
    "ExtraFile",
    "FilesystemError",
    "Finding",
    "FirstBoot",
    "Growth",
    "Image",
    "ImageNotFoundError",
    "ImageRequest",
    "ImageSource",
    "ImageVerdict",
    "InjectRequest",
    "Injected",
    "InspectedPartition",
    "Inspection",
    "InvalidReferenceError",
    "KINDS",
    "Layer",
    "LayerError",
    "LayerIndex",
    "LayerSize",
    "Limits",
    "ListedImage",
    "ManifestError",
    "NoSpaceError",
    "OciLayoutSource",
    "OutputError",
    "PackBase",
    "Packed",
    "Partition",
    "PartitionTableError",
    "ResourceError",
    "Plan",
    "PlannedLayer",
    "Platform",
    "PreloadRequest",
    "Progress",
    "Reference",
    "RegistryOptions",
    "RegistrySource",
    "Report",
    "Removal",
    "Result",
    "SharedLayer",
    "SourceError",
    "Step",
    "StoreError",
    "StoreListing",
    "SupervisorRequest",
    "Target",
    "ToolError",
    "TransferError",
    "UnreadBase",
    "UsageError",
    "VerificationError",
    "Write",
    "Zone",
    "__version__",
    "archive_file",
    "base_manifest",
    "check_destination",
    "clean",
    "clean_path",
    "device_backups",
    "how_found",
    "index_directory",
    "inject",
    "inject_request",
    "inspect",
    "may_interrupt",
    "open_pack_base",
    "opened_image",
    "pack",
    "parse_limits",
    "parse_platform",
    "parse_reference",
    "plan",
    "preload",
    "preload_request",
    "previous_images",
    "pulled",
    "restore",
    "source_date_epoch",
    "supervisor_image",
    "supervisor_request",
    "verify",
    "verify_balena",
    "write_base_manifest",
]

_HOMES = {
    "balena.boot_request": "BootRequest",
    "balena.cloud_states": "CloudServer",
    "balena.injected": "inject_request",
    "balena.inspecting": "Inspection inspect",
    "balena.job": "BalenaPreload FirstBoot preload_request",
    "balena.previous": "previous_images",
    "balena.request": "BalenaRequest",
    "balena.supervisor_request": "SupervisorRequest supervisor_image supervisor_request",
    "balena.verifying": "verify_balena",
    "concurrency.stage": "Write pulled",
    "concurrency.uninterrupted": "may_interrupt",
    "digest": "Digest",
    "disk": "Partition",
    "disk.formats": "opened_image",
    "disk.host.restore": "restore",
    "disk.host.workspace": "Destination check_destination",
    "errors": (
        "AuthenticationError ContentError DigestMismatchError DiskImageError DrypointError FilesystemError "
        "ImageNotFoundError InvalidReferenceError LayerError ManifestError NoSpaceError OutputError "
        "PartitionTableError ResourceError SourceError StoreError ToolError TransferError UsageError VerificationError"
    ),
    "etch.base_manifest": "base_manifest",
    "fstree": "clean_path",
    "fstree.extra_file": "ExtraFile",
    "http.zones": "Zone",
    "inspection": "InspectedPartition",
    "injection.request": "InjectRequest",
    "jobs.archive_file": "archive_file",
    "jobs.base_stream": "BaseStream",
    "jobs.clean": "Cleaned clean device_backups",
    "jobs.inject": "Injected inject",
    "jobs.pack": "Packed pack",
    "jobs.pack_base": "PackBase UnreadBase open_pack_base write_base_manifest",
    "jobs.plan": "Plan plan",
    "jobs.preload": "Result preload",
    "jobs.request": "ImageRequest PreloadRequest",
    "jobs.summary": "how_found",
    "jobs.timestamps": "source_date_epoch",
    "limits": "Limits parse_limits",
    "oci": "Image Layer Platform Reference parse_platform parse_reference",
    "progress": "Progress Step",
    "sizing.growth_forecast": "Growth",
    "sizing.layer_index": "LayerIndex index_directory",
    "sizing.layer_sizes": "LayerSize",
    "sources": "DockerArchiveSource ImageSource OciLayoutSource",
    "sources.registry": "RegistryOptions RegistrySource",
    "stores": "ListedImage PlannedLayer Removal SharedLayer StoreListing",
    "verification": "KINDS Finding ImageVerdict Report verify",
    "volumes.target": "DEFAULT_DATA_ROOT DEFAULT_PARTITION Target",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


if not TYPE_CHECKING:  # type checkers would take any name for a public one

    def __getattr__(name: str) -> object:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(f".{home}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
