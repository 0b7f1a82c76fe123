"""libext2fs through cffi's ABI mode: no compiler, no headers, loaded on first use.

Declarations and struct layouts are those of ext2fs.h in e2fsprogs 1.43 to 1.47 (the layout of the fields named here has not
changed since). Functions that the header only offers inline are reached through the exported functions they call.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass
from typing import Any

from ...errors import FilesystemError, ToolError

_DECLARATIONS = """
typedef long errcode_t;
typedef uint32_t ext2_ino_t;
typedef uint64_t blk64_t;
typedef struct struct_ext2_filsys *ext2_filsys;
typedef struct ext2fs_struct_generic_bitmap_base *ext2fs_generic_bitmap;
typedef struct ext2_xattr_handle *xattr_handle_t;
typedef struct ext2_extent_handle *ext2_extent_handle_t;

struct ext2fs_extent {
    blk64_t e_pblk;
    blk64_t e_lblk;
    uint32_t e_len;
    uint32_t e_flags;
};

typedef struct struct_io_manager *io_manager;
typedef struct struct_io_channel *io_channel;
typedef struct struct_io_stats *io_stats;

struct struct_io_stats {
    int num_fields;
    int reserved;
    unsigned long long bytes_read;
    unsigned long long bytes_written;
};

struct struct_io_channel {
    errcode_t magic;
    io_manager manager;
    char *name;
    int block_size;
    void *read_error;
    void *write_error;
    int refcount;
    unsigned int flags;
    long reserved[14];
    void *private_data;
    void *app_data;
    int align;
};

struct struct_io_manager {
    errcode_t magic;
    const char *name;
    errcode_t (*open)(const char *name, int flags, io_channel *channel);
    errcode_t (*close)(io_channel channel);
    errcode_t (*set_blksize)(io_channel channel, int blksize);
    errcode_t (*read_blk)(io_channel channel, unsigned long block, int count, void *data);
    errcode_t (*write_blk)(io_channel channel, unsigned long block, int count, const void *data);
    errcode_t (*flush)(io_channel channel);
    errcode_t (*write_byte)(io_channel channel, unsigned long offset, int count, const void *data);
    void *set_option;
    errcode_t (*get_stats)(io_channel channel, io_stats *stats);
    errcode_t (*read_blk64)(io_channel channel, unsigned long long block, int count, void *data);
    errcode_t (*write_blk64)(io_channel channel, unsigned long long block, int count, const void *data);
    void *discard;
    void *cache_readahead;
    errcode_t (*zeroout)(io_channel channel, unsigned long long block, unsigned long long count);
    long reserved[14];
};

struct struct_ext2_filsys {
    errcode_t magic;
    void *io;
    int flags;
    char *device_name;
    uint32_t *super;
    unsigned int blocksize;
    int fragsize;
    uint32_t group_desc_count;
    unsigned long desc_blocks;
    void *group_desc;
    unsigned int inode_blocks_per_group;
    ext2fs_generic_bitmap inode_map;
    ext2fs_generic_bitmap block_map;
    void *callbacks[5];
    void *badblocks;
    void *dblist;
    uint32_t stride;
    void *orig_super;
    void *image_header;
    uint32_t umask;
    long now;
};

extern void *unix_io_manager;

errcode_t ext2fs_open2(const char *name, const char *io_options, int flags, int superblock, unsigned int block_size,
                       void *manager, ext2_filsys *ret_fs);
errcode_t ext2fs_read_bitmaps(ext2_filsys fs);
errcode_t ext2fs_close2(ext2_filsys fs, int flags);
void ext2fs_free(ext2_filsys fs);

errcode_t ext2fs_read_inode_full(ext2_filsys fs, ext2_ino_t ino, void *inode, int bufsize);
int ext2fs_inode_has_valid_blocks2(ext2_filsys fs, void *inode);

errcode_t ext2fs_find_first_zero_generic_bmap(ext2fs_generic_bitmap bitmap, uint64_t start, uint64_t end, uint64_t *out);
errcode_t ext2fs_find_first_set_generic_bmap(ext2fs_generic_bitmap bitmap, uint64_t start, uint64_t end, uint64_t *out);
void ext2fs_block_alloc_stats_range(ext2_filsys fs, blk64_t blk, uint32_t num, int inuse);
errcode_t ext2fs_bmap2(ext2_filsys fs, ext2_ino_t ino, void *inode, char *block_buf, int bmap_flags, blk64_t block,
                       int *ret_flags, blk64_t *phys_blk);
