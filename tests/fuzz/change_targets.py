"""What a layer's changes do to a tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drypoint.errors import LayerError
from drypoint.fstree import BlockDevice, CharDevice, Content, Directory, Fifo, Metadata, Regular, Symlink
from drypoint.layers import Add, Change, Link, Opaque, Whiteout
from drypoint.sinks import MemoryTree
from drypoint.stores.overlay2 import apply_changes

from .material import Material
from .target import PropertyError, Target

_NAMES = (b"a", b"b", b"c", b"dir", b"l", b".wh.a", b".wh..wh..opq", b"n" * 255)
_TARGETS = (b"a", b"b", b"dir", b"../a", b"/dir/b", b".", b"..", b"/", b"l", b"dir/../dir/l", b"a/", b"x" * 4095)
_XATTRS = (
    (),
    ((b"user.a", b"1"),),
    ((b"security.capability", bytes(3) + b"\2" + bytes(16)), (b"trusted.overlay.opaque", b"y"), (b"user.b", b"")),
    (
        (
            b"system.posix_acl_access",
            b"\2\0\0\0\1\0\7\0\xff\xff\xff\xff\4\0\5\0\xff\xff\xff\xff\x20\0\5\0\xff\xff\xff\xff",
        ),
    ),
    (
        (
            b"system.posix_acl_default",
            b"\2\0\0\0\1\0\7\0\xff\xff\xff\xff\4\0\5\0\xff\xff\xff\xff\x20\0\5\0\xff\xff\xff\xff",
        ),
    ),
)
_ROOT = b"diff"


def apply_any_changes(data: bytes) -> None:
    """What a layer asks for breaks no rule of the sink, and nothing happens outside the layer's own directory."""
    sink = MemoryTree()
    sink.add(Directory(_ROOT, Metadata(0o755)))
    sink.add(Directory(b"beside", Metadata(0o700)))
    applied = apply_changes(_changes(Material(data)), sink, _ROOT, 1_600_000_000_000_000_000)
    outside = [found for found in sink.walk() if not found.entry.path.startswith(_ROOT + b"/")]
    if [found.entry.path for found in outside] != [b"beside", _ROOT]:
        raise PropertyError(f"{outside} outside of the layer")
    inside = {found.inode: found for found in sink.walk() if found.entry.path.startswith(_ROOT + b"/")}
    if len(inside) > applied.inodes:
        raise PropertyError(f"{len(inside)} inodes, but {applied.inodes} are counted")


def _changes(material: Material) -> Iterator[tuple[Change, Content | None]]:
    for _ in range(64):
        if not material:
            return
        kind = material.number() % 10
        path = b"/".join(material.choice(_NAMES) for _ in range(1 + material.number() % 4))
        metadata = Metadata(
            material.number(2) & 0o7777,
            material.choice((0, 1000, (1 << 32) - 2)),
            material.choice((0, 5)),
            material.choice((0, 1_500_000_000_123_456_789)),
            material.choice(_XATTRS),
        )
        content: Content | None = None
        change: Change
        match kind:
            case 0 | 1:
                size = material.number() % 40
                change, content = Add(Regular(path, metadata, size)), (bytes(size),)
            case 2:
                change = Add(Directory(b"" if material.number() > 250 else path, metadata))
            case 3:
                change = Add(Symlink(path, metadata, material.choice(_TARGETS)))
            case 4:
                change = Add(CharDevice(path, metadata, material.choice((0, 1)), material.choice((0, 3))))
            case 5:
                change = Add(BlockDevice(path, metadata, 8, 1))
            case 6:
                change = Add(Fifo(path, metadata))
            case 7:
                target = b"/".join(material.choice(_NAMES) for _ in range(material.number() % 4))
                change = Link(path, target, metadata)
            case 8:
                change = Whiteout(path, Metadata(0, metadata.uid, metadata.gid, metadata.mtime))
            case _:
                change = Opaque(b"" if material.number() > 250 else path)
        yield change, content


def _change_lists() -> Iterable[bytes]:
    for kind in range(10):
        change = bytes([kind, 0, kind % 5, 0, 1, 0, 0, 0, kind % 5, 2])
        yield change
        yield bytes([2, 0, 3, 0, 1, 0, 0, 0, 0, 0]) + bytes([kind, 1, 3, 1, 0, 1, 0, 0, 0, 0, 1]) + change
        yield bytes([3, 0, 4, 0, 1, 0, 0, 0, 0, 2]) + bytes([kind, 1, 4, 1, 0, 1, 0, 0, 0, 0, 1]) + change


TARGETS = (Target("changes", apply_any_changes, _change_lists, ("drypoint.stores.overlay2",), (LayerError,)),)
