"""Images as values: names, the exact bytes of the config, and layers with their chain-ids.

Format of the config: OCI image-spec, config.md. Its bytes are kept as they came, because the image id is their digest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from ..digest import Digest, digest_of, parse_digest
from ..errors import ContentError, ManifestError
from ..go_json import JsonError, decode_go
from .chain import chain_ids
from .manifest import MAX_CONFIG_BYTES, MAX_LAYERS, Descriptor
from .platform import Platform
from .reference import Reference

_TIME = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


_DELTA_BASE, _DELTA_CONFIG = "io.resin.delta.base", "io.resin.delta.config"


class Delta(msgspec.Struct, frozen=True):
    """The labels of a balenaEngine delta, whose layers are patches.

    Source: balena-engine, distribution/pull_v2.go and daemon/images/image_delta.go.

    Attributes:
        base: id of the image that the delta applies to; empty if it names none.
        target: id of the resulting image; None if it has no config for it.
    """

    base: str
    target: Digest | None


class Config(msgspec.Struct, frozen=True):
    """The fields of an image config that the store needs; ``content`` is the whole config, byte for byte.

    Attributes:
        delta: set if this is the config of a delta and not of an image.
    """

    content: bytes
    image_id: Digest
    platform: Platform
    created: str | None
    diff_ids: tuple[Digest, ...]
    delta: Delta | None = None


class Layer(msgspec.Struct, frozen=True):
    """One layer at its position in the chain.

    Attributes:
        blob: the descriptor of the compressed blob, or of the bare tar in a docker archive.
        diff_id: digest of the uncompressed tar.
        chain_id: the identity of the layer together with all below it.
        parent: chain-id of the layer below; None for the base.
        distributable: whether ``blob`` is the registry's descriptor, so that the engine's distribution records may name it.
    """

    blob: Descriptor
    diff_id: Digest
    chain_id: Digest
    parent: Digest | None
    distributable: bool = True


class Image(msgspec.Struct, frozen=True):
    """A resolved image: everything but the layers' bytes.

    Attributes:
        references: every name that the store must have for it, each with a tag or a digest, never both.
        tags: additional names, as made by ``docker tag``.
        repository: the repository of its blobs, for the engine's distribution records; None if it is not from a registry.
    """

    references: tuple[Reference, ...]
    config: Config
    layers: tuple[Layer, ...]
    repository: Reference | None = None
    tags: tuple[Reference, ...] = ()

    @property
    def image_id(self) -> Digest:
        return self.config.image_id


_StringOrStrings: TypeAlias = str | list[str] | None


class _Empty(msgspec.Struct):
    """A value of a set's members, Go's ``struct{}``: any object."""


_Set: TypeAlias = dict[str, _Empty] | None


class _RawRootfs(msgspec.Struct):
    type: str = ""
    diff_ids: list[str] | None = None


class _RawHistory(msgspec.Struct):
    created: str | None = None
    author: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False


class _RawHealthcheck(msgspec.Struct, rename="pascal"):
    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class _RawContainerConfig(msgspec.Struct, rename="pascal"):
    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: _Set = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: _StringOrStrings = None
    healthcheck: _RawHealthcheck | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: _Set = None
    working_dir: str = ""
    entrypoint: _StringOrStrings = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: _StringOrStrings = None


class _RawConfig(msgspec.Struct, rename={"size": "Size", "os_version": "os.version", "os_features": "os.features"}):
    """All fields that the engine reads, with its types, even those not used here: an engine silently drops an image at start
    if it cannot read the config.

    Format: moby 20.10, image/image.go (V1Image, Image), api/types/container/config.go.
    """

    id: str = ""
    parent: str = ""
    comment: str = ""
    container: str = ""
    container_config: _RawContainerConfig | None = None
    os: str = ""
    architecture: str = ""
    variant: str = ""
    author: str = ""
    created: str | None = None
    docker_version: str = ""
    size: int = 0
    rootfs: _RawRootfs | None = None
    history: list[_RawHistory] | None = None
    config: _RawContainerConfig | None = None
    os_version: str = ""
    os_features: list[str] | None = None


def parse_config(content: bytes, what: str) -> Config:
    """Parse an image config as strictly as the engine will.

    Raises:
        ManifestError: malformed, oversized, without a rootfs of layers, for another system than Linux, or with more layers in
            its history than there are.
    """
    if len(content) > MAX_CONFIG_BYTES:
        raise ManifestError(f"{what}: the config has {len(content)} bytes, more than the {MAX_CONFIG_BYTES} allowed")
    try:
        raw = decode_go(content, _RawConfig)
    except JsonError as error:
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
    recorded = sum(not entry.empty_layer for entry in history)
    if recorded > len(diff_ids):
        raise ManifestError(
            f"{what}: the config's history has {recorded} layers, but there are {len(diff_ids)} diff_ids"
        )
    for time in (raw.created, *(entry.created for entry in history)):
        if time is not None and _TIME.fullmatch(time) is None:
            raise ManifestError(f"{what}: {time[:100]!r} in the image config is not a time as RFC 3339 writes it")
    platform = Platform(raw.os, raw.architecture, raw.variant)
    if platform.os not in ("", "linux"):
        raise ManifestError(f"{what}: the image is for {platform.os[:60]!r}; only linux images run on this engine")
    labels = raw.config.labels if raw.config is not None else None
    return Config(content, digest_of(content), platform, raw.created, diff_ids, _delta_of(labels or {}))


def _delta_of(labels: Mapping[str, str]) -> Delta | None:
    if _DELTA_BASE not in labels and _DELTA_CONFIG not in labels:
        return None
    config = labels.get(_DELTA_CONFIG)
    return Delta(labels.get(_DELTA_BASE, ""), digest_of(config.encode("utf-8", "replace")) if config else None)


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
