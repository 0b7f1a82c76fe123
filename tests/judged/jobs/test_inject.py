"""Archives made by hand, by GNU tar and bsdtar, injected into a disk image like balenaOS's."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drypoint import inject
from drypoint.disk import FileDevice, Window, find_partition, read_table
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.disk.fat.files import list_fat_directory, read_fat_file
from drypoint.disk.host.workspace import Destination
from drypoint.errors import ContentError, DiskImageError, DrypointError, FilesystemError, OutputError, StoreError
from drypoint.fstree import BlockDevice, CharDevice, Directory, Fifo, Metadata, Regular, Stat, Symlink
from drypoint.injection.request import InjectRequest
from drypoint.samples.disk_images import EPOCH, IMAGE_TOOLS, MIB, Sizes, build_disk_image
from drypoint.stores.overlay2.repositories import MAX_REPOSITORIES_BYTES

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "tar", "bsdtar", "e2fsck", "mcopy")

SIZES = Sizes(boot=4 * MIB, root_a=4 * MIB, root_b=4 * MIB, state=4 * MIB, data=8 * MIB)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices and files of others")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_disk_image(tmp_path_factory.mktemp("base") / "image.img", sizes=SIZES).path


@pytest.fixture
def place(tmp_path: Path, base: Path) -> Path:
    """A directory with a disk image and an empty inject/6."""
    subprocess.run(["cp", "--sparse=always", base, tmp_path / "image.img"], check=True)
    (tmp_path / "inject/6").mkdir(parents=True)
    return tmp_path


def make(place: Path, *command: str) -> Path:
    """Run *command*, which writes test.tar, in *place*."""
    subprocess.run(command, cwd=place, check=True, capture_output=True)
    return place / "test.tar"


def gnu_tar(place: Path, *options: str) -> Path:
    return make(place, "tar", "cf", "test.tar", *options, "./image.img", "inject")


def bsdtar(place: Path, *options: str) -> Path:
    return make(place, "bsdtar", "cf", "test.tar", *options, "./image.img", "inject")


def injected(archive: Path, *, overwrite_files: bool = False) -> Path:
    out = archive.with_name("out.img")
    with archive.open("rb") as file:
        request = InjectRequest(overwrite_files=overwrite_files)
        inject(file, Destination(out, overwrite=True), request, name="test.tar")
    return out


def refused(archive: Path, error: type[DrypointError], says: str) -> None:
    """Injecting fails, says why, and leaves nothing behind."""
    before = set(archive.parent.iterdir())
    with pytest.raises(error, match=says):
        injected(archive)
    assert set(archive.parent.iterdir()) == before


@contextmanager
def partition(image: Path, number: int) -> Iterator[Window]:
    with FileDevice(image) as device:
        found = find_partition(device, read_table(device), number).partition
        yield Window(device, found.start, found.size)


def look(image: Path, path: bytes, number: int = 6) -> tuple[Stat, bytes]:
    with partition(image, number) as window:
        reader = Ext4Reader(window)
        found = reader.lookup(path)
        assert found is not None, path
        content = b"".join(bytes(piece) for piece in reader.read(found)) if isinstance(found.entry, Regular) else b""
    return found, content


def test_the_example_of_the_format(place: Path) -> None:
    (place / "inject/6/testfile1.txt").write_text("hello\n")
    (place / "inject/6/testfile2.txt").symlink_to("./testfile1.txt")
    out = injected(make(place, "tar", "cvvf", "test.tar", "./image.img", "inject"))
    assert look(out, b"testfile1.txt")[1] == b"hello\n"
    link = look(out, b"testfile2.txt")[0].entry
    assert isinstance(link, Symlink)
    assert link.target == b"./testfile1.txt"
    # What was there stays.
    assert look(out, b"remove_me_to_reset")[0].entry.metadata == Metadata(0o644, mtime=EPOCH * 10**9)  # type: ignore[union-attr]


@pytest.mark.parametrize("tar", ["tar", "bsdtar"])
def test_paths_as_they_were_given_to_tar(place: Path, tar: str) -> None:
    """An absolute path loses its first slash only. Whatever lies above is called inject too here, to lead astray."""
    work = place / "inject/6/inject"
    (work / "inject/6").mkdir(parents=True)
    (work / "inject/6/file").write_bytes(b"x")
    os.link(work / "inject/6/file", work / "inject/6/second")
    made = make(place, tar, "cf", "test.tar", str(place / "image.img"), str(work / "inject"))
    out = injected(made)
    assert look(out, b"file")[1] == b"x"
    assert look(out, b"second")[0].inode == look(out, b"file")[0].inode
    # Without the directory itself, nobody knows which of them it is.
    refused(
        make(place, tar, "cf", "test.tar", str(place / "image.img"), str(work / "inject/6/file")),
        ContentError,
        r"is outside inject/<partition number>/ \(give tar the directory inject as a whole, or use its -C\)",
    )
    refused(
        make(place, tar, "cf", "test.tar", str(work / "inject"), str(place / "image.img")),
        ContentError,
        "inject comes before any disk image",
    )


def test_the_whole_directory_with_both(place: Path) -> None:
    (place / "inject/6/f").write_bytes(b"x")
    make(place.parent, "tar", "cf", f"{place}/test.tar", "--sort=name", place.name)
    assert look(injected(place / "test.tar"), b"f")[1] == b"x"


def test_two_runs_give_the_same_bytes(place: Path) -> None:
    (place / "inject/6/a/b").mkdir(parents=True)
    (place / "inject/6/a/b/c").write_bytes(b"x" * 100_000)
    archive = gnu_tar(place)
    one = injected(archive).read_bytes()
    assert injected(archive).read_bytes() == one


@pytest.mark.parametrize(
    "pack",
    [
        lambda place: gnu_tar(place, "--format=pax", "--xattrs", "--xattrs-include=*", "--acls"),
        lambda place: gnu_tar(place, "--format=posix", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"),
        lambda place: bsdtar(place, "--format=pax", "--xattrs", "--acls"),
        lambda place: bsdtar(place, "--format=pax", "--xattrs", "--acls", "--options", "xattrheader=LIBARCHIVE"),
        lambda place: bsdtar(place, "--format=pax", "--xattrs", "--acls", "--options", "xattrheader=SCHILY"),
    ],
    ids=["gnu", "gnu-numeric", "bsd", "bsd-libarchive", "bsd-schily"],
)  # fmt: skip
@as_root
@pytest.mark.needs("setfacl", "setcap")
def test_every_kind_of_entry(place: Path, pack: Callable[[Path], Path]) -> None:
    root = place / "inject/6"
    (root / "dir").mkdir(mode=0o750)
    file = root / "dir/file__with__underscores"
    file.write_bytes(b"content")
    os.setxattr(file, "user.note", b"binary \x00\xff= value")
    os.setxattr(file, "user.empty", b"")
    subprocess.run(["setcap", "cap_net_raw+ep", file], check=True)
    os.chown(file, 3_000_000, 70_000)
    subprocess.run(["setcap", "cap_net_raw+ep", file], check=True)
    file.chmod(0o2711)
    subprocess.run(["setcap", "cap_net_raw+ep", file], check=True)
    os.utime(file, ns=(0, 1_600_000_000_123_456_789))
    os.link(file, root / "dir/second")
    (root / "shared").write_bytes(b"acl")
    subprocess.run(["setfacl", "-m", "u:1234:r-x,g:77:rw-", root / "shared"], check=True)
    (root / os.fsdecode(b"caf\xe9")).write_bytes(b"latin")
    (root / ("long-" * 40)).mkdir()
    (root / ("long-" * 40) / ("longer" * 40)).symlink_to("target/" * 40)
    os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(root / "disk", 0o660 | stat.S_IFBLK, os.makedev(259, 70_000))
    os.mkfifo(root / "fifo")
    out = injected(pack(place))
    found, content = look(out, b"dir/file__with__underscores")
    assert content == b"content"
    assert found.links == 2
    assert found.inode == look(out, b"dir/second")[0].inode
    metadata = found.entry.metadata  # type: ignore[union-attr]
    assert (metadata.mode, metadata.uid, metadata.gid) == (0o2711, 3_000_000, 70_000)
    assert metadata.mtime == 1_600_000_000_123_456_789
    assert dict(metadata.xattrs) == {
        b"user.note": b"binary \x00\xff= value",
        b"user.empty": b"",
        b"security.capability": os.getxattr(file, "security.capability"),
    }
    shared = look(out, b"shared")[0].entry.metadata  # type: ignore[union-attr]
    assert dict(shared.xattrs) == {b"system.posix_acl_access": os.getxattr(root / "shared", "system.posix_acl_access")}
    assert look(out, b"caf\xe9")[1] == b"latin"
    link = look(out, b"long-" * 40 + b"/" + b"longer" * 40)[0].entry
    assert isinstance(link, Symlink)
    assert link.target == b"target/" * 40
    null, disk = look(out, b"null")[0].entry, look(out, b"disk")[0].entry
    assert isinstance(null, CharDevice)
    assert (null.major, null.minor) == (1, 3)
    assert isinstance(disk, BlockDevice)
    assert (disk.major, disk.minor) == (259, 70_000)
    assert isinstance(look(out, b"fifo")[0].entry, Fifo)
    assert isinstance(look(out, b"dir")[0].entry, Directory)


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
    ids=["gnu", "0.0", "0.1", "1.0"],
)
def test_sparse_files_of_gnu_tar(place: Path, options: list[str]) -> None:
    with (place / "inject/6/sparse").open("wb") as file:
        for number in range(30):
            file.seek(number * 200_000)
            file.write(b"%d" % number * 1000)
        file.truncate(30 * 200_000)
    # The disk image is sparse too.
    out = injected(gnu_tar(place, "--sparse", *options))
    assert look(out, b"sparse")[1] == (place / "inject/6/sparse").read_bytes()


def test_the_partition_grows(place: Path) -> None:
    noise = os.urandom(1 * MIB)
    for number in range(48):
        (place / f"inject/6/file{number}").write_bytes(noise)
    archive = gnu_tar(place)
    with archive.open("rb") as file:
        done = inject(file, place / "out.img")
    assert [(one.number, one.label, one.members) for one in done.partitions] == [(6, "resin-data", 49)]
    assert done.partitions[0].before == 8 * MIB
    assert done.partitions[0].size > 48 * MIB
    assert look(place / "out.img", b"file47")[1] == noise


def test_several_partitions_and_fat(place: Path) -> None:
    (place / "inject/1/system-connections").mkdir(parents=True)
    (place / "inject/1/system-connections/static_ip").write_bytes(b"[ipv4]\n")
    (place / "inject/5").mkdir()
    (place / "inject/5/state").write_bytes(b"s")
    (place / "inject/6/data").write_bytes(b"d")
    out = injected(gnu_tar(place))
    assert look(out, b"state", 5)[1] == b"s"
    assert look(out, b"data", 6)[1] == b"d"
    with partition(out, 1) as window:
        assert read_fat_file(window, "system-connections/static_ip", 100) == b"[ipv4]\n"
        assert {entry.name for entry in list_fat_directory(window) or ()} >= {"config.json", "splash"}


@pytest.mark.parametrize("kind", ["gzip", "xz", "zstd", "zip", "whole", "nested"])
@pytest.mark.needs("zstd")
def test_a_compressed_disk_image(place: Path, kind: str) -> None:
    (place / "inject/6/f").write_bytes(b"x")
    plain = injected(gnu_tar(place, "--mtime=@1000000000")).read_bytes()
    image = place / "image.img"
    content = image.read_bytes()
    match kind:
        case "gzip" | "nested":
            image.write_bytes(gzip.compress(content, 1))
        case "xz":
            image.write_bytes(lzma.compress(content, preset=0))
        case "zstd":
            subprocess.run(["zstd", "-q", "--rm", "-o", "image.zst", "image.img"], cwd=place, check=True)
            (place / "image.zst").rename(image)
        case "zip":
            image.unlink()
            with zipfile.ZipFile(image, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.writestr("balena.img", content)
    made = gnu_tar(place, "--mtime=@1000000000")
    if kind in ("whole", "nested"):
        made.write_bytes(gzip.compress(made.read_bytes(), 1))
    assert injected(made).read_bytes() == plain


def test_a_zip_archive_without_a_disk_image_is_named(place: Path) -> None:
    (place / "image.img").unlink()
    with zipfile.ZipFile(place / "image.img", "w") as archive:
        archive.writestr("__MACOSX/._balena.img", b"resource fork")
    refused(gnu_tar(place), DiskImageError, r"^\./image.img: the zip archive holds no disk image")


def test_directories_merge_and_keep_what_they_are(place: Path) -> None:
    (place / "inject/6/resin-data/deep").mkdir(parents=True, mode=0o700)
    (place / "inject/6/resin-data").chmod(0o700)
    (place / "inject/6/resin-data/deep/f").write_bytes(b"x")
    archive = gnu_tar(place)
    out = injected(archive)
    assert look(out, b"resin-data/.keep")
    assert look(out, b"resin-data/deep/f")[1] == b"x"
    assert look(out, b"resin-data")[0].entry.metadata == Metadata(0o755, mtime=EPOCH * 10**9)  # type: ignore[union-attr]
    out = injected(archive, overwrite_files=True)
    assert look(out, b"resin-data")[0].entry.metadata.mode == 0o700  # type: ignore[union-attr]


def test_a_file_is_replaced_on_demand_only(place: Path) -> None:
    (place / "inject/6/remove_me_to_reset").write_bytes(b"new")
    archive = gnu_tar(place)
    refused(archive, FilesystemError, r"/remove_me_to_reset is there already on the partition.*--overwrite-files")
    assert look(injected(archive, overwrite_files=True), b"remove_me_to_reset")[1] == b"new"


def test_a_manifest_names_what_is_replaced_and_which_partition(place: Path) -> None:
    (place / "manifest.json").write_text(
        '{"image": "registry/image", "inject": [{"partition": "6", "partitionName": "resin-data", "inject": "data", '
        '"replace": ["remove_me_to_reset"]}]}'
    )
    (place / "inject/6").rename(place / "inject/data")
    (place / "inject/data/remove_me_to_reset").write_bytes(b"new")
    out = injected(make(place, "tar", "cf", "test.tar", "manifest.json", "image.img", "inject"))
    assert look(out, b"remove_me_to_reset")[1] == b"new"


def test_what_is_to_be_merged_is_no_repositories_file(place: Path) -> None:
    """It is held to be merged, so its length is looked at first."""
    (place / "manifest.json").write_text('{"inject": [{"partition": 6, "inject": 6, "merge": ["remove_me_to_reset"]}]}')
    member = place / "inject/6/remove_me_to_reset"
    with member.open("wb") as file:
        file.truncate(MAX_REPOSITORIES_BYTES + 1)
    command = ["tar", "cSf", "test.tar", "manifest.json", "image.img", "inject"]
    refused(make(place, *command), FilesystemError, r"has \d+ bytes, too many for a repositories.json")
    member.write_bytes(b"[]")
    refused(make(place, *command), StoreError, "repositories.json")


def test_a_file_on_fat_is_replaced_on_demand_only(place: Path) -> None:
    (place / "inject/1").mkdir()
    (place / "inject/1/CONFIG.json").write_bytes(b"{}")
    archive = gnu_tar(place)
    refused(archive, FilesystemError, "partition 1 of .*: /CONFIG.json exists")
    with partition(injected(archive, overwrite_files=True), 1) as window:
        assert read_fat_file(window, "config.json", 100) == b"{}"


def test_parents_that_no_member_names_are_made(place: Path) -> None:
    (place / "inject/6/a/b").mkdir(parents=True)
    (place / "inject/6/a/b/c").write_bytes(b"x")
    out = injected(make(place, "tar", "cf", "test.tar", "image.img", "inject/6/a/b/c"))
    image_time = int((place / "image.img").stat().st_mtime) * 10**9
    assert look(out, b"a/b")[0].entry.metadata == Metadata(0o755, mtime=image_time)  # type: ignore[union-attr]


def test_members_in_any_order(place: Path) -> None:
    for name in ("a/x", "a/b/y", "z"):
        path = place / "inject/6" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    names = ["inject/6/a/b/y", "inject/6/z", "inject/6/a/x", "./inject//6/a/b/", "inject/6/a"]
    out = injected(make(place, "tar", "cf", "test.tar", "--no-recursion", "image.img", *names))
    for name in ("a/x", "a/b/y", "z"):
        assert look(out, name.encode())[1] == name.encode()


# What is refused


def tar_of(place: Path, *members: tuple[tarfile.TarInfo | str, bytes], image: bool = True) -> Path:
    archive = place / "test.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        if image:
            tar.add(place / "image.img", "image.img")
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return archive


def link(name: str, target: str, kind: bytes = tarfile.LNKTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("members", "error", "says"),
    [
        ([("inject/9/f", b"")], DiskImageError, "no partition has the number 9; there are 1 'resin-boot'"),
        ([("inject/4/f", b"")], DiskImageError, "partition 4 is the extended partition"),
        ([("inject/data/f", b"")], ContentError, "inject/data is not a partition"),
        ([("inject/6/../5/f", b"")], ContentError, r"inject/6/../5/f leads upwards with '..'"),
        ([("/inject/6/f", b"")], ContentError, "/inject/6/f has an absolute path"),
        ([("other.img", b"x")], ContentError, "other.img is outside inject/.*after the one disk image"),
        ([("injected/6/f", b"")], ContentError, "injected/6/f is outside inject/"),
        ([("inject/f", b"")], ContentError, "the root of a partition, and is not a directory"),
        ([("inject/6/f", b""), ("inject/6/f", b"")], FilesystemError, "/f is there already"),
        ([("inject/6/docker", b"")], FilesystemError, "/docker is a directory on the partition"),
        ([("inject/6/f", b""), ("inject/6/f/g", b"")], FilesystemError, "/f on the partition is not a directory"),
        ([(link("inject/6/h", "inject/6/t"), b""), ("inject/6/t", b"")], FilesystemError, "b't', which is neither before it"),
        ([(link("inject/6/h", "inject/5/f"), b"")], ContentError, "is a hard link to b'inject/5/f', which is not in the same"),
        ([(link("inject/6/h", "image.img"), b"")], ContentError, "is a hard link to b'image.img'"),
        ([(link("inject/6/h", "inject/6/docker"), b"")], FilesystemError, "a directory cannot have a second name"),
        ([(link("inject/6/s", "/etc", tarfile.SYMTYPE), b""), ("inject/6/s/f", b"")], FilesystemError, "link is not followed"),
        ([(link("inject/1/s", "x", tarfile.SYMTYPE), b"")], FilesystemError, "is a Symlink, which FAT cannot store"),
        ([(link("inject/6/v", "", b"V"), b"")], ContentError, "of the tar type b'V'"),
        ([("inject/6/" + "n" * 256, b"")], FilesystemError, "a name has at most 255 bytes"),
        ([("inject/6/" + "n/" * 3000, b"")], ContentError, "more than the 4096 that Linux takes"),
        ([("manifest.crc64", b"0" * 16 + b"\n")], ContentError, "is damaged: its bytes have the checksum"),
    ],
)  # fmt: skip
def test_refuses(
    place: Path, members: list[tuple[tarfile.TarInfo | str, bytes]], error: type[DrypointError], says: str
) -> None:
    refused(tar_of(place, *members), error, says)


def test_an_archive_without_a_disk_image_first(place: Path) -> None:
    (place / "inject/6/f").write_bytes(b"x")
    refused(
        make(place, "tar", "cf", "test.tar", "inject", "image.img"), ContentError, "inject comes before any disk image"
    )
    refused(make(place, "tar", "cf", "test.tar", "-T", "/dev/null"), ContentError, "holds no disk image")
    (place / "test.tar").write_bytes(b"no archive " * 100)
    refused(place / "test.tar", ContentError, "test.tar is not an archive of drypoint pack or tar")
    shutil.copy(place / "image.img", place / "test.tar")
    refused(place / "test.tar", ContentError, "test.tar is not an archive .*as in tar cf ARCHIVE disk.img inject")
    (place / "test.tar").write_bytes(b"")
    refused(place / "test.tar", ContentError, "test.tar is empty")


def test_a_disk_image_that_is_none(place: Path) -> None:
    (place / "image.img").write_bytes(b"x" * 100_000)
    refused(gnu_tar(place), DiskImageError, "out.img is not a usable disk image")


def test_a_partition_without_a_file_system(place: Path) -> None:
    with partition(place / "image.img", 5) as window, (place / "image.img").open("r+b") as file:
        location = window.location
        assert location is not None
        file.seek(location[1])
        file.write(bytes(MIB))
    refused(
        tar_of(place, ("inject/5/f", b"")),
        FilesystemError,
        "partition 5 holds no known file system, but inject/5",
    )


def test_a_manifest_of_another_disk_image(place: Path) -> None:
    (place / "manifest.json").write_text('{"inject": [{"partition": 5, "partitionName": "resin-data", "inject": 5}]}')
    archive = make(place, "tar", "cf", "test.tar", "manifest.json", "image.img", "inject")
    refused(
        archive, DiskImageError, "partition 5 is called 'resin-data', but in the disk image it is called 'resin-state'"
    )


@pytest.mark.parametrize("cut", [1, 512, 1024, 3 * 512 + 10, 6 * MIB])
def test_an_archive_that_ends_early(place: Path, cut: int) -> None:
    (place / "inject/6/f").write_bytes(b"x" * 700)
    archive = make(place, "tar", "cf", "test.tar", "-b1", "image.img", "inject")
    archive.write_bytes(archive.read_bytes()[:-cut])
    if cut == 512:
        # All of it is there but for the second of the two blocks that end it, which nobody insists on.
        assert look(injected(archive), b"f")[1] == b"x" * 700
    else:
        refused(archive, ContentError, "ends early|cut off|does not end the archive")


def test_two_archives_in_one(place: Path) -> None:
    archive = gnu_tar(place)
    archive.write_bytes(archive.read_bytes() * 2)
    refused(archive, ContentError, "goes on after its end")


def test_output_that_exists_is_kept(place: Path) -> None:
    archive = gnu_tar(place)
    (place / "out.img").write_bytes(b"mine")
    with archive.open("rb") as file, pytest.raises(OutputError, match="it exists"):
        inject(file, place / "out.img")
    assert (place / "out.img").read_bytes() == b"mine"


def test_what_comes_as_chunks_goes_to_whatever_writes(place: Path) -> None:
    (place / "inject/6/f").write_bytes(b"x")
    archive = gnu_tar(place)
    expected = injected(archive).read_bytes()
    content = archive.read_bytes()
    out = io.BytesIO()
    inject((content[start : start + 99_999] for start in range(0, len(content), 99_999)), out)
    assert out.getvalue() == expected


def test_a_file_system_that_checks_as_damaged_is_no_result(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check at the end convicts: here a tool in e2fsck's place finds something, but not in the base."""
    (place / "inject/5").mkdir()
    (place / "inject/5/f").write_bytes(b"x")
    archive = gnu_tar(place)
    fake = place / "bin"
    fake.mkdir()
    (fake / "e2fsck").write_text(
        f"#!/bin/sh\nmkdir {fake}/5 || mkdir {fake}/6 && exit 0\necho 'Inode 12 is wrong'\nexit 4\n"
    )
    (fake / "e2fsck").chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    shutil.rmtree(place / "inject/6")
    refused(archive, DrypointError, "after injecting|does not read back")


