"""Writing extended attributes, in the inode and one additional block, through libext2fs."""

from __future__ import annotations

from ....errors import FilesystemError
from .bindings import EXT2_ET_EA_NO_SPACE
from .filesystem import Ext4Filesystem
from .inode import without_xattrs


def set_xattrs(filesystem: Ext4Filesystem, ino: int, xattrs: tuple[tuple[bytes, bytes], ...], *, path: bytes) -> None:
    """Set the extended attributes *xattrs* of inode *ino*, which has none.

    May take one block, which the caller must have free.

    Raises:
        FilesystemError: they do not fit, or one has a name or value that ext4 cannot hold; the message names *path*.
    """
    filesystem.note_xattrs()
    library = filesystem.library
    handle = library.ffi.new("xattr_handle_t *")
    filesystem.check(library.ext2.ext2fs_xattrs_open(filesystem.handle, ino, handle), f"cannot set xattrs of {path!r}")
    try:
        for name, value in xattrs:
            code = library.ext2.ext2fs_xattr_set(handle[0], name, value, len(value))
            if code == EXT2_ET_EA_NO_SPACE:
                raise FilesystemError(
                    f"{path!r}: the extended attribute {name!r} of {len(value)} bytes does not fit into the inode and one "
                    f"block of {filesystem.block_size} bytes"
                )
            filesystem.check(code, f"cannot set the extended attribute {name!r} of {path!r}")
    finally:
        library.ext2.ext2fs_xattrs_close(handle)


def clear_xattrs(filesystem: Ext4Filesystem, ino: int) -> None:
    """Remove all extended attributes of inode *ino*.

    Raises:
        FilesystemError: its xattr block cannot be read.
    """
    raw = filesystem.free_xattr_block(ino, filesystem.read_inode(ino))
    filesystem.write_inode(ino, without_xattrs(raw))
