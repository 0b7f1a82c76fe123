"""Cases of hard links to other things than regular files, and of symbolic links to unusual places."""

from __future__ import annotations

from tests.support.corpus.case import SECONDS, Case, case, layer, padded

from drypoint.samples.layers import DEFAULT_MTIME, file_capability
from drypoint.sinks.tar import UstarHeader

_CAPABILITY = {b"security.capability": file_capability(13)}
_LATER = DEFAULT_MTIME + 7_000_000_000


def _with_content(content: bytes) -> bytes:
    """A hard link whose header has a size, with content after it, as written by cpio tools."""
    header = UstarHeader(b"b", b"1", mode=0o644, seconds=SECONDS, linkname=b"a", size=len(content)).pack()
    return header + padded(content)


LINKS: tuple[Case, ...] = (
    case(
        "hard-link",
        "hard links whose headers say the same as their targets",
        layer().file("a", b"1").hardlink("b", "a").hardlink("c", "b"),
    ),
    case(
        "hard-link-metadata",
        "a hard link whose header says other things than its target's",
        layer().file("a", b"1", mode=0o600, uid=1).hardlink("b", "a", mode=0o755, uid=2, gid=3, mtime=_LATER),
    ),
    case(
        "hard-link-to-symlink",
        "a hard link to a symbolic link",
        layer().symlink("a", "target").hardlink("b", "a", uid=7, gid=8, mtime=_LATER, mode=0o600),
    ),
    case(
        "hard-link-to-symlink-to-file",
        "a hard link to a symbolic link that leads to a file: to the link, not to the file",
        layer().file("f", b"1").symlink("a", "f").hardlink("b", "a", uid=7, mode=0o600, mtime=_LATER),
    ),
    case(
        "hard-link-to-device",
        "hard links to devices",
        layer().char_device("a", 1, 3).hardlink("b", "a", mode=0o666, gid=5).block_device("c", 8, 1).hardlink("d", "c"),
    ),
    case("hard-link-to-fifo", "a hard link to a FIFO", layer().fifo("a").hardlink("b", "a", mode=0o622)),
    case(
        "hard-link-to-whiteout",
        "a hard link to the device that a whiteout became",
        layer().whiteout("a").hardlink("b", "a", mode=0o644, uid=9),
    ),
    case(
        "hard-link-to-directory",
        "a hard link to a directory",
        layer().directory("a").hardlink("b", "a"),
        refused="b'b'",
    ),
    case("hard-link-to-root", "a hard link to the root", layer().hardlink("b", "/"), refused="b'b'"),
    case("hard-link-to-nothing", "a hard link to what is nowhere", layer().hardlink("b", "a"), refused="b'b'"),
    case(
        "hard-link-to-unnamed",
        "a hard link to a directory that exists only because of what it holds",
        layer().file("d/a").hardlink("b", "d"),
        refused="b'b'",
    ),
    case(
        "hard-link-through-symlink",
        "a hard link whose target leads through a symbolic link",
        layer().directory("d").file("d/a", b"1").symlink("l", "d").hardlink("l/b", "l/a").hardlink("c", "/l/a"),
    ),
    case(
        "hard-link-dots",
        "a hard link whose target is spelled with dots and doubled slashes",
        layer().directory("d").file("d/a", b"1").hardlink("b", "./d/../d//a").hardlink("c", "d/a/"),
    ),
    case(
        "hard-link-wh-target",
        "a hard link to the name of a whiteout's own entry",
        layer().whiteout("a").hardlink("b", ".wh.a"),
        refused="b'b'",
    ),
    case(
        "hard-link-with-content",
        "a hard link with a size: no content follows, for Go",
        layer().file("a", b"1").raw(_with_content(b"")).file("c"),
    ),
    case(
        "hard-link-with-real-content",
        "a hard link with a size and content after it, which is read as a header",
        layer().file("a", b"1").raw(_with_content(b"content")).file("c"),
        refused="checksum",
    ),
    case(
        "hard-link-capability",
        "a file capability, and a hard link whose header has none: chown takes it away",
        layer().file("a", b"1", xattrs=_CAPABILITY).hardlink("b", "a"),
    ),
    case(
        "hard-link-capability-kept",
        "a file capability that the hard link's header has too",
        layer().file("a", b"1", xattrs=_CAPABILITY).hardlink("b", "a", xattrs=_CAPABILITY),
    ),
    case(
        "hard-link-capability-new",
        "a file capability that only the hard link's header has",
        layer().file("a", b"1").hardlink("b", "a", xattrs=_CAPABILITY),
    ),
    case(
        "hard-link-xattrs",
        "attributes of a file, and others of its hard link: all are there",
        layer()
        .file("a", xattrs={b"user.a": b"1", b"user.both": b"1"})
        .hardlink("b", "a", xattrs={b"user.b": b"2", b"user.both": b"2"}),
    ),
    case(
        "hard-link-xattrs-symlink",
        "attributes on a hard link to a symbolic link",
        layer().symlink("a", "t").hardlink("b", "a", xattrs={b"trusted.x": b"1"}),
    ),
    case(
        "hard-link-to-symlink-user-xattr",
        "a user attribute on a hard link to a symbolic link",
        layer().symlink("a", "t").hardlink("b", "a", xattrs={b"user.x": b"1"}),
    ),
    case(
        "hard-links-many",
        "five hundred names of one inode",
        layer()
        .file("0", b"1")
        .raw(
            b"".join(
                UstarHeader(b"%d" % number, b"1", mode=0o644, seconds=SECONDS, linkname=b"0").pack()
                for number in range(1, 500)
            )
        ),
    ),
    case(
        "symlinks-odd",
        "symbolic links to themselves, to nothing, to .., to / and to .",
        layer()
        .symlink("self", "self")
        .symlink("up", "..")
        .symlink("root", "/")
        .symlink("here", ".")
        .symlink("slash", "a//b/"),
    ),
    case(
        "symlink-mode",
        "symbolic links with modes, which they do not have",
        layer().symlink("a", "t", mode=0).symlink("b", "t", mode=0o4755),
    ),
    case(
        "symlink-owner", "a symbolic link's owner is its own", layer().file("t", uid=1).symlink("a", "t", uid=2, gid=3)
    ),
)