errcode_t ext2fs_extent_open2(ext2_filsys fs, ext2_ino_t ino, void *inode, ext2_extent_handle_t *handle);
errcode_t ext2fs_extent_get(ext2_extent_handle_t handle, int flags, struct ext2fs_extent *extent);
void ext2fs_extent_free(ext2_extent_handle_t handle);
errcode_t ext2fs_punch(ext2_filsys fs, ext2_ino_t ino, void *inode, char *block_buf, blk64_t start, blk64_t end);
errcode_t ext2fs_read_dir_block4(ext2_filsys fs, blk64_t block, void *buf, int flags, ext2_ino_t ino);

errcode_t ext2fs_xattrs_open(ext2_filsys fs, ext2_ino_t ino, xattr_handle_t *handle);
errcode_t ext2fs_xattr_set(xattr_handle_t handle, const char *name, const void *value, size_t value_len);
errcode_t ext2fs_xattrs_close(xattr_handle_t *handle);
errcode_t ext2fs_free_ext_attr(ext2_filsys fs, ext2_ino_t ino, void *inode);

void initialize_ext2_error_table(void);
"""

# Calls for every single entry. cffi gives up the interpreter lock for each call; while another thread runs Python code, getting
# it back can take a thousand times longer than such a call. ctypes.PyDLL keeps it.
_SHORT_CALLS = {
    "ext2fs_new_inode": (
        ctypes.c_long, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32)
    ),
    "ext2fs_inode_csum_set": (ctypes.c_long, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p),
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
    "ext2fs_crc32c_le": (ctypes.c_uint32, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_size_t),
    "ext2fs_dirhash": (
        ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p,
        ctypes.POINTER(ctypes.c_uint32), ctypes.POINTER(ctypes.c_uint32),
    ),
}  # fmt: skip

_COM_ERR_DECLARATIONS = "const char *error_message(long code);"

EXT2_FLAG_RW = 0x01
EXT2_FLAG_CHANGED = 0x02
EXT2_FLAG_DIRTY = 0x04
EXT2_FLAG_64BITS = 0x20000
EXT2_FLAG_FLUSH_NO_SYNC = 1

# Codes of ext2_err.et: those that mark structures, and errors that callers tell apart.
EXT2_ET_BASE = 2133571328
EXT2_ET_MAGIC_IO_CHANNEL = EXT2_ET_BASE + 5
EXT2_ET_MAGIC_IO_MANAGER = EXT2_ET_BASE + 7
EXT2_ET_GDESC_BAD_INODE_TABLE = EXT2_ET_BASE + 26
EXT2_ET_BAD_INODE_NUM = EXT2_ET_BASE + 41
EXT2_ET_INODE_ALLOC_FAIL = EXT2_ET_BASE + 73
EXT2_ET_EXTENT_NO_NEXT = EXT2_ET_BASE + 124
EXT2_ET_EA_NO_SPACE = EXT2_ET_BASE + 163


@dataclass(frozen=True, slots=True)
class Library:
    """The loaded libraries. ``ext2`` and ``ffi`` are cffi objects and stay inside this package.

    ``short`` is libext2fs again, for the few calls that are too short to give up the interpreter lock.
    """

    ffi: Any
    ext2: Any
    short: ctypes.PyDLL
    com_err: Any

    def check(self, code: int, doing: str) -> None:
        """Turn the library's error code into an error that says what was being done.

        Raises:
            FilesystemError: *code* is not 0.
        """
        if code:
            raise FilesystemError(f"{doing}: {self.message(code)}")

    def message(self, code: int) -> str:
        """The library's own words for *code*."""
        return bytes(self.ffi.string(self.com_err.error_message(code))).decode("utf-8", "replace")


@functools.cache
def library() -> Library:
    """Load libext2fs and libcom_err, once.

    Raises:
        ToolError: a library is missing, or this machine stores numbers big end first.
    """
    if sys.byteorder != "little":
        raise ToolError("writing ext4 needs a little-endian machine, and this one is big-endian")
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(_COM_ERR_DECLARATIONS)
    ffi.cdef(_DECLARATIONS)
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
