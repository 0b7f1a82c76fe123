"""An image as planning needs it: what it is called, its config's exact bytes, and its layers with their chain-ids.

Format of the config: OCI image-spec, config.md. The bytes are kept as they came, since the image id is their digest.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec

from ..decoders import json_decoder
from ..digest import Digest, digest_of, parse_digest
from ..errors import ContentError, ManifestError
from .chain import chain_ids
from .manifest import MAX_CONFIG_BYTES, MAX_LAYERS, Descriptor
from .platform import Platform
from .reference import Reference

_TIME = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


class Config(msgspec.Struct, frozen=True):
    """The part of an image config that the store depends on; ``content`` is the whole of it, byte for byte."""

    content: bytes
    image_id: Digest
    platform: Platform
    created: str | None
    diff_ids: tuple[Digest, ...]


class Layer(msgspec.Struct, frozen=True):
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


class Image(msgspec.Struct, frozen=True):
    """An image, resolved: everything but the layers' bytes.

    Attributes:
        references: every name that repositories.json must have for it, each with a tag or a digest, never both.
        tags: more names that it shall have, given as ``docker tag`` gives them.
        repository: where its blobs came from, for the engine's distribution records; None when no registry was asked.
    """

    references: tuple[Reference, ...]
    config: Config
    layers: tuple[Layer, ...]
    repository: Reference | None = None
    tags: tuple[Reference, ...] = ()

    @property
    def image_id(self) -> Digest:
        return self.config.image_id


_Strings: TypeAlias = list[str | None] | None
_StringOrStrings: TypeAlias = str | list[str | None] | None
_Set: TypeAlias = dict[str, dict[str, object] | None] | None
_NullableObject: TypeAlias = dict[str, object] | None


class _RawRootfs(msgspec.Struct):
    type: str = ""
    diff_ids: list[str] | None = None


class _RawHistory(msgspec.Struct):
    created: str | None = None
    author: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class _RawContainerConfig(msgspec.Struct, rename="pascal"):
    hostname: str | None = None
    domainname: str | None = None
    user: str | None = None
    exposed_ports: _Set = None
    tty: bool | None = None
    env: _Strings = None
    cmd: _StringOrStrings = None
    healthcheck: _NullableObject = None
    volumes: _Set = None
    working_dir: str | None = None
    entrypoint: _StringOrStrings = None
    on_build: _Strings = None
    labels: dict[str, str | None] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None
    shell: _StringOrStrings = None


class _RawConfig(msgspec.Struct):
    """The types matter: an engine that cannot read a config drops the image in silence when it starts.

    Go's decoder takes null for any field, so None is allowed throughout.
    """

    os: str | None = None
    architecture: str | None = None
    variant: str | None = None
    author: str | None = None
    created: str | None = None
    docker_version: str | None = None
    rootfs: _RawRootfs | None = None
    history: list[_RawHistory] | None = None
    config: _RawContainerConfig | None = None


def parse_config(content: bytes, what: str) -> Config:
    """Read an image config, as strictly as the engine does that will have to.

    Raises:
        ManifestError: malformed, oversized, without a rootfs of layers, for another system than Linux, or with a history that
            tells of more layers than there are.
    """
    if len(content) > MAX_CONFIG_BYTES:
        raise ManifestError(f"{what}: the config has {len(content)} bytes, more than the {MAX_CONFIG_BYTES} allowed")
    try:
        raw = json_decoder(_RawConfig).decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ManifestError(f"{what}: the image config is not well formed: {error}") from error
    if raw.rootfs is None or raw.rootfs.type != "layers":
        raise ManifestError(f"{what}: the image config has no rootfs of type 'layers'")
    if len(raw.rootfs.diff_ids or ()) > MAX_LAYERS:
        raise ManifestError(f"{what}: the image config lists more than {MAX_LAYERS} diff_ids")
    try:
        diff_ids = tuple(parse_digest(text) for text in raw.rootfs.diff_ids or ())
    except ContentError as error:
        raise ManifestError(f"{what}: rootfs.diff_ids: {error}") from error
    history = raw.history or []
    told = sum(not entry.empty_layer for entry in history)
    if told > len(diff_ids):
        raise ManifestError(f"{what}: the config's history tells of {told} layers, but it has {len(diff_ids)} diff_ids")
    for time in (raw.created, *(entry.created for entry in history)):
        if time is not None and _TIME.fullmatch(time) is None:
            raise ManifestError(f"{what}: {time[:100]!r} in the image config is no time as RFC 3339 writes it")
    platform = Platform(raw.os or "", raw.architecture or "", raw.variant or "")
    if platform.os not in ("", "linux"):
        raise ManifestError(f"{what}: the image is for {platform.os[:60]!r}; only linux images run on this engine")
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
