"""Archives that are injected: members of any kind onto a tree, and the manifests of archives and bases."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache

from drypoint.errors import ContentError, DrypointError
from drypoint.etch import EtchReader, EtchWriter, Injection, Manifest, manifest_text, parse_manifest
from drypoint.etch.base_manifest import _Document, parse_base_manifest
from drypoint.fstree import Directory, HardLink, Metadata, Regular, Symlink
from drypoint.injection.members import Injector
from drypoint.sinks import MemoryTree
from drypoint.sinks.tar import END_OF_ARCHIVE, entry_header, padding
from drypoint.stores import detect

from .material import pieces, with_checksums
from .target import PropertyError, Target

_NAME = "archive"
_MOST_BYTES = 1 << 20


class _Tree(MemoryTree):
    """A partition in memory, which can be asked what is there."""

    def is_directory(self, path: bytes) -> bool | None:
        found = self.lookup(path)
        return None if found is None else isinstance(found.entry, Directory)


def inject_any_archive(data: bytes) -> None:
    """Members go into a tree of their partition and nowhere else, and what is not to be replaced stays."""
    overwrite = data[:1] == b"O"
    reader = EtchReader(pieces(with_checksums(data[1:]), 700), _NAME)
    for _ in reader.image():
        pass
    known = {} if reader.manifest is None else {one.directory: one for one in reader.manifest.injections}
    trees: dict[bytes, _Tree] = {}
    injectors: dict[bytes, Injector] = {}
    for member, content in reader.members():
        if isinstance(member.entry, Regular) and member.entry.size > _MOST_BYTES:
            # A sparse file's holes cost the tree memory, which no sink on a disk would take.
            continue
        if member.directory not in trees:
            trees[member.directory] = tree = _partition()
            injectors[member.directory] = Injector(
                tree, "partition", known.get(member.directory), 0, settle=False, overwrite=overwrite, present={},
                store=detect(b""),
            )  # fmt: skip
        injectors[member.directory].take(member, content)
    for directory, tree in trees.items():
        found = tree.lookup(b"kept")
        may_go = overwrite or directory in known
        if not may_go and b"DRYPOINT" not in data and (found is None or tree.content(b"kept") != b"as it was"):
            raise PropertyError("a file was replaced that nobody said may be")
        outside = tree.lookup(b"outside")
        if outside is None and not may_go and b"DRYPOINT" not in data:
            raise PropertyError("a symbolic link is gone")


def _partition() -> _Tree:
    tree = _Tree()
    tree.add(Directory(b"d", Metadata(0o755)))
    tree.add(Regular(b"kept", Metadata(0o644), 9), (b"as it was",))
    tree.add(Symlink(b"outside", Metadata(0o777), b"/etc"))
    return tree


def _by_hand(metadata: Metadata, above: bytes) -> bytes:
    return b"".join(
        (
            entry_header(Regular(b"./image.img", metadata, 3)) + b"img" + padding(3),
            entry_header(Directory(above + b"inject", metadata)),
            entry_header(Directory(above + b"inject/6", metadata)),
            entry_header(Directory(above + b"inject/6/d/new", metadata)),
            entry_header(Regular(above + b"inject/6/d/f", metadata, 5)) + b"hello" + padding(5),
            entry_header(HardLink(above + b"inject/6/h", above + b"inject/6/d/f")),
            entry_header(Symlink(above + b"inject/6/s", metadata, b"d")),
            END_OF_ARCHIVE,
        )
    )


@cache
def _archives() -> tuple[bytes, ...]:
    metadata = Metadata(0o644, 1, 2, 1_600_000_000_000_000_001, ((b"user.a", b"1"),))
    out = io.BytesIO()
    writer = EtchWriter(out.write, 1_600_000_000)
    writer.manifest(
        Manifest("image", (Injection(b"6", 6, "label", replace=frozenset((b"kept",))),), 1, "0", 1_600_000_000, 3)
    )
    writer.image(b"image", 3, (b"img",))
    sink = writer.sink(b"6")
    sink.add(Directory(b"e", metadata))
    sink.add(Regular(b"e/f", metadata, 1), (b"x",))
    sink.amend(b"e/f", Metadata(0o600))
    sink.remove(b"e/f")
    sink.add(Regular(b"kept", metadata, 0), ())
    sink.settle(b"e")
    sink.amend(b"e", Metadata(0o700))
    sink.finish()
    writer.finish()
    # tar strips the first slash of an absolute path, and keeps the rest.
    return _by_hand(metadata, b""), _by_hand(metadata, b"home/inject/"), out.getvalue()


def read_any_manifest(data: bytes) -> None:
    if data[:1] == b"B":
        known = parse_base_manifest(data[1:], _NAME)
        if known.block_size <= 0:
            raise PropertyError("a block without bytes")
        return
    manifest = parse_manifest(data[1:], _NAME)
    if parse_manifest(manifest_text(manifest), _NAME) != manifest:
        raise PropertyError("the manifest reads back as another")


def _manifests() -> Iterator[bytes]:
    import msgspec

    yield b'M{"image": "registry/image", "inject": [{"partition": 6, "partitionName": "resin-data", "inject": 6}]}'
    start = _archives()[-1].index(b"{")
    yield b"M" + _archives()[-1][start:].partition(b"\0")[0]
    store = msgspec.Raw(detect(b"docker").unread().dump())
    yield b"B" + msgspec.json.encode(_Document(1, 6, "resin-data", 4096, 1000, 10, store))


TARGETS = (
    Target(
        "etch",
        inject_any_archive,
        lambda: (kind + archive for archive in _archives() for kind in (b"O", b"-")),
        ("drypoint.etch", "drypoint.layers"),
        (DrypointError,),
        longest=8192,
        tokens=(b"inject/6/", b"../", b"DRYPOINT.before", b"remove inject/6/", b"DRYPOINT.amend", b"SCHILY.xattr."),
    ),
    Target(
        "etch_manifest",
        read_any_manifest,
        _manifests,
        ("drypoint.etch",),
        (ContentError,),
        tokens=(b'"inject":', b'"partition":', b'"replace":', b'"store":'),
    ),
)
