"""Disk images and destinations that are refused: each told by what it is, where, and with the way out; and nothing is left."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.ext4_images import judge_ext4
from tests.support.flasher_images import build_flasher_image
from tests.support.mounts import mounted

from drypoint.cli.app import cli
from drypoint.errors import (
    DiskImageError,
    DrypointError,
    FilesystemError,
    OutputError,
    PartitionTableError,
    UsageError,
)
from drypoint.samples.applications import sample_images
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, SECTOR, DiskImage, Sizes, build_disk_image
from drypoint.samples.images import write_oci_layout
from drypoint.samples.tools import run_tool

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "tune2fs")

JOURNAL = "e3599acf-0405-480d-995b-fcef7d091f11"
SMALL = Sizes(boot=40 * MIB, root_a=8 * MIB, root_b=8 * MIB, state=8 * MIB, data=16 * MIB)


@dataclass(frozen=True, slots=True)
class Refusal:
    """*spoil* makes a copy of a good base what is refused; *says* are regular expressions that the message matches."""

    spoil: Callable[[Path, DiskImage], None]
    error: type[DrypointError]
    says: tuple[str, ...]
    options: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    return build_disk_image(tmp_path_factory.mktemp("good") / "base.img", sizes=SMALL)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("layout") / "layout"
    write_oci_layout(path, {"demo/weather:1.0": sample_images()["demo/weather:1.0"]})
    return f"oci:{path}"


def place(path: Path, image: DiskImage) -> str:
    """The data partition, as e2fsprogs' tools take it."""
    return f"{path}?offset={image.partition('resin-data').offset}"


def by_debugfs(command: str) -> Callable[[Path, DiskImage], None]:
    def spoil(path: Path, image: DiskImage) -> None:
        run_tool("debugfs", "-w", "-R", command, place(path, image))

    return spoil


def formatted(*options: str) -> Callable[[Path, DiskImage], None]:
    """*options* are mkfs.ext4's; of -E, which it takes once, the last."""
    words, extended = list(options), ""
    if "-E" in words:
        at = words.index("-E")
        extended = f",{words[at + 1]}"
        del words[at : at + 2]

    def spoil(path: Path, image: DiskImage) -> None:
        data = image.partition("resin-data")
        place = ["-L", data.label, "-E", f"offset={data.offset}{extended}"]
        run_tool("mkfs.ext4", "-q", "-F", *words, *place, path, f"{data.size >> 10}k")

    return spoil


def made_with(feature: str) -> Callable[[Path, DiskImage], None]:
    return formatted("-O", feature)


def journal_elsewhere(path: Path, image: DiskImage) -> None:
    """As mke2fs -J device= leaves it, which takes a block device."""
    commands = f"ssv journal_inum 0\nssv journal_dev 0x700\nssv journal_uuid {JOURNAL}\n"
    run_tool("debugfs", "-w", "-f", "-", place(path, image), script=commands)


def holding(name: str, *arguments: str, size: int = 16 * MIB) -> Callable[[Path, DiskImage], None]:
    """The data partition made by a program that formats a file, whose name comes last. The disk image grows for it."""

    def spoil(path: Path, image: DiskImage) -> None:
        data = image.partition("resin-data")
        content = path.with_name("content")
        content.touch()
        os.truncate(content, size)
        run_tool(name, *arguments, content, script="a passphrase")
        with path.open("r+b") as disk, content.open("rb") as source:
            disk.truncate(data.offset + size)
            disk.seek(data.offset)
            disk.write(source.read())
        content.unlink()
        if size > data.size:
            for number in ("4", "6"):
                run_tool("sfdisk", "-q", "--no-reread", "-N", number, path, script=", +\n")

    return spoil


def labelled(number: str, label: str) -> Callable[[Path, DiskImage], None]:
    def spoil(path: Path, image: DiskImage) -> None:
        run_tool("e2label", f"{path}?offset={image.partition(number).offset}", label)

    return spoil


def overlapping(path: Path, image: DiskImage) -> None:
    size = image.partition("resin-rootA").size // SECTOR + 2048
    with path.open("r+b") as disk:
        disk.seek(446 + 16 + 12)
        disk.write(struct.pack("<I", size))


def cut(path: Path, _: DiskImage) -> None:
    os.truncate(path, path.stat().st_size - 4 * MIB)


