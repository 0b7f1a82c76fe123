"""The changes that a layer's tar entries make to the tree of the layers below it.

Format: OCI image-spec, layer.md ("Representing Changes", "Whiteouts"); the engine's implementation is
pkg/archive in moby, with its overlay2 whiteout converter. The engine unpacks in a chroot of the layer's directory, so a name
that climbs above the root ends at the root, as it does for any process.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from ..errors import LayerError
from ..fstree import BlockDevice, CharDevice, Directory, Fifo, Metadata, Regular, Symlink
from .tar import BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, GLOBAL_HEADER, LINK, REGULAR, SYMLINK, TarEntry
from .tarsplit import clean_name
from .xattr import lands

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_MAX_NAME = 255
_MAX_TARGET = 4095
_MAX_PATH = 4000
"""After unpacking, the engine walks the layer by paths from the host's root; Linux accepts paths of up to 4,095 bytes."""
_MAX_TIME = (1 << 63) - 1
_GO_ZERO_TIME = -62_135_596_800 * 1_000_000_000
_UTIME_OMIT_AS_TIME = (1 << 30) - 2
_UNCHANGED_ID = 0xFFFFFFFF
_NUL = 0


class Add(msgspec.Struct, frozen=True, gc=False):
    """Create the entry, with this metadata. Its path is clean, but may lead through symbolic links of the layer.

    A :class:`Directory` with the path ``b""`` holds the metadata of the layer's root.
    """

    entry: Directory | Regular | Symlink | CharDevice | BlockDevice | Fifo


class Link(msgspec.Struct, frozen=True, gc=False):
    """Make ``path`` a hard link to what the same layer has at ``target``.

    ``metadata`` is from the link's own tar header; the engine applies it to the shared inode.
    """

    path: bytes
    target: bytes
    metadata: Metadata


class Whiteout(msgspec.Struct, frozen=True, gc=False):
    """Hide ``path`` of the layers below.

    ``metadata`` holds the owner and time of the ``.wh.`` entry; its mode is 0 and it has no xattrs, like the whiteout device
    that the engine makes (whose time, there, is that of extraction).
    """

    path: bytes
    metadata: Metadata


class Opaque(msgspec.Struct, frozen=True, gc=False):
    """Hide the entries that the directory ``path`` has in the layers below."""

    path: bytes


Change: TypeAlias = Add | Link | Whiteout | Opaque


def change_of(entry: TarEntry, what: str, cleaned: bytes | None = None) -> Change | None:
    """The change that *entry* makes; None if the engine skips it: a global header, or the layer's root spelled ``.``.

    Args:
        cleaned: :func:`~drypoint.layers.tarsplit.clean_name` of its name, if already computed.

    Raises:
        LayerError: the engine would refuse it.
    """
    if entry.typeflag == GLOBAL_HEADER:
        return None
    if cleaned is None:
        cleaned = clean_name(entry.name)
    if cleaned == b".":
        return None
    path = cleaned if cleaned[0] not in b"/." else _from_root(cleaned)
    parent, _, base = path.rpartition(b"/")
    if base.startswith(_WHITEOUT):
        return _whiteout(entry, parent, base, what)
    return _addition(entry, path, what)


def _whiteout(entry: TarEntry, parent: bytes, base: bytes, what: str) -> Whiteout | Opaque:
    if base == _OPAQUE:
        return Opaque(_checked(parent, entry, what))
    name = base[len(_WHITEOUT) :]
    if name in (b"", b".", b".."):
        raise _refusal(entry, what, "a whiteout of a directory itself, where the engine fails with 'file exists'")
    path = parent + b"/" + name if parent else name
    return Whiteout(_checked(path, entry, what), Metadata(0, _owner(entry.uid), _owner(entry.gid), _mtime(entry.mtime)))


