"""Where in a partition the root directory of a system may be."""

from __future__ import annotations

from collections.abc import Iterator

from ..fstree import TreeReader
from ..stores import detect

_DATA_ROOTS = (b"docker", b"balena")
"""balenaOS keeps its root file system as an image in a store of its own."""


def root_directories(reader: TreeReader) -> Iterator[bytes]:
    """The paths that may be a root directory: the partition's root, and the layers of a store in it, uppermost first.

    Raises:
        FilesystemError: the tree cannot be read, or has more layers than anything real.
    """
    yield b""
    for data_root in _DATA_ROOTS:
        yield from detect(data_root).layer_roots(reader)
