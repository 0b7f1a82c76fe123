"""Images in archives of ``docker save``, of any engine version, and of podman, buildx, kaniko and Bazel.

Format: moby, image/tarexport: ``manifest.json`` lists configs, names and layers by member name. Up to 24 the layers are
``ID/layer.tar``, symbolic links if two images share one; from 25 on ``blobs/sha256/…``. As with ``docker load``, images are
stored by their tags alone, without a manifest digest and without a record of a registry.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..digest import Digest
from ..errors import (
    ImageNotFoundError,
    InvalidReferenceError,
    ManifestError,
    SourceError,
    UsageError,
)
from ..go_json import JsonError, decode_go
from ..oci import Config, Descriptor, Image, Layer, Platform, Reference, assemble_layers, parse_config, parse_reference
from ..oci.manifest import MAX_CONFIG_BYTES, MAX_LAYERS, MAX_MANIFEST_BYTES
from .archive import open_files, read_file
from .hints import blob_hint

_MAX_IMAGES = 1024
_SHOWN_NAMES = 10
_PLAIN_TAR = "application/vnd.docker.image.rootfs.diff.tar"
_GZIP_TAR = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_NAMED_BY_DIGEST = re.compile(r"(?:.*/)?(?:sha256:)?([a-f0-9]{64})(?:\.json)?")


class _RawItem(msgspec.Struct, rename="pascal"):
    config: str = ""
    layers: list[str] | None = None
    repo_tags: list[str] | None = None


class _Item(msgspec.Struct, frozen=True):
    """One image of the archive; ``layers`` are member names, base first."""

    config: Config
    layers: tuple[str, ...]
    names: tuple[Reference, ...]


class DockerArchiveSource:
    """An :class:`~drypoint.sources.ImageSource` of one archive: an uncompressed tar, or a directory it was unpacked into.

    Args:
        path: the archive.
        image: selects one image: one of its RepoTags, its image id, or ``@N``, the N-th from 0. None with *name* given means
            the only one.
        name: the name of that image in the store, in place of the archive's.

    Raises:
        SourceError: *path* cannot be read or is not such an archive; ImageNotFoundError if *image* is not in it.
        ContentError: it is malformed, or a config is damaged.
        UsageError: *name* is given without *image*, and there are several images.
    """

    def __init__(self, path: Path, image: str | None = None, name: Reference | None = None) -> None:
        self._path = path
        self._files = open_files(path)
        try:
            items = self._read_items()
            if image is not None:
                items = (self._chosen(items, image),)
            if name is not None:
                if len(items) > 1:
                    raise UsageError(f"{path} holds several images: {_shown(items)}; say which one, as PATH:IMAGE")
                items = (_Item(items[0].config, items[0].layers, (name,)),)
        except BaseException:
            self._files.close()
            raise
        self._items = items
        self._members: dict[Digest, str] = {}

    @property
    def references(self) -> tuple[Reference, ...]:
        """The names that can be resolved, in the archive's order; with *image*, the names of that image.

        Raises:
            UsageError: no image has a name.
        """
        names = tuple(dict.fromkeys(name for item in self._items for name in item.names))
        if not names:
            raise UsageError(
                f"{self._path} has no name for its image: give it one, as NAME:TAG=docker-archive:{self._path}"
            )
        return names

    def resolve(self, reference: Reference, platform: Platform) -> Image:
        """See :class:`~drypoint.sources.ImageSource`. An archive has one platform a name, so *platform* is ignored.

        As after ``docker load``, the image is stored by *reference* alone. A reference with a manifest digest is never found,
        because the archive has no such digests.
        """
        # Of several images with one name the last wins, as when they are loaded one after another.
        item = next((item for item in reversed(self._items) if reference in item.names), None)
        if item is None:
            why = "; archives of docker save have no manifest digests" if reference.digest else ""
            raise ImageNotFoundError(f"{self._path} holds no image {reference}{why}; it has {_shown(self._items)}")
        what = f"{reference} in {self._path}"
        blobs = tuple(
            self._descriptor(member, diff_id) for member, diff_id in zip(item.layers, item.config.diff_ids, strict=True)
        )
        return Image((reference,), item.config, assemble_layers(item.config, blobs, what, distributable=False))

    def open_layer(self, image: Image, layer: Layer) -> Iterator[bytes]:
        """See :class:`~drypoint.sources.BlobSource`."""
        member = self._members.get(layer.blob.digest)
        if member is None:
            raise SourceError(f"{self._path} lacks the layer {layer.blob.digest} of {image.references[0]}")
        return self._files.stream(member)

    def uncompressed_hint(self, image: Image, layer: Layer) -> int | None:
        """See :class:`~drypoint.sources.SizeHints`."""
        member = self._members.get(layer.blob.digest)
        if member is None:
            return None
        return blob_hint(layer.blob.size, lambda offset, size: self._files.part(member, offset, size))

    def close(self) -> None:
        self._files.close()

    def _read_items(self) -> tuple[_Item, ...]:
        if self._files.size("manifest.json") is None:
            hint = "; it is an OCI image layout: use oci:" if self._files.size("index.json") is not None else ""
            raise SourceError(f"{self._path} is not an archive of docker save: there is no manifest.json{hint}")
        content = read_file(self._files, "manifest.json", MAX_MANIFEST_BYTES, str(self._path))
        try:
            raw_items = decode_go(content, list[_RawItem], first=True)
        except JsonError as error:
            raise ManifestError(f"{self._path}: manifest.json is not well formed: {error}") from error
        if not raw_items:
            raise ImageNotFoundError(f"{self._path} holds no image")
        if len(raw_items) > _MAX_IMAGES:
            raise ManifestError(f"{self._path}: manifest.json lists {len(raw_items)} images, more than {_MAX_IMAGES}")
        return tuple(self._item(raw, number) for number, raw in enumerate(raw_items))

    def _item(self, raw: _RawItem, number: int) -> _Item:
        what = f"image {number} of {self._path}"
        layers = raw.layers or []
        if len(layers) > MAX_LAYERS:
            raise ManifestError(f"{what} has {len(layers)} layers, more than {MAX_LAYERS}")
        if not raw.config:
            raise ManifestError(f"{what}: manifest.json names no Config for it")
        # The image id is the digest of the content, whatever the file's name, as for docker load.
        config = parse_config(read_file(self._files, raw.config, MAX_CONFIG_BYTES, what), what)
        if len(layers) != len(config.diff_ids):
            raise ManifestError(
                f"{what}: it has {len(layers)} layers but its config has {len(config.diff_ids)} diff_ids"
            )
        try:
            names = tuple(parse_reference(tag) for tag in raw.repo_tags or ())
        except InvalidReferenceError as error:
            raise ManifestError(f"{what}: RepoTags: {error}") from error
        if digests := [str(name) for name in names if name.digest is not None]:
            raise ManifestError(f"{what}: RepoTags has {digests[0]}, which is a name by digest and not by tag")
        return _Item(config, tuple(layers), names)

    def _chosen(self, items: tuple[_Item, ...], image: str) -> _Item:
        number = image[1:] if image.startswith("@") else ""
        if number.isdecimal() and len(number) < 6:
            found = items[int(number) : int(number) + 1]
        elif image.removeprefix("sha256:") in {item.config.image_id[7:] for item in items}:
            found = tuple(item for item in items if item.config.image_id[7:] == image.removeprefix("sha256:"))[:1]
        else:
            wanted = parse_reference(image)
            found = tuple(
                _Item(item.config, item.layers, (wanted,)) for item in reversed(items) if wanted in item.names
            )[:1]
        if not found:
            raise ImageNotFoundError(f"{self._path} holds no image {image!r}; it has {_shown(items)}")
        return found[0]

    def _descriptor(self, member: str, diff_id: Digest) -> Descriptor:
        """The descriptor of the layer's bytes.

        For a bare tar the digest is the diff-id. For a compressed member it is the member's name in ``blobs/sha256/``;
        elsewhere it is computed, and only the diff-id protects the content.
        """
        size = self._files.size(member)
        if size is None:
            raise SourceError(f"{self._path} lacks the layer {member}")
        first = next(self._files.stream(member), b"")
        digest = diff_id
        if _is_compressed(first):
            named = _NAMED_BY_DIGEST.fullmatch(member) if member.startswith("blobs/sha256/") else None
            digest = Digest(f"sha256:{named[1]}") if named is not None else self._digest(member)
        self._members[digest] = member
        return Descriptor(_PLAIN_TAR if digest == diff_id else _GZIP_TAR, digest, size)

    def _digest(self, member: str) -> Digest:
        hasher = hashlib.sha256()
        for chunk in self._files.stream(member):
            hasher.update(chunk)
        return Digest("sha256:" + hasher.hexdigest())


def _is_compressed(first: bytes) -> bool:
    """Whether the content has a compression that a layer reader decompresses or refuses by name; false for a bare tar."""
    return first.startswith((b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\x00")) or (
        first[1:4] == b"\x2a\x4d\x18" and first[:1] != b"" and 0x50 <= first[0] <= 0x5F
    )


def _shown(items: tuple[_Item, ...]) -> str:
    names = [", ".join(map(str, item.names)) or item.config.image_id for item in items]
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more
