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
    from .balena.inspecting import Inspection, inspect
    from .balena.job import BalenaPreload, FirstBoot, UnreadBase, preload_request
    from .balena.previous import previous_images
    from .balena.request import BalenaRequest
    from .concurrency.stage import pulled
    from .disk.formats import opened_image
    from .disk.host.workspace import Destination
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
        SourceError,
        StoreError,
        ToolError,
        TransferError,
        UsageError,
        VerificationError,
    )
    from .etch.base_manifest import base_manifest
    from .fstree.extra_file import ExtraFile
    from .http.zones import Zone
    from .injection.request import InjectRequest
    from .jobs.base_stream import BaseStream
    from .jobs.inject import Injected, inject
    from .jobs.pack import Packed, pack
    from .jobs.plan import Plan, plan
    from .jobs.preload import Result, preload
    from .jobs.request import ImageRequest, PreloadRequest
    from .oci import Image, Platform, Reference, parse_platform, parse_reference
    from .progress import Progress, Step
    from .sizing.layer_index import LayerIndex
    from .sources import DockerArchiveSource, ImageSource, OciLayoutSource
    from .sources.registry import RegistryOptions, RegistrySource
    from .verification import Report, verify
    from .volumes.target import Target

__all__ = [
    "AuthenticationError",
    "BalenaPreload",
    "BalenaRequest",
    "BaseStream",
    "BootRequest",
    "CloudServer",
    "ContentError",
    "Destination",
    "DigestMismatchError",
    "DiskImageError",
    "DockerArchiveSource",
    "DrypointError",
    "ExtraFile",
    "FilesystemError",
    "FirstBoot",
    "Image",
    "ImageNotFoundError",
    "ImageRequest",
    "ImageSource",
    "InjectRequest",
    "Injected",
    "Inspection",
    "InvalidReferenceError",
    "LayerError",
    "LayerIndex",
    "ManifestError",
    "NoSpaceError",
    "OciLayoutSource",
    "OutputError",
    "Packed",
    "PartitionTableError",
    "Plan",
    "Platform",
    "PreloadRequest",
    "Progress",
    "Reference",
    "RegistryOptions",
    "RegistrySource",
    "Report",
    "Result",
    "SourceError",
    "Step",
    "StoreError",
    "Target",
    "ToolError",
    "TransferError",
    "UnreadBase",
    "UsageError",
    "VerificationError",
    "Zone",
    "__version__",
    "base_manifest",
    "inject",
    "inspect",
    "opened_image",
    "pack",
    "parse_platform",
    "parse_reference",
    "plan",
    "preload",
    "preload_request",
    "previous_images",
    "pulled",
    "verify",
]

_HOMES = {
    "balena.boot_request": "BootRequest",
    "balena.cloud_states": "CloudServer",
    "balena.job": "BalenaPreload FirstBoot UnreadBase preload_request",
    "balena.request": "BalenaRequest",
    "balena.inspecting": "Inspection inspect",
    "balena.previous": "previous_images",
    "errors": (
        "AuthenticationError ContentError DigestMismatchError DiskImageError DrypointError FilesystemError "
        "ImageNotFoundError InvalidReferenceError LayerError ManifestError NoSpaceError OutputError PartitionTableError "
        "SourceError StoreError ToolError TransferError UsageError VerificationError"
    ),
    "disk.formats": "opened_image",
    "disk.host.workspace": "Destination",
    "etch.base_manifest": "base_manifest",
    "oci": "Image Platform Reference parse_platform parse_reference",
    "jobs.plan": "Plan plan",
    "jobs.preload": "Result preload",
    "fstree.extra_file": "ExtraFile",
    "jobs.request": "ImageRequest PreloadRequest",
    "volumes.target": "Target",
    "sizing.layer_index": "LayerIndex",
    "jobs.base_stream": "BaseStream",
    "injection.request": "InjectRequest",
    "jobs.inject": "Injected inject",
    "jobs.pack": "Packed pack",
    "concurrency.stage": "pulled",
    "progress": "Progress Step",
    "sources": "DockerArchiveSource ImageSource OciLayoutSource",
    "http.zones": "Zone",
    "sources.registry": "RegistryOptions RegistrySource",
    "verification": "Report verify",
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
