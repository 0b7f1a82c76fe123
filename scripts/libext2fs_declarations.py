"""Prints src/drypoint/disk/ext4/write/_libext2fs.py from these declarations. ``make bindings`` writes it; a test compares it.

Declarations and struct layouts are those of ext2fs.h in e2fsprogs 1.43 to 1.47 (the layout of the fields named here has not
changed since). Functions that the header only offers inline are reached through the exported functions they call.
"""

from __future__ import annotations

import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from cffi import FFI

_MODULE = "drypoint.disk.ext4.write._libext2fs"

_LIBEXT2FS = """
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
    errcode_t (*read_error)(io_channel channel, unsigned long block, int count, void *data, size_t size, int actual,
                            errcode_t error);
    errcode_t (*write_error)(io_channel channel, unsigned long block, int count, const void *data, size_t size, int actual,
                             errcode_t error);
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
    io_channel io;
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

_LIBCOM_ERR = "const char *error_message(long code);"


def module() -> str:
    """The whole module, independent of the machine and the version of cffi."""
    ffi = FFI()
    ffi.set_source(_MODULE, None)
    ffi.cdef(_LIBCOM_ERR)
    ffi.cdef(_LIBEXT2FS)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "module.py")
        # It prints messages to standard output.
        with redirect_stdout(io.StringIO()):
            ffi.emit_python_code(str(file))
        return file.read_text()


if __name__ == "__main__":
    print(module(), end="")
