"""Sources of images: registries, OCI layouts, docker archives."""

from .docker_archive import DockerArchiveSource
from .location import ArchiveKind, ArchiveLocation, Location, open_archive, parse_location
from .oci_layout import OciLayoutSource
from .protocols import BlobSource, ImageSource, SizeHints

__all__ = [
    "ArchiveKind",
    "ArchiveLocation",
    "BlobSource",
    "DockerArchiveSource",
    "ImageSource",
    "Location",
    "OciLayoutSource",
    "SizeHints",
    "open_archive",
    "parse_location",
]
