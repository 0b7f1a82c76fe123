"""Tree sinks, which write a tree of entries to an ext4 partition, a tar archive, a directory of the host, or memory."""

from .directory import DirectorySink
from .ext4 import Ext4Sink
from .memory import MemoryTree
from .tar import TarSink

__all__ = ["DirectorySink", "Ext4Sink", "MemoryTree", "TarSink"]
