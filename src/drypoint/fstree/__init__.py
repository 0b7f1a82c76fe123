"""File-system trees as values: entries, safe paths, and the protocols that write and read trees. Pure; no I/O."""

from .entry import (
    BlockDevice,
    CharDevice,
    Content,
    Directory,
    Entry,
    Fifo,
    HardLink,
    Metadata,
    Regular,
    Socket,
    Symlink,
)
from .links import FollowedPath, follow_links
from .path import clean_path, join, parent_and_name
from .protocols import Stat, TreeReader, TreeSink

__all__ = [
    "BlockDevice",
    "CharDevice",
    "Content",
    "Directory",
    "Entry",
    "Fifo",
    "FollowedPath",
    "HardLink",
    "Metadata",
    "Regular",
    "Socket",
    "Stat",
    "Symlink",
    "TreeReader",
    "TreeSink",
    "clean_path",
    "follow_links",
    "join",
    "parent_and_name",
]