@pytest.mark.parametrize("number", [3, 6])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        # What only e2fsck sees: blocks that are in use count as free, and would be given away.
        ("freeb 1 60", "is damaged, and nothing was changed"),
        ("set_super_value state 0", r"unmounted.*\(e2fsck -fp\), and pack it again"),
    ],
)
def test_a_base_that_is_damaged_is_refused_before_anything_is_written(
    place: Path, number: int, damage: str, says: str
) -> None:
    (place / f"inject/{number}").mkdir(exist_ok=True)
    (place / f"inject/{number}/f").write_bytes(b"x")
    with FileDevice(place / "image.img") as device:
        start = find_partition(device, read_table(device), number).partition.start
    subprocess.run(
        ["debugfs", "-w", "-R", damage, f"{place / 'image.img'}?offset={start}"], check=True, capture_output=True
    )
    refused(gnu_tar(place), FilesystemError, rf"partition {number} .*{says}")


def test_times_beyond_those_of_ext4_are_taken(place: Path) -> None:
    (place / "inject/6/f").write_bytes(b"x")
    for name in ("image.img", "inject/6/f", "inject/6"):
        os.utime(place / name, (8_000_000_000, 8_000_000_000))
    out = injected(gnu_tar(place, "--format=posix"))
    entry = look(out, b"f")[0].entry
    assert isinstance(entry, Regular)
    assert entry.metadata.mtime == 8_000_000_000 * 10**9
