"""The image model of the OCI image-spec and Docker's schema 2: pure values, parsed and checked."""

from .chain import chain_ids, next_chain_id
from .image import Config, Image, Layer, assemble_layers, parse_config
from .manifest import Descriptor, Index, IndexEntry, Manifest, choose_platform, parse_manifest
from .platform import Platform, parse_platform
from .reference import Reference, parse_reference

__all__ = [
    "Config",
    "Descriptor",
    "Image",
    "Index",
    "IndexEntry",
    "Layer",
    "Manifest",
    "Platform",
    "Reference",
    "assemble_layers",
    "chain_ids",
    "choose_platform",
    "next_chain_id",
    "parse_config",
    "parse_manifest",
    "parse_platform",
    "parse_reference",
]
