"""The .etch archive: a disk image and the files for its partitions in one stream."""

from .manifest import FORMAT, Injection, Manifest, PackedImage, PackedStore, SpaceNeeded, manifest_text, parse_manifest
from .reader import EtchReader, Member, Removal, Settlement
from .writer import EtchWriter

__all__ = [
    "FORMAT",
    "EtchReader",
    "EtchWriter",
    "Injection",
    "Manifest",
    "Member",
    "PackedImage",
    "PackedStore",
    "Removal",
    "SpaceNeeded",
    "Settlement",
    "manifest_text",
    "parse_manifest",
]
