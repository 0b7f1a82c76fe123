"""The features of an ext2, ext3 or ext4 file system, named as ``dumpe2fs`` prints them.

Format: the kernel's Documentation/filesystems/ext4 (super.rst); names: e2fsprogs' lib/e2p/feature.c.
"""

from __future__ import annotations

_COMPAT = {
    0: "dir_prealloc",
    1: "imagic_inodes",
    2: "has_journal",
    3: "ext_attr",
    4: "resize_inode",
    5: "dir_index",
    6: "lazy_bg",
    8: "snapshot_bitmap",
    9: "sparse_super2",
    10: "fast_commit",
    11: "stable_inodes",
    12: "orphan_file",
}
_INCOMPAT = {
    0: "compression",
    1: "filetype",
    2: "needs_recovery",
    3: "journal_dev",
    4: "meta_bg",
    6: "extent",
    7: "64bit",
    8: "mmp",
    9: "flex_bg",
    10: "ea_inode",
    12: "dirdata",
    13: "metadata_csum_seed",
    14: "large_dir",
    15: "inline_data",
    16: "encrypt",
    17: "casefold",
}
_RO_COMPAT = {
    0: "sparse_super",
    1: "large_file",
    3: "huge_file",
    4: "uninit_bg",
    5: "dir_nlink",
    6: "extra_isize",
    7: "snapshot",
    8: "quota",
    9: "bigalloc",
    10: "metadata_csum",
    11: "replica",
    12: "read-only",
    13: "project",
    14: "shared_blocks",
    15: "verity",
    16: "orphan_present",
}
UNKNOWN_INCOMPAT = "FEATURE_I"
"""How the name of an unknown incompatible feature begins."""
UNREADABLE_FEATURES = frozenset({"compression", "journal_dev", "dirdata"})
"""Incompatible features with which files would be misread; unknown incompatible bits are refused too."""


def feature_names(compat: int, incompat: int, ro_compat: int) -> tuple[str, ...]:
    """The names of all bits set in the superblock's three words; an unknown bit is ``FEATURE_C12`` and the like."""
    words = ((compat, _COMPAT, "C"), (incompat, _INCOMPAT, "I"), (ro_compat, _RO_COMPAT, "R"))
    return tuple(
        names.get(bit, f"FEATURE_{letter}{bit}")
        for bits, names, letter in words
        for bit in range(32)
        if bits & 1 << bit
    )
