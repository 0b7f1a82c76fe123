from __future__ import annotations

import contextlib
import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drypoint.errors import ContentError, DrypointError, SourceError
from drypoint.samples.layers import LayerBuilder, TarFormat, gnu_number, with_checksum
from drypoint.sources.archive import DirectoryFiles, TarFiles, open_files, read_file


def files(tmp_path: Path, content: bytes) -> TarFiles:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    opened = open_files(path)
    assert isinstance(opened, TarFiles)
    return opened


@pytest.mark.parametrize("tar_format", TarFormat)
def test_members_are_found_by_clean_names(tmp_path: Path, tar_format: TarFormat) -> None:
    long = "d/" + "é" * 120
    builder = LayerBuilder(tar_format=tar_format).directory("./d").file("./d/a", b"one").file(long, b"two").file("e")
    opened = files(tmp_path, builder.symlink("d/s", "../d/./a").symlink("r", "/d/s").hardlink("h", "./d/a").finish())
    for name, content in (("d/a", b"one"), (long, b"two"), ("e", b""), ("d/s", b"one"), ("r", b"one"), ("h", b"one")):
        assert opened.size(name) == len(content)
        assert read_file(opened, name, 10, "x") == content
    assert opened.size("d") is None
    assert opened.size("nothing") is None
    opened.close()
    opened.close()


@pytest.mark.parametrize("options", [["--format=ustar"], ["--format=gnu"], ["--format=pax"], ["--format=v7"]])
def test_what_gnu_tar_writes(tmp_path: Path, options: list[str]) -> None:
    deep = tmp_path / "in" / ("d" * 60) / ("e" * (30 if "v7" in options[0] else 60))
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"x" * 3_000_000)
    subprocess.run(["tar", *options, "-cf", "../a.tar", "."], cwd=tmp_path / "in", check=True)
    opened = open_files(tmp_path / "a.tar")
    name = str((deep / "f").relative_to(tmp_path / "in"))
    chunks = list(opened.stream(name))
    assert [len(chunk) for chunk in chunks] == [1 << 20, 1 << 20, 3_000_000 - (2 << 20)]


