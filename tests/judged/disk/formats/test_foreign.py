"""Files in formats that are not read: named, with the command that converts them, which is run where its program is there."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import drypoint
from drypoint.cli.app import cli
from drypoint.disk import FileDevice
from drypoint.disk.formats import ImageFormat, format_of_content, opened_image
from drypoint.disk.formats.foreign import foreign_format
from drypoint.errors import DiskImageError
from drypoint.samples.tools import find_tool, run_tool

MIB = 1 << 20
RAW = bytes(510) + b"\x55\xaa" + random.Random(3).randbytes(MIB) + bytes(MIB - 512)
LZMA = b"\x5d\0\0\x80\0" + b"\xff" * 8 + b"\0" + bytes(range(100))


def tar(*members: tuple[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


V7 = bytearray(tar(("disk.img", b"x")))
V7[257:265] = bytes(8)
V7[148:156] = b"%06o\0 " % (sum(V7[:512]) - sum(V7[148:156]) + 256)
ISO = bytes(32768) + b"\x01CD001\x01" + bytes(4096)
HEADS: list[tuple[bytes, str, str]] = [
    (b"QFI\xfb\0\0\0\x03" + bytes(600), "qcow2 image", "qemu-img convert -O raw"),
    (b"QFI\xfb\0\0\0\x01" + bytes(600), "qcow image", "qemu-img"),
    (b"QED\0" + bytes(600), "QED image", "qemu-img"),
    (b"KDMV\1\0\0\0" + bytes(600), "VMDK image", "qemu-img"),
    (b"COWD\1\0\0\0" + bytes(600), "VMDK image", "qemu-img"),
    (b"# Disk DescriptorFile\nversion=1\n", "descriptor of a VMDK image", "qemu-img"),
    (
        b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0") + b"\x7f\x10\xda\xbe" + bytes(600),
        "VDI",
        "qemu-img",
    ),
    (b"vhdxfile" + bytes(600), "VHDX image", "qemu-img"),
    (b"conectix\0\0\0\2" + bytes(600), "VHD image", "qemu-img"),
    (RAW[:4096] + b"conectix\0\0\0\2".ljust(512, b"\0"), "VHD image", "qemu-img"),
    (b"WithoutFreeSpace" + bytes(600), "Parallels image", "qemu-img"),
    (RAW[:4096] + b"koly\0\0\0\4\0\0\2\0".ljust(512, b"\0"), "UDIF", "dmg2img"),
    (b"\x3a\xff\x26\xed\1\0\0\0" + bytes(600), "Android sparse image", "simg2img"),
    (tar(("disk.img", b"x" * 600)), "tar archive", "tar -xf"),
    (tar(("disk.img", b"x" * 600), form=tarfile.GNU_FORMAT), "tar archive", "tar -xf"),
    (tar(("ü", b"x" * 600), form=tarfile.PAX_FORMAT), "tar archive", "tar -xf"),
    (bytes(V7), "tar archive", "tar -xf"),
    (b"\x04\x22\x4d\x18\x64\x40" + bytes(600), "lz4-compressed", "lz4 -d"),
    (b"\x02\x21\x4c\x18" + bytes(600), "lz4-compressed", "lz4 -d"),
    (LZMA, "lzma-compressed", "xz --format=lzma -dc"),
    (b"LZIP\1\x0c" + bytes(100), "lzip-compressed", "lzip -dc"),
    (b"\x89LZO\0\r\n\x1a\n" + bytes(100), "lzop-compressed", "lzop -d"),
    (b"\x1f\x9d\x90" + bytes(100), "compressed by compress", "gzip -dc"),
    (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(100), "7z archive", "7z x"),
    (b"Rar!\x1a\7\1\0" + bytes(100), "RAR archive", "unrar x"),
    (b"BZh91AY&SY" + bytes(100), "bzip2-compressed", "bunzip2"),
    (b"070701" + b"0" * 104 + bytes(100), "cpio archive", "cpio"),
    (ISO, "ISO 9660", "install it"),
]


@pytest.mark.parametrize(("content", "name", "command"), HEADS, ids=range(len(HEADS)))
def test_it_is_named_with_the_command(tmp_path: Path, content: bytes, name: str, command: str) -> None:
    path = tmp_path / "a base"
    path.write_bytes(content)
    with pytest.raises(DiskImageError) as raised, opened_image(path):
        pass
    assert name in str(raised.value)
    assert command in str(raised.value)
    assert f"'{path}'" in str(raised.value)
    result = CliRunner().invoke(cli, ["inspect", str(path)])
    assert str(result.exception) == str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        RAW,
        bytes(4096),
        b"",
        b"Q",
        # A boot sector that begins as an lzma file does, or as a tar's header.
        LZMA.ljust(510, b"\0") + b"\x55\xaa",
        tar(("disk.img", b"x"))[:510] + b"\x55\xaa",
        b"\x5d\0\0\x81\0" + b"\xff" * 8 + b"\0" * 500,
        ISO[:510] + b"\x55\xaa" + ISO[512:],
    ],
)
def test_a_raw_disk_image_is_not_taken_for_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "base.img"
    path.write_bytes(content)
    with FileDevice(path) as device:
        assert foreign_format(device) is None
        assert format_of_content(device) is ImageFormat.RAW


def by_qemu(kind: str) -> Callable[[Path, Path], None]:
    def make(raw: Path, path: Path) -> None:
        run_tool("qemu-img", "convert", "-f", "raw", "-O", *kind.split(), raw, path)

    return make


def by_shell(command: str) -> Callable[[Path, Path], None]:
    def make(raw: Path, path: Path) -> None:
        subprocess.run(command.format(raw=raw, path=path), shell=True, check=True, cwd=raw.parent, capture_output=True)

    return make


REAL: list[tuple[str, str, Callable[[Path, Path], None]]] = [
    *(
        (f"disk.{kind}", "qemu-img", by_qemu(kind))
        for kind in ("qcow2", "qcow", "vmdk", "vdi", "vhdx", "qed", "parallels")
    ),
    ("fixed.vhd", "qemu-img", by_qemu("vpc -o subformat=fixed,force_size")),
    ("dynamic.vhd", "qemu-img", by_qemu("vpc -o subformat=dynamic,force_size")),
    ("stream.vmdk", "qemu-img", by_qemu("vmdk -o subformat=streamOptimized")),
    ("disk.img.lz4", "lz4", by_shell("lz4 -q {raw} {path}")),
    ("disk.img.lzma", "xz", by_shell("xz --format=lzma -c {raw} > {path}")),
    ("small.img.lzma", "xz", by_shell("xz --format=lzma -0 -c {raw} > {path}")),
    ("disk.img.bz2", "bzip2", by_shell("bzip2 -c {raw} > {path}")),
    ("disk.tar", "tar", by_shell("tar -cf {path} {raw.name}")),
    ("disk.7z", "7zz", by_shell("7zz a -mx1 {path} {raw.name}")),
]


@pytest.mark.parametrize(("name", "tool", "make"), REAL, ids=[name for name, _, _ in REAL])
def test_what_real_programs_make(
    tmp_path: Path, name: str, tool: str, make: Callable[[Path, Path], None], request: pytest.FixtureRequest
) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    raw = tmp_path / "made.img"
    raw.write_bytes(RAW)
    path = tmp_path / name
    make(raw, path)
    raw.unlink()
    with FileDevice(path) as device:
        found = foreign_format(device)
    assert found is not None
    command = found.advice(str(path))
    program = command.split()[0]
    if shutil.which(program) is None:
        return
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    made = [one for one in tmp_path.iterdir() if one != path]
    assert len(made) == 1
    assert made[0].read_bytes()[: len(RAW)] == RAW


def test_an_etch_archive_is_one(tmp_path: Path) -> None:
    base = tmp_path / "base.img"
    with base.open("wb") as file:
        file.truncate(16 * MIB)
    run_tool("mkfs.ext4", "-q", "-F", base)
    written: list[bytes] = []
    files = [drypoint.ExtraFile(b"apps.json", b"{}")]
    request = drypoint.PreloadRequest(
        [], drypoint.parse_platform("amd64"), target=drypoint.Target(partition=0), files=files
    )
    drypoint.pack(base, lambda data: written.append(bytes(data)), request)
    path = tmp_path / "base.etch"
    path.write_bytes(b"".join(written))
    with pytest.raises(DiskImageError, match=r"an \.etch archive.*drypoint inject .* -o "), opened_image(path):
        pass


@pytest.mark.parametrize("tool", ["gzip", "xz", "zstd"])
@pytest.mark.parametrize(
    ("content", "words"), [(tar(("d.img", RAW)), "a tar archive"), (b"\x1f\x8b\x08" * 99, "gzip-compressed")]
)
def test_what_is_packed_again_is_named(tmp_path: Path, tool: str, content: bytes, words: str) -> None:
    path = tmp_path / "disk.packed"
    done = subprocess.run([find_tool(tool), "-c"], input=content, capture_output=True, check=True)
    path.write_bytes(done.stdout)
    with pytest.raises(DiskImageError, match=f"packed in it by {tool} is {words}"), opened_image(path):
        pass
