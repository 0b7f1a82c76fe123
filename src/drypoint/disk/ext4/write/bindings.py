"""libext2fs through cffi's ABI mode: no compiler, no headers, loaded on first use.

``_libext2fs`` has the declarations in the format of cffi's backend; ``scripts/libext2fs_declarations.py`` makes it from C.
Parsing the C at every start would take longer than everything else here.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

import msgspec

from ....errors import FilesystemError, ToolError

# Calls for each entry. cffi releases the interpreter lock for each call; while another thread runs Python code, getting it back
# can take a thousand times longer than such a call. ctypes.PyDLL keeps it.
_SHORT_CALLS = {
    "ext2fs_new_inode": (
        ctypes.c_long, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32)
    ),
    "ext2fs_inode_table_loc": (ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint32),
    "io_channel_read_blk64": (ctypes.c_long, ctypes.c_void_p, ctypes.c_ulonglong, ctypes.c_int, ctypes.c_void_p),
    "io_channel_write_blk64": (ctypes.c_long, ctypes.c_void_p, ctypes.c_ulonglong, ctypes.c_int, ctypes.c_void_p),
    "ext2fs_flush_icache": (ctypes.c_long, ctypes.c_void_p),
    "ext2fs_mark_block_bitmap_range2": (None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint),
    "ext2fs_bg_free_inodes_count": (ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32),
    "ext2fs_bg_free_inodes_count_set": (None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32),
    "ext2fs_bg_used_dirs_count": (ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32),
    "ext2fs_bg_used_dirs_count_set": (None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32),
    "ext2fs_inode_alloc_stats2": (None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_int),
    "ext2fs_dirhash": (
        ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p,
        ctypes.POINTER(ctypes.c_uint32), ctypes.POINTER(ctypes.c_uint32),
    ),
}  # fmt: skip

EXT2_FLAG_RW = 0x01
EXT2_FLAG_CHANGED = 0x02
EXT2_FLAG_DIRTY = 0x04
EXT2_FLAG_64BITS = 0x20000
EXT2_FLAG_FLUSH_NO_SYNC = 1

# Codes of ext2_err.et: those that mark structures, and errors that callers distinguish.
EXT2_ET_BASE = 2133571328
EXT2_ET_MAGIC_IO_CHANNEL = EXT2_ET_BASE + 5
EXT2_ET_MAGIC_IO_MANAGER = EXT2_ET_BASE + 7
EXT2_ET_GDESC_BAD_INODE_TABLE = EXT2_ET_BASE + 26
EXT2_ET_BAD_INODE_NUM = EXT2_ET_BASE + 41
EXT2_ET_INODE_ALLOC_FAIL = EXT2_ET_BASE + 73
EXT2_ET_EXTENT_NO_NEXT = EXT2_ET_BASE + 124
EXT2_ET_EA_NO_SPACE = EXT2_ET_BASE + 163


class Library(msgspec.Struct, frozen=True):
    """The loaded libraries. ``ext2`` and ``ffi`` are cffi objects and stay inside this package.

    ``short`` is libext2fs too, for the few calls that are too short to release the interpreter lock.
    """

    ffi: Any
    ext2: Any
    short: ctypes.PyDLL
    com_err: Any

    def check(self, code: int, doing: str) -> None:
        """Raise an error for the library's error code; *doing* starts the message.

        Raises:
            FilesystemError: *code* is not 0.
        """
        if code:
            raise FilesystemError(f"{doing}: {self.message(code)}")

    def message(self, code: int) -> str:
        """The library's message for *code*."""
        return bytes(self.ffi.string(self.com_err.error_message(code))).decode("utf-8", "replace")


@functools.cache
def library() -> Library:
    """Load libext2fs and libcom_err, once.

    Raises:
        ToolError: a library is missing, or this machine is big-endian.
    """
    if sys.byteorder != "little":
        raise ToolError("writing ext4 needs a little-endian machine, and this one is big-endian")
    from ._libext2fs import ffi

    ext2 = _open(ffi, "libext2fs.so.2", "libext2fs2")
    com_err = _open(ffi, "libcom_err.so.2", "libcom-err2")
    ext2.initialize_ext2_error_table()
    short = ctypes.PyDLL("libext2fs.so.2")
    for name, (result, *arguments) in _SHORT_CALLS.items():
        function = getattr(short, name)
        function.restype, function.argtypes = result, arguments
    return Library(ffi, ext2, short, com_err)


def _open(ffi: Any, soname: str, package: str) -> Any:
    try:
        return ffi.dlopen(soname)
    except OSError as error:
        raise ToolError(
            f"the library {soname} cannot be loaded ({error}); on Debian and Ubuntu it is in the package {package}"
            + ("" if package == "libcom-err2" else " (libext2fs2t64 in newer releases)")
        ) from error