REFUSALS = {
    "a journal to replay": Refusal(
        by_debugfs("feature needs_recovery"),
        FilesystemError,
        (r"base\.img: .*partition 6 \('resin-data'\) was not cleanly unmounted: .* journal", "With --fsck, preload and plan"),
    ),
    "errors on record": Refusal(
        by_debugfs("ssv state 3"),
        FilesystemError,
        (r"partition 6 \('resin-data'\) is marked as having errors", "With --fsck"),
    ),
    "deleted files": Refusal(
        by_debugfs("ssv last_orphan 13"),
        FilesystemError,
        (r"partition 6 \('resin-data'\) has deleted files that are not yet freed", "With --fsck"),
    ),
    "damage": Refusal(
        by_debugfs("clri /resin-data"),
        FilesystemError,
        (
            r"partition 6 \('resin-data'\) is damaged, and nothing was changed\. e2fsck says: Pass 1.*resin-data.*",
            r"Repair it first \(e2fsck -f\) or use another disk image\. With --fsck",
        ),
    ),
    "counts that cannot be": Refusal(
        by_debugfs("ssv free_blocks_count 999999999"),
        FilesystemError,
        ("the superblock of the ext4 file system makes no sense; run e2fsck -f on it", "With --fsck"),
    ),
    "damage beyond e2fsck -p": Refusal(
        by_debugfs("clri <2>"),
        FilesystemError,
        (
            r"damaged beyond what e2fsck repairs automatically\. It says: .*Root inode is not a directory",
            r"Repair it by hand first \(e2fsck -f\), or use another",
        ),
        ("--fsck",),
    ),
    **{
        f"ext4 with {feature}": Refusal(
            made_with(feature),
            FilesystemError,
            (
                rf"file system in partition 6 of .*base\.img uses features that .* cannot write: {feature}\.",
                rf"mkfs\.ext4 -O \^{feature}",
            ),
        )
        for feature in ("bigalloc", "quota", "encrypt", "verity", "casefold", "inline_data", "ea_inode", "mmp")
    },
    "btrfs": Refusal(
        holding("mkfs.btrfs", "-q", "-L", "resin-data", size=128 * MIB),
        FilesystemError,
        ("partition 6 holds btrfs, but the engine's store needs ext4 ", r"--data-partition, of 1 'resin-boot' \(FAT16\), 2 "),
    ),
    "f2fs": Refusal(
        holding("mkfs.f2fs", "-q", "-l", "resin-data", size=64 * MIB),
        FilesystemError,
        ("partition 6 holds f2fs, but the engine's store needs ext4 ", "or use a disk image with ext4 there"),
    ),
    "LUKS by number": Refusal(
        holding("cryptsetup", "luksFormat", "-q", "--key-file=-", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"),
        FilesystemError,
        (r"partition 6 is encrypted \(LUKS2\), .* without its key", "Use a disk image that is not encrypted"),
        ("--data-partition", "6"),
    ),
    "LUKS instead of resin-data": Refusal(
        holding("cryptsetup", "luksFormat", "-q", "--key-file=-", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"),
        DiskImageError,
        (r"'resin-data'.*6 \(LUKS2\)", r"What an encrypted one \(6 \(LUKS2\)\) holds cannot be read"),
    ),
    "a journal device": Refusal(
        holding("mkfs.ext4", "-q", "-F", "-O", "journal_dev", "-L", "resin-data"),
        FilesystemError,
        ("partition 6 holds journal of an ext file system elsewhere, but the engine's store", "--data-partition, of"),
    ),
    "a journal elsewhere": Refusal(
        journal_elsewhere,
        FilesystemError,
        (rf"partition 6 holds ext4, but its journal is on another device \(UUID {JOURNAL}\)", r"tune2fs -O \^has_journal"),
    ),
    "a journal elsewhere, with --fsck": Refusal(
        journal_elsewhere, FilesystemError, (rf"its journal is on another device \(UUID {JOURNAL}\)",), ("--fsck",)
    ),
    **{
        f"no filetype: {' '.join(options)}": Refusal(
            formatted(*options),
            FilesystemError,
            (r"partition 6 \('resin-data'\) was made without the feature filetype .d_type", r"mkfs\.ext4 -O filetype"),
        )
        for options in (("-O", "^filetype"), ("-t", "ext2", "-O", "^filetype"), ("-t", "ext2", "-r", "0"))
    },
    "no such label": Refusal(
        lambda *_: None,
        PartitionTableError,
        (r"base\.img: no partition has the label 'data'; there are 1 'resin-boot' \(FAT16\), .*, 6 'resin-data' \(ext4\)",),
        ("--data-partition", "data"),
    ),
    "two of that label": Refusal(
        labelled("resin-state", "resin-data"),
        PartitionTableError,
        ("partitions 5 and 6 both have the label 'resin-data'; choose the partition by its number instead",),
    ),
    "overlapping partitions": Refusal(
        overlapping,
        PartitionTableError,
        (r"partition 2 \(bytes \d+ to \d+\) and partition 3 \(\d+ to \d+\) overlap", "repair the partition table first"),
    ),
    "cut short": Refusal(
        cut, PartitionTableError, (r"ends at byte \d+, beyond the end of the file .* download cut short\?",)
    ),
}  # fmt: skip

TOOLS = {
    "btrfs": "mkfs.btrfs",
    "f2fs": "mkfs.f2fs",
    "LUKS by number": "cryptsetup",
    "LUKS instead of resin-data": "cryptsetup",
}


def refused(arguments: list[str | Path]) -> DrypointError:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert isinstance(done.exception, DrypointError), done.output
    return done.exception


def copy_of(image: DiskImage, directory: Path) -> Path:
    path = directory / "base.img"
    subprocess.run(["cp", "--sparse=always", image.path, path], check=True)
    return path


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.needs(TOOLS[name])) if name in TOOLS else name for name in REFUSALS],
)
def test_refused_before_anything_is_written(tmp_path: Path, good: DiskImage, layout: str, name: str) -> None:
    refusal = REFUSALS[name]
    base = copy_of(good, tmp_path)
    refusal.spoil(base, good)
    before = base.read_bytes()
    in_place = ["preload", str(base), "--in-place"]
    for command in (["plan", str(base)], ["preload", str(base), "-o", str(tmp_path / "out.img")], in_place):
        error = refused([*command, "-q", "--image", layout, *refusal.options])
        assert type(error) in (refusal.error, *refusal.error.__subclasses__()), error
        for expected in refusal.says:
            assert re.search(expected, str(error)), error
        assert "/proc/" not in str(error)
        assert [path.name for path in tmp_path.iterdir()] == ["base.img"]
        assert base.read_bytes() == before


