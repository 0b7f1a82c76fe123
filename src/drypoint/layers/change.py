"""What a layer's tar entry means for the tree below it.

Format: OCI image-spec, layer.md ("Representing Changes", "Whiteouts"); the engine's own reading of it is
pkg/archive in moby.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..fstree import BlockDevice, CharDevice, Directory, Fifo, Metadata, Regular, Symlink


@dataclass(frozen=True, slots=True)
class Add:
    """The entry is to exist, with this metadata. Its path is clean, but may lead through symbolic links of the layer."""

    entry: Directory | Regular | Symlink | CharDevice | BlockDevice | Fifo


@dataclass(frozen=True, slots=True)
class Link:
    """``path`` is to be one more name for what the same layer has at ``target``.

    ``metadata`` is what the link's own tar header says; the engine applies it to the shared inode.
    """

    path: bytes
    target: bytes
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Whiteout:
    """``path`` is gone from the layers below. ``metadata`` is that of the ``.wh.`` entry."""

    path: bytes
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Opaque:
    """Nothing of the directory ``path`` in the layers below shows through."""

    path: bytes


Change: TypeAlias = Add | Link | Whiteout | Opaque
