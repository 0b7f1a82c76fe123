from ..disk.ext4.write.allocation import BlockAllocator
from ..disk.ext4.write.content import RunWriter
from ..disk.ext4.write.filesystem import Ext4Filesystem
from ..fstree import Content, Entry
from .ext4 import Ext4Sink
from .ext4_directories import OpenDirectories
from .ext4_meter import Meter

class PlainFiles:
    """Adds the plain entries to *sink*, whose parts these are.

    Args:
        prefix: what goes before the paths of entries.
    """

    def __init__(
        self,
        sink: Ext4Sink,
        fs: Ext4Filesystem,
        allocator: BlockAllocator,
        writer: RunWriter,
        directories: OpenDirectories,
        meter: Meter,
        prefix: bytes,
    ) -> None: ...
    def add(self, entry: Entry, content: Content | None) -> bool:
        """Add *entry* if it is plain; False if it is not, with nothing changed."""
