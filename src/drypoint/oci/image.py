"""An image as planning needs it: what it is called, its config's exact bytes, and its layers with their chain-ids.

Format of the config: OCI image-spec, config.md. The bytes are kept as they came, since the image id is their digest.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ..digest import Digest, digest_of, parse_digest
from ..errors import ContentError, ManifestError
from .chain import chain_ids
from .manifest import MAX_CONFIG_BYTES, Descriptor
from .platform import Platform
from .reference import Reference


@dataclass(frozen=True, slots=True)
class Config:
    """The part of an image config that the store depends on; ``content`` is the whole of it, byte for byte."""

    content: bytes
    image_id: Digest
    platform: Platform
    created: str | None
    diff_ids: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer in its place in the chain.

    Attributes:
        blob: the descriptor of the compressed blob, or of the bare tar in a docker archive.
        diff_id: digest of the uncompressed tar.
        chain_id: identity of the layer together with all below it.
        parent: chain-id of the layer below; None for the base.
        distributable: whether ``blob`` is what a registry calls it, so that the engine's distribution records may name it.
    """

    blob: Descriptor
    diff_id: Digest
    chain_id: Digest
    parent: Digest | None
    distributable: bool = True


@dataclass(frozen=True, slots=True)
class Image:
    """An image, resolved: everything but the layers' bytes.

    Attributes:
        references: every name that repositories.json must have for it, each with a tag or a digest, never both.
        repository: where its blobs came from, for the engine's distribution records; None when no registry was asked.
    """

    references: tuple[Reference, ...]
    config: Config
    layers: tuple[Layer, ...]
    repository: Reference | None = None

    @property
    def image_id(self) -> Digest:
        return self.config.image_id


class _RawRootfs(msgspec.Struct):
    type: str = ""
    diff_ids: list[str] | None = None


class _RawConfig(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""
    created: str | None = None
    rootfs: _RawRootfs | None = None


def parse_config(content: bytes, what: str) -> Config:
    """Read an image config.

    Raises:
        ManifestError: malformed, oversized, or without a rootfs of layers.
    """
    if len(content) > MAX_CONFIG_BYTES:
        raise ManifestError(f"{what}: the config has {len(content)} bytes, more than the {MAX_CONFIG_BYTES} allowed")
    try:
        raw = msgspec.json.decode(content, type=_RawConfig)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ManifestError(f"{what}: the image config is not well formed: {error}") from error
    if raw.rootfs is None or raw.rootfs.type != "layers":
        raise ManifestError(f"{what}: the image config has no rootfs of type 'layers'")
    try:
        diff_ids = tuple(parse_digest(text) for text in raw.rootfs.diff_ids or ())
    except ContentError as error:
        raise ManifestError(f"{what}: rootfs.diff_ids: {error}") from error
    platform = Platform(raw.os, raw.architecture, raw.variant)
    return Config(content, digest_of(content), platform, raw.created, diff_ids)


def assemble_layers(
    config: Config, blobs: tuple[Descriptor, ...], what: str, *, distributable: bool = True
) -> tuple[Layer, ...]:
    """Pair the manifest's blobs with the config's diff-ids, base first.

    Raises:
        ManifestError: the two lists differ in length.
    """
    if len(blobs) != len(config.diff_ids):
        raise ManifestError(
            f"{what}: the manifest has {len(blobs)} layers but the config has {len(config.diff_ids)} diff_ids"
        )
    chain = chain_ids(config.diff_ids)
    parents = (None, *chain[:-1]) if chain else ()
    return tuple(
        Layer(blob, diff_id, chain_id, parent, distributable)
        for blob, diff_id, chain_id, parent in zip(blobs, config.diff_ids, chain, parents, strict=True)
    )
