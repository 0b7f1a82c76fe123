"""Descriptors, manifests and indexes, OCI and Docker schema 2.

Formats: OCI image-spec, descriptor.md, manifest.md, image-index.md; Docker's "Image Manifest Version 2, Schema 2".
All input is hostile: sizes and counts are bounded first.
"""

from __future__ import annotations

import msgspec

from ..digest import Digest, parse_digest
from ..errors import ContentError, ImageNotFoundError, ManifestError
from ..go_json import JsonError, decode_go
from .platform import Platform, preference

MEDIA_TYPE_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_TYPE_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_TYPE_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MEDIA_TYPE_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_TYPE_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_TYPE_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
ACCEPTED_MANIFEST_TYPES = (
    MEDIA_TYPE_OCI_INDEX,
    MEDIA_TYPE_DOCKER_LIST,
    MEDIA_TYPE_OCI_MANIFEST,
    MEDIA_TYPE_DOCKER_MANIFEST,
)
_INDEX_TYPES = (MEDIA_TYPE_OCI_INDEX, MEDIA_TYPE_DOCKER_LIST)
MAX_MANIFEST_BYTES = 4 << 20
"""Registries refuse larger manifests (distribution, maxManifestBodySize)."""
MAX_CONFIG_BYTES = 8 << 20
MAX_LAYERS = 1024
MAX_INDEX_ENTRIES = 4096
_MAX_BLOB_BYTES = 1 << 44
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_FOREIGN = ("foreign", "nondistributable")
_CONFIG_TYPES = (
    MEDIA_TYPE_OCI_CONFIG,
    MEDIA_TYPE_DOCKER_CONFIG,
    # From old registries and tools; engines still accept them as images (moby, distribution/registry.go, ImageTypes).
    "application/octet-stream",
    "application/json",
    "text/html",
    "",
)
_MAX_OFFERED = 20


class Descriptor(msgspec.Struct, frozen=True):
    """The media type, digest and size in bytes of a blob."""

    media_type: str
    digest: Digest
    size: int


class Manifest(msgspec.Struct, frozen=True):
    """One image: its config and its layers, base first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


class IndexEntry(msgspec.Struct, frozen=True):
    descriptor: Descriptor
    platform: Platform | None
    reference_name: str | None
    """The annotation ``org.opencontainers.image.ref.name``, an image's name in an OCI layout: a tag or a full reference."""
    image_name: str | None = None
    """The annotation ``io.containerd.image.name`` of containerd, BuildKit and Docker 25: the full reference."""


class Index(msgspec.Struct, frozen=True):
    """Several images, usually one for each platform."""

    media_type: str
    manifests: tuple[IndexEntry, ...]


