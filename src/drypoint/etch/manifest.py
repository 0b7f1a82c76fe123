"""manifest.json, the first member of an .etch archive.

The first keys are those of the format's first description, ``{"image": …, "inject": [{"partition": 6, "partitionName":
"resin-data", "inject": 6}]}``; ``format`` and all others are drypoint's. docs/etch.md describes every key.
"""

from __future__ import annotations

import re

import msgspec

from ..decoders import json_decoder
from ..digest import Digest, parse_digest
from ..disk.ext4 import LATEST_NOW
from ..errors import ContentError, UsageError
from ..fstree import clean_path

FORMAT = 1
MAX_BYTES = 16 << 20
_MAX_NUMBER = 1 << 62
_DIRECTORY = re.compile(r"[^/\0]{1,255}")


class PackedImage(msgspec.Struct, frozen=True):
    """An image that the store has after injecting, with all its names."""

    image_id: Digest
    references: tuple[str, ...]
    diff_ids: tuple[Digest, ...]


class SpaceNeeded(msgspec.Struct, frozen=True):
    """The space that the members need: *size* bytes in blocks, and *inodes*; an estimate if layers are compressed."""

    size: int
    inodes: int
    estimated: bool


class PackedStore(msgspec.Struct, frozen=True):
    """The engine's store that the members create or extend.

    Attributes:
        data_root: a clean path in the partition.
        images: all requested images.
        layers: chain-ids of the layers in the archive.
    """

    data_root: bytes
    images: tuple[PackedImage, ...] = ()
    layers: tuple[Digest, ...] = ()


class Injection(msgspec.Struct, frozen=True):
    """The changes of one partition. All paths are clean paths in it.

    Attributes:
        directory: its members are in ``inject/<directory>/``.
        partition: its number; None to find it by its label.
        label: its file-system label (or GPT name); empty for any.
        remove: paths that are removed first, in this order.
        space: what must be free then.
        replace: members that replace existing files, if there are any.
        merge: members that hold what other images need too, to be merged with the existing file.
        additional_space: bytes that must be free at the end.
        shrink: whether unused space beyond that is given back.
    """

    directory: bytes
    partition: int | None
    label: str = ""
    remove: tuple[bytes, ...] = ()
    space: SpaceNeeded | None = None
    replace: frozenset[bytes] = frozenset()
    merge: frozenset[bytes] = frozenset()
    additional_space: int = 0
    shrink: bool = False
    store: PackedStore | None = None


class Manifest(msgspec.Struct, frozen=True):
    """The content of manifest.json.

    Attributes:
        image: the name of the disk image.
        injections: one for each directory in ``inject/``.
        format: the version of drypoint's format; None in a manifest that is not drypoint's.
        program: the version of drypoint that made it.
        timestamp: seconds since the epoch, the time of changes to the file systems; None if missing.
        image_bytes: length of the disk image in the archive.
        image_sha256: its digest, if known.
    """

    image: str
    injections: tuple[Injection, ...]
    format: int | None = None
    program: str = ""
    timestamp: int | None = None
    image_bytes: int | None = None
    image_sha256: Digest | None = None


class _Image(msgspec.Struct, rename="camel"):
    id: str
    references: list[str]
    diff_ids: list[str]


class _Space(msgspec.Struct, rename="camel"):
    bytes: int
    inodes: int
    estimated: bool = True


class _Store(msgspec.Struct, rename="camel"):
    data_root: str
    images: list[_Image] = []
    layers: list[str] = []


class _Injection(msgspec.Struct, rename="camel", omit_defaults=True):
    inject: int | str
    partition: int | str | None = None
    partition_name: str | None = None
    remove: list[str] = []
    space: _Space | None = msgspec.field(default=None, name="room")
    replace: list[str] = []
    merge: list[str] = []
    additional_space: int = 0
    shrink_to_fit: bool = False
    store: _Store | None = None


