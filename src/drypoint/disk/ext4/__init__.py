"""The ext4 file system: written through libext2fs, read by a reader of our own, grown by resize2fs."""

from .allocate import Shortage
from .filesystem import Ext4Filesystem
from .geometry import Geometry, read_geometry
from .reader import Ext4Reader
from .resize import check_filesystem, grow_filesystem

__all__ = [
    "Ext4Filesystem",
    "Ext4Reader",
    "Geometry",
    "Shortage",
    "check_filesystem",
    "grow_filesystem",
    "read_geometry",
]