def test_a_later_member_replaces_an_earlier_one(tmp_path: Path) -> None:
    opened = files(tmp_path, LayerBuilder().file("a", b"1").file("b", b"1").file("./a", b"22").directory("b").finish())
    assert opened.size("a") == 2
    assert opened.size("b") is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (bytes(1024), "is empty"),
        (b"x" * 2000, "not a tar archive, or a damaged one: no header at byte 0"),
        (LayerBuilder().file("a", b"1" * 600).finish()[:1000], "is truncated: a member at byte 512 has 600 bytes"),
        (LayerBuilder().file("a").finish(end_of_archive=False) + b"y" * 512, "no header at byte 512"),
        (gzip.compress(LayerBuilder().file("a", os.urandom(2000)).finish()), "compressed with gzip.*gunzip"),
        (b"BZh9" + b"x" * 2000, "compressed with bzip2.*bunzip2"),
    ],
)
def test_refuses(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(ContentError, match=says):
        files(tmp_path, content)


def header_with(field: slice, value: bytes, typeflag: bytes = b"0") -> bytes:
    header = bytearray(LayerBuilder().file("a").finish()[:512])
    header[156:157] = typeflag
    header[field] = value
    return with_checksum(bytes(header)) + bytes(4096)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (header_with(slice(124, 136), gnu_number(-5, 12)), "not a size"),
        (header_with(slice(124, 136), gnu_number(1 << 70, 12)), "not a size"),
        (header_with(slice(124, 136), b"99999999999\0"), "not a size"),
        (header_with(slice(124, 136), b"00000001000\0", b"x"), "malformed extended header"),
        (header_with(slice(0, 1), b"b", b"S"), "sparse"),
        (LayerBuilder().pax_global({b"comment": b"x" * 10}).file("x").raw(b"").finish()[:100], "is empty"),
    ],
)
def test_hostile_headers(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(ContentError, match=says):
        files(tmp_path, content)


@pytest.mark.parametrize(
    "records", [b"5 a=\n", b"99 path=x\n", b"3 x", b"12 size=-1ab\n", b"x", b"0 \n", b"11 size=1x4\n"]
)
def test_hostile_extended_headers(tmp_path: Path, records: bytes) -> None:
    content = LayerBuilder().file("pax", records).finish()
    changed = bytearray(content)
    changed[156:157] = b"x"
    try:
        files(tmp_path, with_checksum(bytes(changed[:512])) + bytes(changed[512:])).close()
    except ContentError as error:
        assert "extended header" in str(error)  # noqa: PT017 (records with an unknown key are no error)
    else:
        assert records == b"5 a=\n"


def test_a_huge_extended_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as out:
        out.write(header_with(slice(124, 136), b"%011o\0" % (1 << 30), b"L")[:512])
        out.truncate(2 << 30)
    with pytest.raises(ContentError, match="more than the 1048576 allowed"):
        open_files(path)


def test_links_stay_inside_and_end(tmp_path: Path) -> None:
    builder = LayerBuilder().symlink("out", "../../etc/passwd").symlink("loop", "loop2").symlink("loop2", "loop")
    opened = files(tmp_path, builder.file("../escaped", b"x").hardlink("gone", "nowhere").finish())
    assert opened.size("out") is None
    assert opened.size("gone") is None
    with pytest.raises(ContentError, match="link"):
        opened.size("loop")
    # docker load unpacks into a root of its own, above which is nothing.
    assert opened.size("escaped") == 1
    with pytest.raises(ContentError, match="leads out of the archive"):
        opened.size("../escaped")


def test_names_are_relative_to_the_archive_however_they_are_written(tmp_path: Path) -> None:
    builder = LayerBuilder().file("/abs", b"1").file("./dot/./f", b"22").file("x/../y", b"333").symlink("l", "/dot")
    opened = files(tmp_path, builder.symlink("m", "l").file("/../up", b"4444").finish())
    for name, size in {
        "abs": 1, "/abs": 1, "./abs": 1, "//abs": 1, "dot/f": 2, "/dot//f": 2, "z/../dot/f": 2, "y": 3, "l/f": 2, "m/f": 2,
        "m/./f": 2, "up": 4, "/etc/passwd": None, "abs/f": None,
    }.items():  # fmt: skip
        assert opened.size(name) == size, name


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    opened = files(tmp_path, LayerBuilder().file("a", b"1" * 5000).finish())
    os.truncate(tmp_path / "a.tar", 1000)
    with pytest.raises(SourceError, match="became shorter"):
        list(opened.stream("a"))


def test_directories_follow_no_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "d/f").write_bytes(b"abc")
    (root / "link").symlink_to("d")
    (root / "d/out").symlink_to("../../secret")
    os.mkfifo(root / "pipe")
    opened = open_files(root)
    assert isinstance(opened, DirectoryFiles)
    assert opened.size("d/f") == 3
    assert b"".join(opened.stream("d/f")) == b"abc"
    assert opened.size("d/g") is None
    for name in ("link/f", "d/out", "pipe", "d"):
        with pytest.raises(SourceError):
            opened.size(name)
    for name in ("../secret", "/../secret", "d/../../secret", "", "/", "d/..", "d/f\0"):
        with pytest.raises(ContentError, match=r"leads out of the archive|is not the name of a file"):
            opened.size(name)
    for name in ("/d/f", "./d/f", "d//f", "d/./f", "x/../d/f"):
        assert opened.size(name) == 3
    assert opened.size("/etc/passwd") is None
    with pytest.raises(SourceError, match="has no file d/g"):
        list(opened.stream("d/g"))
    with pytest.raises(ContentError, match="3 bytes, more than the 2 allowed"):
        read_file(opened, "d/f", 2, "x")
    opened.close()
    opened.close()


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot open"):
        open_files(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="neither a directory nor a file"):
        open_files(tmp_path / "pipe")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.dictionaries(st.text("ab/._é", min_size=1, max_size=150), st.binary(max_size=1500), min_size=1, max_size=5))
@example({"/../_": b""})
def test_agrees_with_python_on_any_names(tmp_path: Path, entries: dict[str, bytes]) -> None:
    builder = LayerBuilder()
    for name, content in entries.items():
        builder.file(name, content)
    made = builder.finish()
    opened = files(tmp_path, made)
    names = {os.path.normpath(name).lstrip("/") for name in entries}
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        expected = {os.path.normpath(member.name).lstrip("/"): member.size for member in tar if not member.isdir()}
    for name in names:
        if not name.startswith("..") and name not in ("", ".") and not any(raw.endswith("/") for raw in entries):
            assert opened.size(name) == expected.get(name)
    opened.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_a_damaged_archive_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(LayerBuilder().file("n" * 150, b"x" * 700).symlink("s", "n").file("e", b"1").finish())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = bytearray(with_checksum(bytes(content[:512]))) + content[512:]
    with contextlib.suppress(DrypointError):
        opened = files(tmp_path, bytes(content[: data.draw(st.integers(0, len(content)))]))
        opened.size("s")
        opened.close()