def _addition(entry: TarEntry, path: bytes, what: str) -> Add | Link:
    kind = entry.typeflag
    if len(path) > _MAX_NAME or _NUL in path:
        _checked(path, entry, what)
    if not path and kind != DIRECTORY:
        raise _refusal(entry, what, "the layer's root can only be a directory")
    xattrs = _xattrs(entry, what) if entry.xattrs else ()
    metadata = metadata_of(kind == SYMLINK, entry.mode, entry.uid, entry.gid, entry.mtime)
    if xattrs:
        metadata = replace(metadata, xattrs=xattrs)
    if kind == REGULAR:
        return Add(Regular(path, metadata, entry.size))
    if kind == DIRECTORY:
        return Add(Directory(path, metadata))
    if kind == SYMLINK:
        return Add(Symlink(path, metadata, _target(entry, what)))
    if kind == LINK:
        return Link(path, _checked(_from_root(clean_name(entry.linkname)), entry, what), metadata)
    if kind == FIFO:
        return Add(Fifo(path, metadata))
    # The engine packs the numbers into 32 bits, 12 and 20 of them.
    major, minor = entry.major & 0xFFF, entry.minor & 0xFFFFF
    if kind == CHARACTER:
        return Add(CharDevice(path, metadata, major, minor))
    if kind == BLOCK_DEVICE:
        return Add(BlockDevice(path, metadata, major, minor))
    raise _refusal(entry, what, f"tar entries of type {kind!r} are not supported by engines")


@lru_cache(maxsize=1024)
def metadata_of(is_symlink: bool, mode: int, uid: int, gid: int, mtime: int) -> Metadata:
    """The metadata without xattrs, cached: the files of one package share it."""
    if is_symlink:
        # A symbolic link has no mode of its own, and the call that sets its time has other limits.
        return Metadata(0o777, _owner(uid), _owner(gid), _link_mtime(mtime))
    return Metadata(mode & 0o7777, _owner(uid), _owner(gid), _mtime(mtime))


def _from_root(cleaned: bytes) -> bytes:
    """A cleaned name as a path below the root; ``..`` at the root is the root."""
    path = cleaned.removeprefix(b"/")
    while path == b".." or path.startswith(b"../"):
        path = path[3:]
    return b"" if path == b"." else path


def _checked(path: bytes, entry: TarEntry, what: str) -> bytes:
    """*path*, if the kernel would accept it."""
    if len(path) > _MAX_PATH or (len(path) > _MAX_NAME and any(len(part) > _MAX_NAME for part in path.split(b"/"))):
        raise _refusal(
            entry, what, f"a name over {_MAX_NAME} bytes or a path over {_MAX_PATH}, which Linux does not take"
        )
    if _NUL in path:
        raise _refusal(entry, what, "its name has a NUL byte in it")
    return path


def _target(entry: TarEntry, what: str) -> bytes:
    if not entry.linkname:
        raise _refusal(entry, what, "a symbolic link with an empty target")
    if len(entry.linkname) > _MAX_TARGET:
        raise _refusal(entry, what, f"a symbolic link's target of {len(entry.linkname)} bytes, more than {_MAX_TARGET}")
    return entry.linkname


def _owner(number: int) -> int:
    """The kernel uses 32 bits of it, and -1 keeps the owner: root, for an inode just created."""
    low = number & 0xFFFFFFFF
    return 0 if low == _UNCHANGED_ID else low


def _mtime(nanoseconds: int) -> int:
    """Times that do not fit 63 bits of nanoseconds, and those before the epoch, become the epoch (moby, pkg/system)."""
    return nanoseconds if 0 <= nanoseconds <= _MAX_TIME else 0


def _link_mtime(nanoseconds: int) -> int:
    """A symbolic link keeps times before the epoch; what does not fit 64 bits wraps around, as it does in Go."""
    if nanoseconds == _GO_ZERO_TIME:
        return _UTIME_OMIT_AS_TIME
    return (nanoseconds + (1 << 63)) % (1 << 64) - (1 << 63)


def _xattrs(entry: TarEntry, what: str) -> tuple[tuple[bytes, bytes], ...]:
    kind = entry.typeflag
    # The kind of a hard link's inode is not known here; it is nearly always a regular file.
    user, directory, symlink = kind in (REGULAR, DIRECTORY, LINK), kind == DIRECTORY, kind == SYMLINK
    try:
        return tuple(
            (name, value)
            for name, value in entry.xattrs
            if lands(name, value, is_directory=directory, is_symlink=symlink, has_user_namespace=user)
        )
    except ValueError as error:
        raise _refusal(entry, what, str(error)) from error


def _refusal(entry: TarEntry, what: str, why: str) -> LayerError:
    return LayerError(f"{what}: entry {entry.name[:300]!r}: {why}")