@pytest.mark.parametrize(
    "feature", ["sparse_super2", "orphan_file", "^has_journal", "^extent,^64bit", "large_dir", "meta_bg,^resize_inode"]
)
def test_features_that_do_no_harm(tmp_path: Path, good: DiskImage, layout: str, feature: str) -> None:
    base = copy_of(good, tmp_path)
    made_with(feature)(base, good)
    run_tool("debugfs", "-w", "-R", "mkdir docker", place(base, good))
    done = CliRunner().invoke(cli, ["plan", str(base), "--image", layout])
    # sparse_super2 is written beside, but resize2fs does not grow it, and here it would have to grow.
    assert done.exit_code == 0 or feature == "sparse_super2", done.exception


@pytest.mark.needs("mkfs.ext4", root=True)
@pytest.mark.parametrize(
    "options",
    [
        ("-t", "ext2"),
        ("-t", "ext3"),
        ("-t", "ext2", "-I", "128", "-b", "1024"),
        ("-t", "ext3", "-b", "2048"),
        ("-t", "ext4", "-E", "desc_size=128"),
        ("-t", "ext4", "-b", "1024", "-E", "desc_size=1024"),
    ],
    ids=" ".join,
)
def test_other_kinds_of_ext_are_filled_and_grown(
    tmp_path: Path, good: DiskImage, layout: str, options: tuple[str, ...]
) -> None:
    base = copy_of(good, tmp_path)
    data = good.partition("resin-data")
    formatted(*options)(base, good)
    output = tmp_path / "out.img"
    done = CliRunner().invoke(
        cli, ["preload", str(base), "-o", str(output), "--image", layout, "--additional-space", "300MiB"]
    )
    assert done.exit_code == 0, done.exception
    assert "grow" in done.stderr
    judge_ext4(output, offset=data.offset)
    with mounted(output, offset=data.offset, writable=True) as point:
        assert (point / "docker/image/overlay2/repositories.json").stat().st_size > 0
        (point / "by the kernel").write_bytes(b"x" * 100_000)
    judge_ext4(output, offset=data.offset)
    assert CliRunner().invoke(cli, ["verify", str(output)]).exit_code == 0


def test_secure_boot_is_refused(tmp_path: Path, good: DiskImage, layout: str) -> None:
    config = {"installer": {"secureboot": True}}
    image = build_flasher_image(
        tmp_path / "flasher.img",
        good.path,
        beside={"balena-image-genericx86-64-ext.balenaos-img.sig": b"x"},
        config=config,
    )
    error = refused(["preload", image.disk.path, "-o", tmp_path / "out.img", "--image", layout])
    assert "secure boot" in str(error)
    assert "configure the disk image without secure boot" in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["flasher.img"]