class _Manifest(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    format: int | None = None
    drypoint: str | None = None
    timestamp: int | None = None
    image: msgspec.Raw = msgspec.Raw(b"null")
    image_bytes: int | None = None
    image_sha256: str | None = None
    inject: list[_Injection]


def manifest_text(manifest: Manifest) -> bytes:
    """The content of manifest.json; equal values give equal bytes.

    Raises:
        UsageError: a path in it is not UTF-8, which JSON cannot express.
    """
    document = _Manifest(
        image=msgspec.Raw(msgspec.json.encode(manifest.image)),
        format=manifest.format,
        drypoint=manifest.program or None,
        timestamp=manifest.timestamp,
        image_bytes=manifest.image_bytes,
        image_sha256=manifest.image_sha256,
        inject=[_raw(one) for one in manifest.injections],
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def parse_manifest(content: bytes, what: str) -> Manifest:
    """Parse manifest.json of the archive *what*.

    Raises:
        ContentError: it is malformed, or of an unknown format.
    """
    try:
        raw = json_decoder(_Manifest).decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ContentError(f"{what}: its manifest.json is not well formed: {error}") from error
    if raw.format is not None and not 1 <= raw.format <= FORMAT:
        raise ContentError(
            f"{what} is of format {raw.format}, and this drypoint supports formats up to {FORMAT}: inject it with a newer one"
        )
    try:
        injections = tuple(_injection(one) for one in raw.inject)
        if len({one.directory for one in injections}) != len(injections):
            raise ValueError("a directory is named twice in its 'inject'")
        image = msgspec.json.decode(raw.image)
        return Manifest(
            image if isinstance(image, str) else "",
            injections,
            raw.format,
            raw.drypoint or "",
            None if raw.timestamp is None else _timestamp(raw.timestamp),
            None if raw.image_bytes is None else _number(raw.image_bytes, "imageBytes"),
            None if raw.image_sha256 is None else parse_digest(raw.image_sha256),
        )
    except (ValueError, ContentError, RecursionError) as error:
        raise ContentError(f"{what}: its manifest.json does not make sense: {error}") from error


def _raw(injection: Injection) -> _Injection:
    directory = _text(injection.directory)
    store = injection.store
    space = injection.space
    return _Injection(
        inject=int(directory) if directory.isdecimal() else directory,
        partition=injection.partition,
        partition_name=injection.label or None,
        remove=[_text(path) for path in injection.remove],
        space=None if space is None else _Space(space.size, space.inodes, space.estimated),
        replace=sorted(_text(path) for path in injection.replace),
        merge=sorted(_text(path) for path in injection.merge),
        additional_space=injection.additional_space,
        shrink_to_fit=injection.shrink,
        store=None
        if store is None
        else _Store(
            _text(store.data_root),
            [_Image(one.image_id, list(one.references), list(one.diff_ids)) for one in store.images],
            list(store.layers),
        ),
    )


def _injection(raw: _Injection) -> Injection:
    directory = str(raw.inject)
    if _DIRECTORY.fullmatch(directory) is None or directory in (".", ".."):
        raise ValueError(f"{directory[:100]!r} is not a name of a directory in inject/")
    partition = raw.partition
    if isinstance(partition, str):
        if not (partition.isascii() and partition.isdecimal() and len(partition) < 10):
            raise ValueError(f"{partition[:100]!r} is not a number of a partition")
        partition = int(partition)
    if partition is None and not raw.partition_name:
        raise ValueError(f"inject/{directory} has neither the number of a partition nor its name")
    store = raw.store
    return Injection(
        directory=directory.encode("utf-8"),
        partition=None if partition is None else _number(partition, "partition"),
        label=raw.partition_name or "",
        remove=tuple(_path(path) for path in raw.remove),
        space=None
        if raw.space is None
        else SpaceNeeded(_number(raw.space.bytes, "room"), _number(raw.space.inodes, "room"), raw.space.estimated),
        replace=frozenset(_path(path) for path in raw.replace),
        merge=frozenset(_path(path) for path in raw.merge),
        additional_space=_number(raw.additional_space, "additionalSpace"),
        shrink=raw.shrink_to_fit,
        store=None
        if store is None
        else PackedStore(
            _path(store.data_root, root=True),
            tuple(
                PackedImage(parse_digest(one.id), tuple(one.references), tuple(map(parse_digest, one.diff_ids)))
                for one in store.images
            ),
            tuple(map(parse_digest, store.layers)),
        ),
    )


def _number(value: int, key: str) -> int:
    if not 0 <= value < _MAX_NUMBER:
        raise ValueError(f"its {key} is {value}")
    return value


def _timestamp(value: int) -> int:
    if _number(value, "timestamp") > LATEST_NOW:
        raise ValueError(f"its timestamp is {value}, and the last second that it can be is {LATEST_NOW}")
    return value


def _path(text: str, *, root: bool = False) -> bytes:
    path = text.encode("utf-8")
    if clean_path(path) != path or not (path or root):
        raise ValueError(f"{text[:200]!r} is not a path from a partition's root")
    return path


def _text(path: bytes) -> str:
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path!r} cannot be named in an archive's manifest, which takes UTF-8 only") from error