class _RawPlatform(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _RawDescriptor(msgspec.Struct, rename={"media_type": "mediaType"}):
    digest: str = ""
    size: int = 0
    media_type: str = ""
    platform: _RawPlatform | None = None
    annotations: dict[str, str] | None = None
    urls: list[str] | None = None


class _RawManifest(msgspec.Struct, rename={"schema_version": "schemaVersion", "media_type": "mediaType"}):
    schema_version: int = 0
    media_type: str = ""
    config: _RawDescriptor | None = None
    layers: list[_RawDescriptor] | None = None
    manifests: list[_RawDescriptor] | None = None


def parse_manifest(content: bytes, media_type: str, what: str, *, by_descriptor: bool = False) -> Manifest | Index:
    """Parse a manifest or an index.

    Args:
        content: the exact bytes; the caller checks their digest.
        media_type: the Content-Type of the answer, possibly empty; parameters are ignored.
        what: its name in errors.
        by_descriptor: *media_type* is a descriptor's. Then the manifest's own media type takes precedence, if both are
            manifests or both are indexes: tools that convert between OCI and Docker leave the old type in the descriptor.

    Raises:
        ManifestError: schema 1, an unknown kind, malformed, or over the limits.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"{what}: the manifest has {len(content)} bytes, more than the {MAX_MANIFEST_BYTES} allowed"
        )
    given = media_type.partition(";")[0].strip().lower()
    try:
        raw = decode_go(content, _RawManifest)
    except JsonError as error:
        raise ManifestError(f"{what}: the manifest is not well formed: {error}") from error
    if given.startswith(_SCHEMA_1) or raw.schema_version == 1:
        raise _schema_1(what)
    # Engines ignore the schema version if the media type is known.
    if raw.schema_version != 2 and not (
        raw.schema_version == 0 and (raw.media_type or given) in ACCEPTED_MANIFEST_TYPES
    ):
        raise ManifestError(f"{what}: manifest has schemaVersion {raw.schema_version}, expected 2")
    kind = raw.media_type or (given if given in ACCEPTED_MANIFEST_TYPES else "")
    differ = raw.media_type and given in ACCEPTED_MANIFEST_TYPES and raw.media_type != given
    if differ and not (by_descriptor and (raw.media_type in _INDEX_TYPES) == (given in _INDEX_TYPES)):
        raise ManifestError(f"{what}: served as {given} but the manifest calls itself {raw.media_type}")
    if raw.manifests is not None and (raw.config is not None or raw.layers is not None):
        # CVE-2021-41190: one document that some readers take for a manifest and others for an index.
        raise ManifestError(f"{what}: the manifest has both 'manifests' and 'config' or 'layers', so it is ambiguous")
    if kind in _INDEX_TYPES or (not kind and raw.manifests is not None):
        return _index(raw, kind or MEDIA_TYPE_OCI_INDEX, what)
    if kind in (MEDIA_TYPE_OCI_MANIFEST, MEDIA_TYPE_DOCKER_MANIFEST) or not kind:
        return _manifest(raw, kind or MEDIA_TYPE_OCI_MANIFEST, what)
    raise ManifestError(f"{what}: {kind[:200]!r} is not a container image's media type")


def refuse_schema_1(content: bytes, media_type: str, what: str) -> None:
    """Refuse schema 1, whose digest is not that of *content*.

    Raises:
        ManifestError: *content*, served as *media_type*, is of schema 1.
    """
    if media_type.strip().lower().startswith(_SCHEMA_1):
        raise _schema_1(what)
    try:
        raw = decode_go(content, _RawManifest)
    except JsonError:
        return
    if raw.schema_version == 1:
        raise _schema_1(what)


def choose_platform(index: Index, wanted: Platform, what: str) -> IndexEntry:
    """The best entry of *index* for the platform *wanted*; of equals, the first.

    Raises:
        ImageNotFoundError: there is none; the message lists the available platforms.
    """
    ranked = [
        (rank, position)
        for position, entry in enumerate(index.manifests)
        if entry.platform is not None and (rank := preference(wanted, entry.platform)) is not None
    ]
    if ranked:
        return index.manifests[min(ranked)[1]]
    unnamed = [entry for entry in index.manifests if entry.platform is None]
    if len(index.manifests) == 1 and unnamed:
        return unnamed[0]
    offered = sorted(
        {str(entry.platform)[:60] for entry in index.manifests if entry.platform and entry.platform.os != "unknown"}
    )[:_MAX_OFFERED]
    raise ImageNotFoundError(
        f"{what} has no image for {wanted}; it offers {', '.join(offered) or 'no platform at all'}. Choose one with --platform"
    )


def _schema_1(what: str) -> ManifestError:
    return ManifestError(
        f"{what}: the image has a Docker schema 1 manifest, which engines no longer take; "
        "push it again with a current engine to convert it"
    )


def _descriptor(raw: _RawDescriptor, what: str) -> Descriptor:
    try:
        digest = parse_digest(raw.digest)
    except ContentError as error:
        raise ManifestError(f"{what}: {error}") from error
    if not 0 <= raw.size <= _MAX_BLOB_BYTES:
        raise ManifestError(f"{what}: {raw.digest} has an impossible size of {raw.size} bytes")
    return Descriptor(raw.media_type, digest, raw.size)


def _index(raw: _RawManifest, media_type: str, what: str) -> Index:
    if raw.manifests is None:
        raise ManifestError(f"{what}: the index has no 'manifests'")
    if len(raw.manifests) > MAX_INDEX_ENTRIES:
        raise ManifestError(f"{what}: the index lists {len(raw.manifests)} manifests, more than {MAX_INDEX_ENTRIES}")
    entries = []
    for entry in raw.manifests:
        platform = None
        if entry.platform is not None and entry.platform.os and entry.platform.architecture:
            platform = Platform(entry.platform.os, entry.platform.architecture, entry.platform.variant)
        annotations = entry.annotations or {}
        name = annotations.get("org.opencontainers.image.ref.name")
        image_name = annotations.get("io.containerd.image.name")
        entries.append(IndexEntry(_descriptor(entry, what), platform, name, image_name))
    return Index(media_type, tuple(entries))


def _manifest(raw: _RawManifest, media_type: str, what: str) -> Manifest:
    if raw.config is None:
        raise ManifestError(f"{what}: the manifest lacks 'config'")
    if raw.config.media_type.partition(";")[0] not in _CONFIG_TYPES:
        raise ManifestError(f"{what}: its config is a {raw.config.media_type[:200]!r}, so it is not a container image")
    # Without layers it is an image of no layers, if its config agrees.
    layers = raw.layers or []
    if len(layers) > MAX_LAYERS:
        raise ManifestError(f"{what}: the manifest lists {len(layers)} layers, more than {MAX_LAYERS}")
    for layer in layers:
        if any(word in layer.media_type for word in _FOREIGN) and layer.urls:
            raise ManifestError(
                f"{what}: layer {layer.digest} is a foreign layer, kept outside the registry; only Windows images have these"
            )
    config = _descriptor(raw.config, what)
    if config.size > MAX_CONFIG_BYTES:
        raise ManifestError(f"{what}: the config has {config.size} bytes, more than the {MAX_CONFIG_BYTES} allowed")
    return Manifest(media_type, config, tuple(_descriptor(layer, what) for layer in layers))
