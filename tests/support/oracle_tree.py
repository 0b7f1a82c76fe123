"""An engine's data root for the oracle: inodes by names that are not random.

``overlay2/<cache-id>`` becomes ``overlay2/{chain-id}``, ``overlay2/l/<LINK>`` becomes ``overlay2/l/{chain-id}``; so are
the contents of ``cache-id``, ``link`` and ``lower``, and the targets of links. A directory or link that belongs to no layer
keeps its name, so that it is a difference.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import stat
import zlib
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from drypoint.fstree import clean_path, join

OUT_OF_SCOPE = frozenset(
    {
        b"buildkit",
        b"containerd",
        b"containers",
        b"engine-id",
        b"network",
        b"plugins",
        b"runtimes",
        b"swarm",
        b"tmp",
        b"trust",
        b"volumes",
    }
)
"""Files that engines make in their data root at start and that do not concern images."""

_DIFF = re.compile(rb"overlay2/([^/]+)/diff(?:/|$)")
_WORD = re.compile(rb"[A-Za-z0-9]+")
_MAX_SYMLINKS = 40


@dataclass(frozen=True, slots=True)
class Node:
    """An inode: the real path of one of its names, and its status."""

    location: bytes
    status: os.stat_result

    def target(self) -> bytes:
        """The symbolic link's target, byte for byte; ``Path`` would normalise it."""
        return os.readlink(self.location)  # noqa: PTH115


@dataclass(slots=True)
class StoreTree:
    """The tree of one data root.

    Attributes:
        nodes: every path in scope, in the common naming, the data root itself as ``b""``.
        aliases: the common names of cache-ids and links.
        names: all names of an inode, sorted, by device and inode number.
        untimed: paths below a ``diff`` whose mtime is the time of extraction.
    """

    nodes: dict[bytes, Node] = field(default_factory=dict)
    aliases: dict[bytes, bytes] = field(default_factory=dict)
    names: dict[tuple[int, int], list[bytes]] = field(default_factory=lambda: defaultdict(list))
    untimed: set[bytes] = field(default_factory=set)

    def names_of(self, path: bytes) -> list[bytes]:
        """All names of the inode at *path*; for a directory only its own."""
        status = self.nodes[path].status
        return self.names[status.st_dev, status.st_ino] if not stat.S_ISDIR(status.st_mode) else [path]

    def is_in_diff(self, path: bytes) -> bool:
        return _DIFF.match(path) is not None

    def has_comparable_time(self, path: bytes) -> bool:
        """Whether the mtime at *path* is from the image and not from the clock."""
        return self.is_in_diff(path) and path not in self.untimed

    def symlink_target(self, path: bytes) -> bytes:
        target = self.nodes[path].target()
        return self._renamed(target) if path.startswith(b"overlay2/l/") else target

    def renamed_content(self, path: bytes) -> bytes:
        """The content of a small file with cache-ids and links renamed."""
        return self._renamed(Path(os.fsdecode(self.nodes[path].location)).read_bytes())

    def _renamed(self, text: bytes) -> bytes:
        return _WORD.sub(lambda match: self.aliases.get(match[0], match[0]), text)


def read_store_tree(data_root: Path) -> StoreTree:
    """Read the data root, and nothing outside it; symbolic links are not followed.

    Raises:
        OSError: something in it cannot be read.
    """
    tree = StoreTree()
    root = os.fsencode(data_root)
    chains = _chains(data_root)
    for chain, (cache_id, link) in chains.items():
        tree.aliases[cache_id] = b"{%s}" % chain
        if link:
            tree.aliases[link] = b"{link %s}" % chain
    _walk(tree, root)
    for inode_names in tree.names.values():
        inode_names.sort()
    for chain in chains:
        tree.untimed |= set(_untimed(tree, data_root, chain))
    return tree


def _chains(data_root: Path) -> dict[bytes, tuple[bytes, bytes]]:
    """Cache-id and link of every layer, by the hexadecimal digits of its chain-id."""
    chains: dict[bytes, tuple[bytes, bytes]] = {}
    for layer in sorted((data_root / "image/overlay2/layerdb/sha256").glob("*")):
        cache_id = _content(layer / "cache-id")
        if cache_id:
            chains[os.fsencode(layer.name)] = (
                cache_id,
                _content(data_root / "overlay2" / os.fsdecode(cache_id) / "link"),
            )
    return chains


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        # A damaged store is compared too: a missing file is a difference of its own.
        return b""


def _walk(tree: StoreTree, root: bytes) -> None:
    pending = [(root, b"")]
    while pending:
        location, path = pending.pop()
        status = os.lstat(location)
        tree.nodes[path] = Node(location, status)
        tree.names[status.st_dev, status.st_ino].append(path)
        if not stat.S_ISDIR(status.st_mode):
            continue
        # Only names directly in these two directories are random: a layer's files may have any name.
        renames = path in (b"overlay2", b"overlay2/l")
        with os.scandir(location) as entries:
            children = [entry.name for entry in entries]
        for name in children:
            if path == b"" and name in OUT_OF_SCOPE:
                continue
            alias = tree.aliases.get(name, name) if renames else name
            pending.append((location + b"/" + name, join(path, alias)))


def _untimed(tree: StoreTree, data_root: Path, chain: bytes) -> Iterator[bytes]:
    """Paths of one layer whose time is that of extraction: those that no tar entry names, and whiteouts."""
    top = b"overlay2/" + b"{%s}" % chain + b"/diff"
    named = {
        join(top, path)
        for name in _tar_names(data_root / "image/overlay2/layerdb/sha256" / os.fsdecode(chain) / "tar-split.json.gz")
        if (path := _landing(tree, top, name))
    }
    prefix = top + b"/"
    for path, node in tree.nodes.items():
        if path == top:
            # Engines ignore a tar's entry for its own root.
            yield path
        elif path.startswith(prefix):
            directory, _, name = path.rpartition(b"/")
            # An entry .wh.NAME makes a device NAME: a directory NAME exists because of its entries.
            is_named = path in named and not name.startswith(b".wh.")
            unnamed_directory = stat.S_ISDIR(node.status.st_mode) and not is_named
            whiteout = stat.S_ISCHR(node.status.st_mode) and node.status.st_rdev == 0 and path not in named
            if unnamed_directory or (whiteout and directory + b"/.wh." + name in named):
                yield path


def _tar_names(tar_split: Path) -> Iterator[bytes]:
    """The names of all entries as in the tar; of a damaged file, those before the damage."""
    try:
        with gzip.open(tar_split) as lines:
            for line in lines:
                record = json.loads(line)
                if record["type"] == 1:
                    yield b64decode(record["name_raw"]) if "name_raw" in record else record.get("name", "").encode()
    except (OSError, EOFError, zlib.error, ValueError):
        return


def _landing(tree: StoreTree, top: bytes, name: bytes) -> bytes | None:
    """The path in the layer of the entry *name*, through symbolic links of the layer; None if there is none."""
    try:
        parts = clean_path(name).split(b"/")
    except ValueError:
        return None
    done: list[bytes] = []
    followed = 0
    while len(parts) > 1:
        part = parts.pop(0)
        node = tree.nodes.get(join(top, *done, part))
        if part == b"..":
            done = done[:-1]
        elif node is None or not stat.S_ISLNK(node.status.st_mode):
            done.append(part)
        else:
            followed += 1
            if followed > _MAX_SYMLINKS:
                return None
            target = node.target()
            done = [] if target.startswith(b"/") else done
            parts = [piece for piece in target.split(b"/") if piece not in (b"", b".")] + parts
    return join(*done, *parts)
