"""The ext4 file system: written through libext2fs, read by a reader of our own, grown by resize2fs."""

from .read.reader import Ext4Reader
from .resize.geometry import Geometry, read_geometry
from .resize.grow import check_filesystem, grow_filesystem
from .write.allocation import Shortage
from .write.filesystem import Ext4Filesystem

__all__ = [
    "Ext4Filesystem",
    "Ext4Reader",
    "Geometry",
    "Shortage",
    "check_filesystem",
    "grow_filesystem",
    "read_geometry",
]
