from ....fstree.protocols import Stat
from .inodes import InodeTable
from .superblocks import Superblock

class PlainInodes:
    """Reads plain files of one file system, through the chunks of *inodes*."""

    def __init__(self, inodes: InodeTable, superblock: Superblock) -> None: ...
    def stat(self, path: bytes, number: int) -> Stat | None:
        """What inode *number*, found at *path*, says; None if it is not plain."""
    def place(self, number: int) -> tuple[int, int, int] | None:
        """The size of a plain file in bytes, and the first block and the length in blocks of the one extent that holds it.

        None if it has no or more extents, is not plain, or its extent lies outside the file system.
        """