@pytest.mark.parametrize(
    ("arguments", "kind", "expected"),
    [
        (["{base}.gz", "--in-place"], UsageError, "gzip-compressed, so it cannot be changed in place; name an output with -o"),
        (["{base}", "--in-place", "--bmap", "x.bmap"], UsageError, "a block map is for a disk image that is made"),
        (["{base}", "--in-place", "-o", "out.img"], UsageError, "give either -o OUT, for a new disk image, or --in-place"),
        (["{base}"], UsageError, "give either -o OUT, for a new disk image, or --in-place"),
        (["{base}", "-o", "{base}"], OutputError, "it is the input"),
        (["{base}", "-o", "{base}.gz"], OutputError, "it exists; remove it, choose another name"),
        (["{base}", "-o", "{base}.bz2"], UsageError, "bz2"),
        (["{base}", "-o", "missing/out.img"], OutputError, "the directory missing does not exist"),
        (["{base}", "-o", "/dev/null"], OutputError, "it exists and is not a regular file"),
    ],
)  # fmt: skip
def test_destinations_that_are_refused(
    tmp_path: Path,
    good: DiskImage,
    layout: str,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    kind: type[DrypointError],
    expected: str,
) -> None:
    base = copy_of(good, tmp_path)
    subprocess.run(["gzip", "-1", "-k", base], check=True)
    monkeypatch.chdir(tmp_path)
    error = refused(["preload", *(text.format(base=base) for text in arguments), "--image", layout])
    assert isinstance(error, kind)
    assert expected in str(error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.img", "base.img.gz"]


def test_in_place_with_nothing_to_do_changes_nothing_and_keeps_no_copy(
    tmp_path: Path, good: DiskImage, layout: str
) -> None:
    base = copy_of(good, tmp_path)
    first = CliRunner().invoke(cli, ["preload", str(base), "--in-place", "--image", layout])
    assert first.exit_code == 0, first.exception
    content, state = base.read_bytes(), base.stat()
    again = CliRunner().invoke(
        cli, ["preload", str(base), "--in-place", "--image", layout, "--fsck", "--shrink-to-fit"]
    )
    assert again.exit_code == 0, again.exception
    assert "keeping a copy" in first.stderr
    assert "keeping a copy" not in again.stderr
    assert base.read_bytes() == content
    assert (base.stat().st_ino, base.stat().st_mtime_ns) == (state.st_ino, state.st_mtime_ns)
    assert [path.name for path in tmp_path.iterdir()] == ["base.img"]


@pytest.mark.parametrize(
    "command",
    [
        "ssv state 3",
        "ssv last_orphan 13",
        "sif /resin-data links_count 7",
        # Numbers that cannot be, which e2fsck counts anew without asking.
        "ssv free_blocks_count 999999999",
        "ssv free_inodes_count 999999999",
    ],
)
def test_what_e2fsck_repairs_automatically_is_repaired_on_demand(
    tmp_path: Path, good: DiskImage, layout: str, command: str
) -> None:
    base = copy_of(good, tmp_path)
    by_debugfs(command)(base, good)
    before = base.read_bytes()
    assert CliRunner().invoke(cli, ["plan", str(base), "--fsck", "--image", layout]).exit_code == 0
    outputs = [tmp_path / name for name in ("one.img", "two.img")]
    for output in outputs:
        done = CliRunner().invoke(cli, ["preload", str(base), "-o", str(output), "--fsck", "--image", layout])
        assert done.exit_code == 0, done.exception
        run_tool("e2fsck", "-fn", place(output, good))
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert base.read_bytes() == before
    changed = CliRunner().invoke(cli, ["preload", str(base), "--in-place", "--fsck", "--image", layout])
    assert changed.exit_code == 0, changed.exception
    assert base.read_bytes() == outputs[0].read_bytes()


def test_a_base_that_is_sound_is_the_same_with_and_without_fsck(tmp_path: Path, good: DiskImage, layout: str) -> None:
    outputs = [tmp_path / "with.img", tmp_path / "without.img"]
    for output, options in zip(outputs, (["--fsck"], []), strict=True):
        done = CliRunner().invoke(cli, ["preload", str(good.path), "-o", str(output), "--image", layout, *options])
        assert done.exit_code == 0, done.exception
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
