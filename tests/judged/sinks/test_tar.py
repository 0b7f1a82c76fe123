from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.errors import FilesystemError
from drypoint.fstree import (
    BlockDevice,
    CharDevice,
    Directory,
    Fifo,
    HardLink,
    Metadata,
    Regular,
    Socket,
    Symlink,
    TreeSink,
)
from drypoint.sinks.tar import TarSink


def archive(*entries: tuple[object, bytes | None], prefix: bytes = b"") -> bytes:
    out = io.BytesIO()
    sink: TreeSink = TarSink(out.write, prefix)
    for entry, content in entries:
        sink.add(entry, None if content is None else [content])  # type: ignore[arg-type]
    sink.settle(b"")
    sink.finish()
    return out.getvalue()


def test_python_reads_every_kind_of_entry() -> None:
    metadata = Metadata(0o4751, 3_000_000, 4, 1_600_000_000_250_000_000, ((b"user.a", b"x\0\xff\n"),))
    content = archive(
        (Directory(b"d", Metadata(0o700, mtime=10**9)), None),
        (Regular(b"d/f", metadata, 600), b"f" * 600),
        (HardLink(b"d/h", b"d/f"), None),
        (Symlink(b"d/s", metadata, b"t" * 300), None),
        (CharDevice(b"d/c", metadata, 1, 3), None),
        (BlockDevice(b"d/b", metadata, 259, 1_000_000), None),
        (Fifo(b"d/p", metadata), None),
        (Regular(b"d/" + b"long" * 60, metadata, 0), None),
        prefix=b"in/side",
    )
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = {member.name: member for member in tar}
        read = tar.extractfile(found["in/side/d/f"])
        assert read is not None
        assert read.read() == b"f" * 600
    assert list(found)[-1] == "in/side/d/" + "long" * 60
    file = found["in/side/d/f"]
    assert (file.mode, file.uid, file.gid, file.size) == (0o4751, 3_000_000, 4, 600)
    assert file.pax_headers["mtime"] == "1600000000.25"
    assert file.pax_headers["SCHILY.xattr.user.a"].encode("utf-8", "surrogateescape") == b"x\0\xff\n"
    assert found["in/side/d"].pax_headers == {}
    assert (found["in/side/d/h"].type, found["in/side/d/h"].linkname) == (tarfile.LNKTYPE, "in/side/d/f")
    assert (found["in/side/d/s"].type, found["in/side/d/s"].linkname) == (tarfile.SYMTYPE, "t" * 300)
    device = found["in/side/d/b"]
    assert (device.type, device.devmajor, device.devminor) == (tarfile.BLKTYPE, 259, 1_000_000)
    assert found["in/side/d/c"].type == tarfile.CHRTYPE
    assert found["in/side/d/p"].type == tarfile.FIFOTYPE


def test_gnu_tar_restores_attributes_and_times(tmp_path: Path) -> None:
    time = -1_250_000_000
    content = archive((Regular(b"caf\xe9", Metadata(0o640, mtime=time, xattrs=((b"user.note", b"1\n2"),)), 1), b"x"))
    subprocess.run(["tar", "-xf", "-", "--xattrs"], input=content, cwd=tmp_path, check=True)
    path = tmp_path / os.fsdecode(b"caf\xe9")
    assert path.stat().st_mtime_ns == time
    assert os.getxattr(path, "user.note") == b"1\n2"


@given(st.integers(-(10**20), 10**20))
def test_times_are_exact(time: int) -> None:
    content = archive((Fifo(b"p", Metadata(0o600, mtime=time)), None))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        member = tar.getmembers()[0]
    text = member.pax_headers.get("mtime", str(member.mtime))
    whole, _, fraction = text.partition(".")
    sign = -1 if whole.startswith("-") else 1
    assert sign * (abs(int(whole)) * 10**9 + int(fraction.ljust(9, "0"))) == time


@given(st.binary(min_size=1, max_size=300).filter(lambda text: b"\0" not in text))
def test_attribute_values_and_long_targets_survive(text: bytes) -> None:
    content = archive((Symlink(b"s", Metadata(0o777, xattrs=((b"user.a", text),)), text), None))
    with tarfile.open(fileobj=io.BytesIO(content), errors="surrogateescape") as tar:
        member = tar.getmembers()[0]
    assert member.linkname.encode("utf-8", "surrogateescape") == text.rstrip(b"/") or len(text) <= 100
    assert member.pax_headers["SCHILY.xattr.user.a"].encode("utf-8", "surrogateescape") == text


def test_size_over_eight_gib_is_in_the_extended_header() -> None:
    out = io.BytesIO()
    size = (8 << 30) + 5
    with pytest.raises(FilesystemError, match=f"expected {size} bytes of content, got only 1"):
        TarSink(out.write).add(Regular(b"f", Metadata(0o600), size), [b"x"])
    assert b" size=%d\n" % size in out.getvalue()


