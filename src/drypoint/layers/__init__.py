"""Layers as streams: from a compressed blob, verified as it is read, to the changes of its tar entries and its tar-split."""

from ..decompression import compression_of
from .assemble import assemble, read_tar_split
from .change import Add, Change, Link, Opaque, Whiteout, change_of
from .compression import decompress
from .pipeline import TarChunks, tar_chunks
from .reader import LayerReader
from .records import FileRecord
from .tar import TarEntry, TarReader
from .tarsplit import TarSplit, TarSplitWriter
from .verify import verified

__all__ = [
    "Add",
    "Change",
    "FileRecord",
    "LayerReader",
    "Link",
    "Opaque",
    "TarChunks",
    "TarEntry",
    "TarReader",
    "TarSplit",
    "TarSplitWriter",
    "Whiteout",
    "assemble",
    "change_of",
    "compression_of",
    "decompress",
    "read_tar_split",
    "tar_chunks",
    "verified",
]
