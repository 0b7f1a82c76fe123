"""Images in an OCI image layout, a directory or a tar.

Format: OCI image-spec, image-layout.md. Images are named by annotations in ``index.json``: ``io.containerd.image.name``
(BuildKit, containerd, Docker 25) or ``org.opencontainers.image.ref.name`` (skopeo, podman, crane), which is a full reference
or only a tag.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import assert_never

import msgspec
from msgspec.structs import replace

from ..digest import Digest, digest_of, hex_of
from ..errors import (
    ContentError,
    DigestMismatchError,
    ImageNotFoundError,
    InvalidReferenceError,
    ManifestError,
    SourceError,
    UsageError,
)
from ..go_json import JsonError, decode_go
from ..oci import (
    Descriptor,
    Image,
    Index,
    IndexEntry,
    Layer,
    Manifest,
    Platform,
    Reference,
    assemble_layers,
    choose_platform,
    parse_config,
    parse_manifest,
    parse_reference,
)
from ..oci.manifest import MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, MEDIA_TYPE_OCI_INDEX
from .archive import open_files, read_file
from .hints import blob_hint

_SHOWN_NAMES = 10


class _LayoutFile(msgspec.Struct, rename={"version": "imageLayoutVersion"}):
    version: str = ""


class OciLayoutSource:
    """An :class:`~drypoint.sources.ImageSource` of one layout.

    Args:
        path: the directory or tar archive.
        image: selects one image: a full name, a tag or a digest of ``index.json``. None with *name* given means the only one.
        name: the name of that image in the store, in place of the layout's.

    Raises:
        SourceError: *path* cannot be read or is not a layout; ImageNotFoundError if *image* is not in it.
        ContentError: it is malformed.
        UsageError: *image* or *name* does not decide between several images.
    """

    def __init__(self, path: Path, image: str | None = None, name: Reference | None = None) -> None:
        self._path = path
        self._name = name
        self._files = open_files(path)
        try:
            self._entries = self._read_index()
            if image is not None:
                self._entries = self._matching(image)
            if (image is not None or name is not None) and self._several():
                raise UsageError(f"{path} holds several images: {self._shown_names()}; say which one, as PATH:IMAGE")
        except BaseException:
            self._files.close()
            raise

    @property
    def references(self) -> tuple[Reference, ...]:
        """The names that can be resolved: *name* if given, else every full name in the layout, in its order.

        Raises:
            UsageError: the selected image, or the only one, has no full name.
        """
        if self._name is not None:
            return (self._name,)
        names = [name for entry in self._entries if (name := _full_name(entry)) is not None]
        if not names:
            raise UsageError(
                f"{self._path} has no full name for its image ({self._shown_names()}): "
                f"give it one, as NAME:TAG=oci:{self._path}"
            )
        return tuple(dict.fromkeys(names))

    def resolve(self, reference: Reference, platform: Platform) -> Image:
        """See :class:`~drypoint.sources.ImageSource`. A reference with a digest is found by that digest, whatever its name.

        The image is stored by the given reference and, as after a pull, by the digest that this resolves to.
        """
        entry = self._entry(reference, platform)
        what = f"{reference} in {self._path}"
        manifest = self._manifest(entry.descriptor, what)
        match manifest:
            case Index():
                manifest = self._manifest(self._choose(manifest.manifests, platform, what).descriptor, what)
                if not isinstance(manifest, Manifest):
                    raise ManifestError(f"{what}: the index names another index, which engines do not follow")
            case Manifest():
                pass
            case _:
                assert_never(manifest)
        config = parse_config(self._blob(manifest.config, MAX_CONFIG_BYTES), what)
        by_digest = reference.with_digest(entry.descriptor.digest)
        references = (by_digest,) if reference.digest else (reference, by_digest)
        return Image(references, config, assemble_layers(config, manifest.layers, what))

    def open_layer(self, image: Image, layer: Layer) -> Iterator[bytes]:
        """See :class:`~drypoint.sources.BlobSource`."""
        name = _blob_name(layer.blob.digest)
        if self._files.size(name) is None:
            raise SourceError(f"{self._path} lacks the layer {layer.blob.digest} of {image.references[0]}")
        return self._files.stream(name)

    def uncompressed_hint(self, image: Image, layer: Layer) -> int | None:
        """See :class:`~drypoint.sources.SizeHints`."""
        name = _blob_name(layer.blob.digest)
        return blob_hint(layer.blob.size, lambda offset, size: self._files.part(name, offset, size))

    def close(self) -> None:
        self._files.close()

    def _read_index(self) -> tuple[IndexEntry, ...]:
        what = str(self._path)
        if self._files.size("oci-layout") is None or self._files.size("index.json") is None:
            hint = "; it looks like a docker save archive: docker-archive:" if self._files.size("manifest.json") else ""
            raise SourceError(f"{what} is not an OCI image layout: oci-layout and index.json are not both there{hint}")
        try:
            layout = decode_go(read_file(self._files, "oci-layout", 4096, what), _LayoutFile)
        except JsonError as error:
            raise ManifestError(f"{what}: its file oci-layout is not well formed: {error}") from error
        if layout.version != "1.0.0":
            raise ManifestError(f"{what} is an OCI image layout of version {layout.version[:40]!r}, expected 1.0.0")
        content = read_file(self._files, "index.json", MAX_MANIFEST_BYTES, what)
        index = parse_manifest(content, MEDIA_TYPE_OCI_INDEX, f"{what}: index.json")
        if not isinstance(index, Index):
            raise ManifestError(f"{what}: index.json is not an index")
        if not index.manifests:
            raise ImageNotFoundError(f"{what} holds no image")
        return index.manifests

    def _matching(self, image: str) -> tuple[IndexEntry, ...]:
        """The entries for *image*: by exact annotation or digest, else by full name, else by tag."""
        digest = image.removeprefix("@")
        exact = [e for e in self._entries if image in (e.reference_name, e.image_name) or digest == e.descriptor.digest]
        if exact:
            return tuple(exact)
        wanted = _reference_or_none(image)
        named = [entry for entry in self._entries if wanted is not None and _full_name(entry) == wanted]
        tagged = [entry for entry in self._entries if (name := _full_name(entry)) is not None and name.tag == image]
        if not named and not tagged:
            raise ImageNotFoundError(f"{self._path} holds no image {image!r}; it has {self._shown_names()}")
        return tuple(named or tagged)

    def _entry(self, reference: Reference, platform: Platform) -> IndexEntry:
        if self._name is not None:
            entries = [entry for entry in self._entries if reference == self._name]
        elif reference.digest is not None:
            entries = [entry for entry in self._entries if entry.descriptor.digest == reference.digest]
        else:
            entries = [entry for entry in self._entries if _full_name(entry) == reference]
        if not entries:
            raise ImageNotFoundError(f"{self._path} holds no image {reference}; it has {self._shown_names()}")
        if len({entry.descriptor.digest for entry in entries}) == 1:
            return entries[0]
        # One name on several manifests: a flat index with one entry a platform.
        return self._choose(entries, platform, f"{reference} in {self._path}")

    def _several(self) -> bool:
        """Whether there are different images: neither one manifest under several names, nor one image for several platforms."""
        if len({entry.descriptor.digest for entry in self._entries}) == 1:
            return False
        names = {entry.image_name or entry.reference_name for entry in self._entries}
        if names != {None}:
            return (
                len({entry.image_name or entry.reference_name or entry.descriptor.digest for entry in self._entries})
                > 1
            )
        platforms = [entry.platform or self._platform(entry) for entry in self._entries]
        return None in platforms or len({platform.normalized() for platform in platforms if platform}) < len(platforms)

    def _choose(self, entries: Sequence[IndexEntry], platform: Platform, what: str) -> IndexEntry:
        """The best entry for *platform*. If a descriptor has no platform, that of the image's config counts."""
        if len(entries) > 1:
            entries = [entry if entry.platform else replace(entry, platform=self._platform(entry)) for entry in entries]
        return choose_platform(Index(MEDIA_TYPE_OCI_INDEX, tuple(entries)), platform, what)

    def _platform(self, entry: IndexEntry) -> Platform | None:
        """The platform in an image's config; None if it is not an image (a signature, for example) or is missing."""
        what = f"{entry.descriptor.digest} in {self._path}"
        try:
            manifest = self._manifest(entry.descriptor, what)
            if isinstance(manifest, Manifest):
                return parse_config(self._blob(manifest.config, MAX_CONFIG_BYTES), what).platform
        except (ManifestError, SourceError):
            return None
        return None

    def _manifest(self, descriptor: Descriptor, what: str) -> Manifest | Index:
        content = self._blob(descriptor, MAX_MANIFEST_BYTES)
        return parse_manifest(content, descriptor.media_type, what, by_descriptor=True)

    def _blob(self, descriptor: Descriptor, limit: int) -> bytes:
        name = _blob_name(descriptor.digest)
        content = read_file(self._files, name, limit, str(self._path))
        found = digest_of(content)
        if found != descriptor.digest:
            raise DigestMismatchError(f"{self._path}: {name} is damaged: expected {descriptor.digest}, found {found}")
        if len(content) != descriptor.size:
            raise ContentError(f"{self._path}: {name} has {len(content)} bytes, its descriptor says {descriptor.size}")
        return content

    def _shown_names(self) -> str:
        names = [_shown(entry) for entry in self._entries]
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        return ", ".join(names[:_SHOWN_NAMES]) + more


def _blob_name(digest: Digest) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


def _shown(entry: IndexEntry) -> str:
    return (entry.image_name or entry.reference_name or entry.descriptor.digest)[:200]


def _full_name(entry: IndexEntry) -> Reference | None:
    """The full reference of the image for the store. A lone tag (``latest``) does not count, though it would parse."""
    for text in (entry.image_name, entry.reference_name):
        if text and ("/" in text or ":" in text) and (name := _reference_or_none(text)) is not None:
            return name if name.digest is None else None
    return None


def _reference_or_none(text: str) -> Reference | None:
    try:
        return parse_reference(text)
    except InvalidReferenceError:
        return None
