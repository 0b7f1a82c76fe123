from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from drypoint.errors import FilesystemError
from drypoint.fstree import (
    CharDevice,
    Directory,
    Entry,
    Fifo,
    HardLink,
    Metadata,
    Regular,
    Socket,
    Symlink,
    TreeReader,
    TreeSink,
)
from drypoint.sinks.memory import MemoryTree

META = Metadata(0o644, 1, 2, 3, ((b"user.a", b"1"),))


def filled() -> MemoryTree:
    tree = MemoryTree()
    tree.add(Directory(b"d", Metadata(0o755)))
    chunks: list[bytes | memoryview] = [b"ab", memoryview(b"c")]
    tree.add(Regular(b"d/f", META, 3), chunks)
    tree.add(HardLink(b"h", b"d/f"))
    tree.add(Symlink(b"s", META, b"d/f"))
    tree.add(Fifo(b"p", META))
    tree.add(Socket(b"k", META))
    tree.add(CharDevice(b"c", META, 1, 3))
    return tree


def test_it_is_a_sink_and_a_reader() -> None:
    tree = MemoryTree()
    sink: TreeSink = tree
    reader: TreeReader = tree
    sink.add(Fifo(b"p", META))
    assert reader.lookup(b"p") is not None


def test_reads_back_what_it_took() -> None:
    tree = filled()
    found = {stat.entry.path: stat for stat in tree.walk()}
    assert list(found) == [b"c", b"d", b"d/f", b"h", b"k", b"p", b"s"]
    assert found[b"d/f"].inode == found[b"h"].inode
    assert found[b"h"].entry == Regular(b"h", META, 3)
    assert found[b"h"].links == 2
    assert b"".join(tree.read(found[b"h"])) == b"abc"
    root = tree.lookup(b"")
    assert root is not None
    assert root.links == 3
    assert tree.lookup(b"d/f/x") is None
    assert tree.lookup(b"s/f") is None


def test_content_is_copied_before_the_next_chunk() -> None:
    tree = MemoryTree()
    buffer = bytearray(b"aa")

    def chunks() -> Iterator[memoryview]:
        yield memoryview(buffer)
        buffer[:] = b"bb"
        yield memoryview(buffer)

    tree.add(Regular(b"f", META, 4), chunks())
    assert tree.content(b"f") == b"aabb"


def test_amend_reaches_every_name_of_the_inode() -> None:
    tree = filled()
    tree.amend(b"h", Metadata(0o600))
    stat = tree.lookup(b"d/f")
    assert stat is not None
    assert stat.entry == Regular(b"d/f", Metadata(0o600), 3)
    tree.amend(b"", Metadata(0o700))
    root = tree.lookup(b"")
    assert root is not None
    assert root.entry == Directory(b"", Metadata(0o700))


def test_an_inode_goes_with_its_last_name() -> None:
    tree = filled()
    tree.remove(b"d")
    stat = tree.lookup(b"h")
    assert stat is not None
    assert stat.links == 1
    assert tree.content(b"h") == b"abc"
    assert tree.lookup(b"d") is None


@pytest.mark.parametrize(
    ("entry", "content", "says"),
    [
        (Regular(b"no/f", META, 0), None, "/no/f: its directory does not exist"),
        (Regular(b"d/f/x", META, 0), None, "/d/f is not a directory"),
        (Regular(b"s/x", META, 0), None, "/s is not a directory"),
        (Directory(b"d", META), None, "/d exists already"),
        (Regular(b"n", META, 2), [b"abc"], "expected 2 bytes of content, got 3"),
        (Regular(b"n", META, 4), [b"abc"], "expected 4 bytes of content, got 3"),
        (Regular(b"n", META, 1), None, "expected 1 bytes"),
        (Directory(b"n", META), [b""], "content for what is not a regular file"),
        (HardLink(b"n", b"d/f"), [b""], "a hard link has no content"),
        (HardLink(b"n", b"x"), None, "/x does not exist"),
        (HardLink(b"n", b"d"), None, "a hard link to the directory /d"),
        (Directory(b"", META), None, "the root of the tree"),
        (Directory(b"d/../n", META), None, "not clean"),
        (Directory(b"/n", META), None, "not clean"),
        (Directory(b"../n", META), None, "leaves the root"),
        (Directory(b"a" * 256, META), None, "256 bytes"),
        (Symlink(b"n", META, b""), None, "symbolic link of 0 bytes"),
        (Symlink(b"n", META, b"t" * 4096), None, "symbolic link of 4096 bytes"),
        (Directory(b"n", Metadata(0o10000)), None, "out of range"),
        (Directory(b"n", Metadata(0, uid=1 << 32)), None, "out of range"),
        (Directory(b"n", Metadata(0, xattrs=((b"b", b""), (b"a", b"")))), None, "sorted"),
        (Directory(b"n", Metadata(0, xattrs=((b"b", b""), (b"b", b"")))), None, "twice"),
    ],
)
def test_refuses(entry: Entry, content: list[bytes] | None, says: str) -> None:
    tree = filled()
    before = list(tree.walk())
    with pytest.raises(FilesystemError, match=says):
        tree.add(entry, content)
    assert list(tree.walk()) == before


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda tree: tree.amend(b"x", META), "/x does not exist"),
        (lambda tree: tree.remove(b"x"), "/x does not exist"),
        (lambda tree: tree.remove(b""), "the root of the tree"),
        (lambda tree: tree.settle(b"d/f"), "not a directory"),
        (lambda tree: tree.settle(b"x"), "does not exist"),
        (lambda tree: tree.content(b"d"), "not a regular file"),
    ],
)
def test_refuses_acts(act: Callable[[MemoryTree], object], says: str) -> None:
    with pytest.raises(FilesystemError, match=says):
        act(filled())


def test_nothing_is_added_below_a_settled_directory() -> None:
    tree = filled()
    tree.settle(b"d")
    with pytest.raises(FilesystemError, match="/d was settled before"):
        tree.add(Fifo(b"d/n", META))
    tree.add(Fifo(b"n", META))
    tree.remove(b"d")
    tree.add(Directory(b"d", META))
    tree.add(Fifo(b"d/n", META))
    tree.settle(b"")
    with pytest.raises(FilesystemError, match="/ was settled before"):
        tree.add(Fifo(b"m", META))


def test_nothing_comes_after_the_end() -> None:
    tree = filled()
    tree.finish()
    assert tree.finished
    acts: list[Callable[[], None]] = [
        lambda: tree.add(Fifo(b"n", META)),
        tree.finish,
        lambda: tree.remove(b"d"),
        lambda: tree.settle(b"d"),
    ]
    for act in acts:
        with pytest.raises(FilesystemError, match="finished"):
            act()