@pytest.mark.parametrize(
    ("entry", "content", "says"),
    [
        (Socket(b"k", Metadata(0o600)), None, "/k is a socket"),
        (Regular(b"f", Metadata(0o600), 1), b"ab", "expected 1 bytes of content, got more"),
        (Fifo(b"p", Metadata(0o600)), b"x", "expected 0 bytes"),
        (Fifo(b"p", Metadata(0o600, xattrs=((b"user.a=b", b""),))), None, "holds a '='"),
        (CharDevice(b"c", Metadata(0o600), 1, 1 << 21), None, "does not fit"),
    ],
)
def test_refuses(entry: object, content: bytes | None, says: str) -> None:
    with pytest.raises(FilesystemError, match=says):
        archive((entry, content))


def members(content: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content), errors="surrogateescape") as tar:
        return tar.getmembers()


def test_what_changes_is_said_with_the_next_entry_and_in_order() -> None:
    out = io.BytesIO()
    sink = TarSink(out.write, b"inject/6")
    sink.add(Directory(b"d", Metadata(0o700)))
    sink.add(Fifo(b"d/p", Metadata(0o600)))
    sink.remove(b"d/p")
    sink.settle(b"d")
    sink.remove(b"e")
    sink.add(Fifo(b"d/p", Metadata(0o640)))
    sink.settle(b"")
    sink.finish()
    last = members(out.getvalue())[-1]
    assert last.name == "inject/6/d/p"
    assert last.pax_headers == {"DRYPOINT.before": "remove inject/6/d/p\0settle inject/6/d\0remove inject/6/e\0"}


def test_other_metadata_is_a_directory_once_more_or_a_link_to_itself(tmp_path: Path) -> None:
    out = io.BytesIO()
    sink = TarSink(out.write)
    sink.add(Directory(b"d", Metadata(0o700)))
    sink.add(Regular(b"d/f", Metadata(0o600), 1), (b"x",))
    sink.amend(b"d/f", Metadata(0o640, xattrs=((b"user.a", b"1"),)))
    sink.amend(b"d", Metadata(0o751, mtime=10**18))
    sink.finish()
    _, _, link, directory = members(out.getvalue())
    assert (link.type, link.name, link.linkname, link.mode) == (tarfile.LNKTYPE, "d/f", "d/f", 0o640)
    assert (directory.type, directory.mode, directory.mtime) == (tarfile.DIRTYPE, 0o751, 10**9)
    assert link.pax_headers["DRYPOINT.amend"] == directory.pax_headers["DRYPOINT.amend"] == "1"
    # Other programs make of it what they can.
    done = subprocess.run(["tar", "-xpf", "-"], input=out.getvalue(), cwd=tmp_path, check=True, capture_output=True)
    assert b"unknown extended header keyword 'DRYPOINT.amend'" in done.stderr
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o751
    assert (tmp_path / "d/f").read_bytes() == b"x"


def test_a_directory_that_is_removed_is_none_any_more() -> None:
    out = io.BytesIO()
    sink = TarSink(out.write)
    sink.add(Directory(b"d", Metadata(0o700)))
    sink.add(Directory(b"d/e", Metadata(0o700)))
    sink.remove(b"d")
    sink.add(Regular(b"d", Metadata(0o600), 0), ())
    sink.amend(b"d", Metadata(0o644))
    assert members(out.getvalue())[-1].type == tarfile.LNKTYPE


def test_long_names_that_are_not_utf8_are_said_to_be_bytes() -> None:
    long = b"caf\xe9" * 40
    content = archive((Fifo(long, Metadata(0o600)), None), (Fifo("größe".encode() * 30, Metadata(0o600)), None))
    first, second = members(content)
    assert first.pax_headers["hdrcharset"] == "BINARY"
    assert os.fsencode(first.name) == long
    assert "hdrcharset" not in second.pax_headers


def test_a_removal_that_nothing_follows_cannot_be_told() -> None:
    sink = TarSink(io.BytesIO().write)
    sink.remove(b"a")
    with pytest.raises(FilesystemError, match="/a is removed last of all"):
        sink.finish()


def test_more_removals_than_an_entry_can_tell_are_refused() -> None:
    sink = TarSink(io.BytesIO().write)
    for number in range(200):
        sink.remove(b"%03d" % number + b"x" * 3000)
    with pytest.raises(FilesystemError, match="more is removed at once"):
        sink.add(Fifo(b"p", Metadata(0o600)))


def test_the_end_of_the_archive_is_optional() -> None:
    out = io.BytesIO()
    sink = TarSink(out.write, end_of_archive=False)
    sink.add(Fifo(b"p", Metadata(0o600)))
    sink.finish()
    assert len(out.getvalue()) == 512
