"""The features of ext file systems with which drypoint can write.

Format and names: struct ext2_super_block in e2fsprogs' ext2_fs.h, mke2fs(8).
"""

from __future__ import annotations

COMPAT_HAS_JOURNAL = 0x0004
COMPAT_EXT_ATTR = 0x0008
COMPAT_RESIZE_INODE = 0x0010
COMPAT_DIR_INDEX = 0x0020
COMPAT_SPARSE_SUPER2 = 0x0200
INCOMPAT_FILETYPE = 0x0002
INCOMPAT_RECOVER = 0x0004
INCOMPAT_META_BG = 0x0010
INCOMPAT_EXTENTS = 0x0040
INCOMPAT_64BIT = 0x0080
INCOMPAT_CSUM_SEED = 0x2000
INCOMPAT_LARGEDIR = 0x4000
RO_COMPAT_SPARSE_SUPER = 0x0001
RO_COMPAT_LARGE_FILE = 0x0002
RO_COMPAT_DIR_NLINK = 0x0020
RO_COMPAT_BIGALLOC = 0x0200
RO_COMPAT_METADATA_CSUM = 0x0400
RO_COMPAT_ORPHAN_PRESENT = 0x10000

# Features with which drypoint's writes are valid. All others are refused, by name if they have one.
_COMPAT_WRITABLE = (
    0x0001  # dir_prealloc
    | COMPAT_HAS_JOURNAL
    | COMPAT_EXT_ATTR
    | COMPAT_RESIZE_INODE
    | COMPAT_DIR_INDEX
    | COMPAT_SPARSE_SUPER2
    | 0x0400  # fast_commit
    | 0x0800  # stable_inodes
    | 0x1000  # orphan_file
)
_INCOMPAT_WRITABLE = (
    INCOMPAT_FILETYPE
    | INCOMPAT_META_BG
    | INCOMPAT_EXTENTS
    | INCOMPAT_64BIT
    | 0x0200  # flex_bg
    | INCOMPAT_CSUM_SEED
    | INCOMPAT_LARGEDIR
)
_RO_COMPAT_WRITABLE = (
    RO_COMPAT_SPARSE_SUPER
    | RO_COMPAT_LARGE_FILE
    | 0x0008  # huge_file
    | 0x0010  # uninit_bg
    | RO_COMPAT_DIR_NLINK
    | 0x0040  # extra_isize
    | RO_COMPAT_METADATA_CSUM
)
_COMPAT_REFUSED = {0x0002: "imagic_inodes", 0x0040: "lazy_bg", 0x0100: "exclude_bitmap"}
_INCOMPAT_REFUSED = {
    0x0001: "compression",
    0x0008: "journal_dev",
    0x0100: "mmp",
    0x0400: "ea_inode",
    0x1000: "dirdata",
    0x8000: "inline_data",
    0x10000: "encrypt",
    0x20000: "casefold",
}
_RO_COMPAT_REFUSED = {
    0x0080: "has_snapshot",
    0x0100: "quota",
    RO_COMPAT_BIGALLOC: "bigalloc",
    0x0800: "replica",
    0x1000: "read-only",
    0x2000: "project",
    0x4000: "shared_blocks",
    0x8000: "verity",
}


def unsupported_features(compat: int, incompat: int, ro_compat: int) -> list[str]:
    """The names of the features with which drypoint cannot write; an unknown one is ``incompat 0x80000`` or similar.

    A journal to be replayed does not count as a feature.
    """
    words = (
        ("compat", compat & ~_COMPAT_WRITABLE, _COMPAT_REFUSED),
        ("incompat", incompat & ~(_INCOMPAT_WRITABLE | INCOMPAT_RECOVER), _INCOMPAT_REFUSED),
        ("ro_compat", ro_compat & ~_RO_COMPAT_WRITABLE, _RO_COMPAT_REFUSED),
    )
    return [
        names.get(1 << position, f"{word} {1 << position:#x}")
        for word, refused, names in words
        for position in range(32)
        if refused & 1 << position
    ]
