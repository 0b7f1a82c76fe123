"""The features of an ext2, ext3 or ext4 file system, named as ``dumpe2fs`` prints them.

Format: the kernel's Documentation/filesystems/ext4 (super.rst).
"""

from __future__ import annotations

_COMPAT = {
    0x1: "dir_prealloc",
    0x2: "imagic_inodes",
    0x4: "has_journal",
    0x8: "ext_attr",
    0x10: "resize_inode",
    0x20: "dir_index",
    0x40: "lazy_bg",
    0x80: "exclude_inode",
    0x100: "snapshot_bitmap",
    0x200: "sparse_super2",
    0x400: "fast_commit",
    0x800: "stable_inodes",
    0x1000: "orphan_file",
}
_INCOMPAT = {
    0x1: "compression",
    0x2: "filetype",
    0x4: "needs_recovery",
    0x8: "journal_dev",
    0x10: "meta_bg",
    0x40: "extent",
    0x80: "64bit",
    0x100: "mmp",
    0x200: "flex_bg",
    0x400: "ea_inode",
    0x1000: "dirdata",
    0x2000: "metadata_csum_seed",
    0x4000: "large_dir",
    0x8000: "inline_data",
    0x10000: "encrypt",
    0x20000: "casefold",
}
_RO_COMPAT = {
    0x1: "sparse_super",
    0x2: "large_file",
    0x4: "btree_dir",
    0x8: "huge_file",
    0x10: "uninit_bg",
    0x20: "dir_nlink",
    0x40: "extra_isize",
    0x80: "has_snapshot",
    0x100: "quota",
    0x200: "bigalloc",
    0x400: "metadata_csum",
    0x800: "replica",
    0x1000: "read-only",
    0x2000: "project",
    0x4000: "shared_blocks",
    0x8000: "verity",
    0x10000: "orphan_present",
}
UNREADABLE_FEATURES = frozenset({"compression", "journal_dev", "dirdata"})
"""Incompatible features with which files would be misread; unknown incompatible bits are refused too."""


def feature_names(compat: int, incompat: int, ro_compat: int) -> frozenset[str]:
    """The names of all bits set in the superblock's three words; an unknown bit is ``unknown_compat_0x…`` or similar."""
    return frozenset(
        _names(compat, _COMPAT, "compat")
        | _names(incompat, _INCOMPAT, "incompat")
        | _names(ro_compat, _RO_COMPAT, "ro_compat")
    )


def _names(bits: int, table: dict[int, str], kind: str) -> set[str]:
    found = set()
    for position in range(32):
        bit = 1 << position
        if bits & bit:
            found.add(table.get(bit, f"unknown_{kind}_{bit:#x}"))
    return found
