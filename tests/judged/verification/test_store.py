"""Verification: a store as it should be has no findings, and every single damage is found and told apart.

The store is written by drypoint into ext4, then damaged with debugfs, which knows nothing of drypoint.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.support.ext4_images import ask_debugfs, judge_ext4, make_ext4
from tests.support.stores import as_image, fill_store

from drypoint.disk.device import FileDevice
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.fstree import Regular
from drypoint.oci import Image, parse_reference
from drypoint.samples.images import BuiltImage, build_image, build_layer
from drypoint.samples.layers import DEFAULT_MTIME, LayerBuilder, file_capability
from drypoint.samples.tools import missing_tools, run_tool
from drypoint.sinks.tar import pax_header
from drypoint.stores.overlay2 import StoreState, read_state
from drypoint.verification import CODES, Report, Severity, check_file_system, verify_store
from drypoint.verification.comparison import is_shortened

pytestmark = pytest.mark.skipif(bool(missing_tools(["mkfs.ext4", "debugfs"])), reason="needs e2fsprogs")

ROOT = b"docker"
CAPABILITY = file_capability(10)


def images() -> dict[str, BuiltImage]:
    base = LayerBuilder()
    base.directory("etc").file("etc/passwd", b"root", uid=3, gid=7).file("etc/group", b"rOOt").directory("lib")
    base.directory("bin").file("bin/tool", b"#!", mode=0o4755, xattrs={b"security.capability": CAPABILITY})
    base.hardlink("bin/alias", "bin/tool", mode=0o4755, xattrs={b"security.capability": CAPABILITY})
    base.symlink("lib/link", "target").char_device("null", 1, 3).block_device("disk", 8, 1).fifo("pipe")
    base.file("data", bytes(range(256)) * 400, mtime=1_600_000_000_123_456_789, xattrs={b"user.note": b"good"})
    base.file("implied/by/name", b"x").symlink("via", "/lib/../etc").file("via/inside", b"behind a symbolic link")
    middle = LayerBuilder().directory("etc").whiteout("etc/passwd").directory("lib").opaque("lib").file("lib/new", b"n")
    top = LayerBuilder().file("top", b"top of all")
    other = LayerBuilder().file("other", b"other image")
    first, second, third, fourth = (build_layer(layer.finish()) for layer in (base, middle, top, other))
    return {"team/one:1": build_image([first, second, third]), "team/two:2": build_image([first, fourth])}


@cache
def good_image() -> bytes:
    """A small ext4 file system with the store in it."""
    with TemporaryDirectory() as directory:
        path = make_ext4(Path(directory, "image"), 4 << 20, "-N", "256", "-b", "1024", "-m", "0", "-O", "^has_journal")
        run_tool("debugfs", "-w", "-R", f"mkdir {ROOT.decode()}", path)
        with FileDevice(path, writable=True) as device:
            fill_store(device, ROOT, images())
        return path.read_bytes()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one layer lies."""

    cache: str
    layer: str
    link: str

    @property
    def diff(self) -> str:
        return f"{self.cache}/diff"


class Lab:
    """A copy of the good image to do damage to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "image"
        self.path.write_bytes(good_image())
        with FileDevice(self.path) as device:
            state = read_state(Ext4Reader(device), ROOT)
        self.state = state
        built = images()
        one, two = (as_image(name, image) for name, image in built.items())
        self.one, self.two = one, two
        root = ROOT.decode()

        def place(image: Image, number: int) -> Place:
            layer = state.layers[image.layers[number].chain_id]
            return Place(
                f"{root}/overlay2/{layer.cache_id}",
                f"{root}/image/overlay2/layerdb/sha256/{layer.chain_id[7:]}",
                f"{root}/overlay2/l/{layer.link}",
            )

        self.base, self.middle, self.top = (place(one, number) for number in range(3))
        self.other = place(two, 1)
        self.configs = f"{root}/image/overlay2/imagedb/content/sha256"
        self.repositories = f"{root}/image/overlay2/repositories.json"
        self.distribution = f"{root}/image/overlay2/distribution"

    def do(self, *commands: str) -> None:
        run_tool("debugfs", "-w", "-f", "/dev/stdin", self.path, script="\n".join(commands) + "\n")

    def content(self, path: str) -> bytes:
        self.do(f"dump {path} {self.directory}/dumped")
        return (self.directory / "dumped").read_bytes()

    def put(self, path: str, content: bytes, *commands: str) -> None:
        """Make the file *path* anew with *content*."""
        (self.directory / "new").write_bytes(content)
        self.do(f"rm {path}", f"write {self.directory}/new {path}", f"sif {path} mode 0100{self.mode(path)}", *commands)

    def mode(self, path: str) -> str:
        """The mode that the store has for the file *path*."""
        private = path == self.repositories or path.startswith(self.configs)
        return "600" if private else "644"

    def edit(self, path: str, old: bytes, new: bytes) -> None:
        content = self.content(path)
        assert old in content
        self.put(path, content.replace(old, new, 1))

    def flip(self, path: str) -> None:
        """Turn one bit of the file's first block on the disk."""
        block = int(ask_debugfs(self.path, f"blocks {path}").split()[0])
        with self.path.open("r+b") as file:
            file.seek(block * 1024)
            byte = file.read(1)[0]
            file.seek(block * 1024)
            file.write(bytes([byte ^ 1]))

    def verify(self) -> Report:
        with FileDevice(self.path) as device:
            return verify_store(Ext4Reader(device), ROOT, threads=2)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def rewrite_tar_split(lab: Lab, change: Callable[[bytes], bytes]) -> None:
    path = f"{lab.top.layer}/tar-split.json.gz"
    lab.put(path, gzip.compress(change(gzip.decompress(lab.content(path))), mtime=0))


def exchange(lab: Lab) -> None:
    text = lab.content(f"{lab.top.cache}/lower").decode()
    near, far = text.split(":")
    lab.put(f"{lab.top.cache}/lower", f"{far}:{near}".encode())


LOST = {"image-without-layer"}
"""What follows, for each image that has the layer, when a layer is not as the engine needs it."""

Damage = tuple[Callable[[Lab], None], set[str], str]
DAMAGES: dict[str, Damage] = {
    "a flipped bit in a file": (lambda lab: lab.flip(f"{lab.base.diff}/data"), {"changed-content"}, "diff/data"),
    "a flipped bit in a small file": (lambda lab: lab.flip(f"{lab.top.diff}/top"), {"changed-content"}, "diff/top"),
    "a flipped bit behind a symbolic link": (
        lambda lab: lab.flip(f"{lab.base.diff}/etc/inside"),
        {"changed-content"},
        "etc/inside",
    ),
    "a shorter file": (lambda lab: lab.do(f"sif {lab.base.diff}/data size 100000"), {"changed-size"}, "diff/data"),
    "a changed mode": (lambda lab: lab.do(f"sif {lab.base.diff}/data mode 0100600"), {"changed-mode"}, "diff/data"),
    "a lost setuid bit": (lambda lab: lab.do(f"sif {lab.base.diff}/bin/tool mode 0100755"), {"changed-mode"}, "bin/"),
    "a changed directory mode": (
        lambda lab: lab.do(f"sif {lab.base.diff}/bin mode 040700"),
        {"changed-mode"},
        "diff/bin",
    ),
    "a changed mode of the layer's root": (
        lambda lab: lab.do(f"sif {lab.base.diff} mode 040700"),
        {"changed-mode"},
        "/diff",
    ),
    "a changed owner": (lambda lab: lab.do(f"sif {lab.base.diff}/data uid 5"), {"changed-owner"}, "diff/data"),
    "a changed group": (lambda lab: lab.do(f"sif {lab.base.diff}/etc/passwd gid 5"), {"changed-owner"}, "etc/passwd"),
    "a changed time": (
        lambda lab: lab.do(f"sif {lab.base.diff}/data mtime 20200101000000"),
        {"changed-time"},
        "diff/data",
    ),
    "a changed attribute": (
        lambda lab: lab.do(f"ea_set {lab.base.diff}/data user.note bad"),
        {"changed-xattr"},
        "diff/data",
    ),
    "a lost attribute": (lambda lab: lab.do(f"ea_rm {lab.base.diff}/data user.note"), {"missing-xattr"}, "diff/data"),
    "a lost capability": (
        lambda lab: lab.do(f"ea_rm {lab.base.diff}/bin/tool security.capability"),
        {"missing-xattr"},
        "diff/bin/",
    ),
    "an added attribute": (lambda lab: lab.do(f"ea_set {lab.base.diff}/etc user.x y"), {"extra-xattr"}, "diff/etc"),
    "a lost opaque mark": (
        lambda lab: lab.do(f"ea_rm {lab.middle.diff}/lib trusted.overlay.opaque"),
        {"lost-opaque"},
        "diff/lib",
    ),
    "a lost whiteout": (lambda lab: lab.do(f"rm {lab.middle.diff}/etc/passwd"), {"lost-whiteout"}, "etc/passwd"),
    "a whiteout that became a file": (
        lambda lab: lab.put(f"{lab.middle.diff}/etc/passwd", b"x"),
        {"changed-kind"},
        "etc/passwd",
    ),
    "a whiteout with a number": (
        lambda lab: lab.do(f"sif {lab.middle.diff}/etc/passwd block[0] 0x0103"),
        {"changed-device"},
        "etc/passwd",
    ),
    "an added whiteout": (
        lambda lab: lab.do(f"cd {lab.top.diff}", "mknod gone c 0 0"),
        {"extra-whiteout"},
        "diff/gone",
    ),
    "a wrong character device": (
        lambda lab: lab.do(f"sif {lab.base.diff}/null block[0] 0x0105"),
        {"changed-device"},
        "diff/null",
    ),
    "a wrong block device": (
        lambda lab: lab.do(f"sif {lab.base.diff}/disk block[0] 0x0802"),
        {"changed-device"},
        "diff/disk",
    ),
    "a pipe that became a socket": (
        lambda lab: lab.do(f"rm {lab.base.diff}/pipe", f"cd {lab.base.diff}", "mknod pipe c 5 1"),
        {"changed-kind"},
        "diff/pipe",
    ),
    "another link target": (
        lambda lab: lab.do(f"rm {lab.base.diff}/lib/link", f"symlink {lab.base.diff}/lib/link targex"),
        {"changed-target", "changed-time"},
        "lib/link",
    ),
    "a missing file": (lambda lab: lab.do(f"rm {lab.base.diff}/data"), {"missing-entry"}, "diff/data"),
    "a missing directory": (
        lambda lab: lab.do(f"rm {lab.base.diff}/lib/link", f"rmdir {lab.base.diff}/lib"),
        {"missing-entry"},
        "diff/lib",
    ),
    "an extra file": (lambda lab: lab.put(f"{lab.top.diff}/more", b"x"), {"extra-entry"}, "diff/more"),
    "an extra directory": (lambda lab: lab.do(f"mkdir {lab.top.diff}/dir"), {"extra-entry"}, "diff/dir"),
    "a broken hard link": (
        lambda lab: lab.do(
            f"dump {lab.base.diff}/bin/alias {lab.directory}/alias",
            f"unlink {lab.base.diff}/bin/alias",
            f"write {lab.directory}/alias {lab.base.diff}/bin/alias",
            f"sif {lab.base.diff}/bin/alias mode 0104755",
            f"ea_set -f {lab.directory}/capability {lab.base.diff}/bin/alias security.capability",
            f"sif {lab.base.diff}/bin/alias mtime @{DEFAULT_MTIME // 10**9}",
        ),
        {"broken-hard-link"},
        "diff/bin/",
    ),
    "two files made one": (
        lambda lab: lab.do(f"rm {lab.base.diff}/etc/group", f"ln {lab.base.diff}/etc/passwd {lab.base.diff}/etc/group"),
        {"changed-content", "changed-owner", "extra-hard-link"},
        "diff/etc/",
    ),
    "a name outside of the layer": (
        lambda lab: lab.do(f"ln {lab.base.diff}/data stray", f"sif {lab.base.diff}/data links_count 2"),
        {"extra-hard-link"},
        "diff/data",
    ),
    "a truncated tar-split": (
        lambda lab: lab.put(
            f"{lab.top.layer}/tar-split.json.gz", lab.content(f"{lab.top.layer}/tar-split.json.gz")[:-20]
        ),
        {"damaged-tar-split"},
        "tar-split",
    ),
    "a missing tar-split": (
        lambda lab: lab.do(f"rm {lab.top.layer}/tar-split.json.gz"),
        {"missing-file"} | LOST,
        "tar-split",
    ),
    "a tar-split without its last line": (
        lambda lab: rewrite_tar_split(lab, lambda text: b"".join(text.splitlines(keepends=True)[:-2])),
        {"wrong-diff-id"},
        "tar-split",
    ),
    "a tar-split with another checksum": (
        lambda lab: rewrite_tar_split(lab, lambda text: re.sub(rb'("size":10,"payload":")..', rb"\1AA", text)),
        {"changed-content"},
        "diff/top",
    ),
    "a tar-split that is not a JSON": (
        lambda lab: rewrite_tar_split(lab, lambda text: b"{" + text),
        {"damaged-tar-split"},
        "tar-split.",
    ),
    "another diff-id": (
        lambda lab: lab.put(f"{lab.top.layer}/diff", b"sha256:" + b"5" * 64),
        {"wrong-chain-id", "wrong-diff-id"} | LOST,
        "layerdb",
    ),
    "a swapped lower order": (exchange, {"wrong-lower"} | LOST, "/lower"),
    "a missing lower": (lambda lab: lab.do(f"rm {lab.top.cache}/lower"), {"missing-file"} | LOST, "/lower"),
    "a lower with a wrong word": (
        lambda lab: lab.put(f"{lab.top.cache}/lower", b"x"),
        {"bad-content"} | LOST,
        "/lower",
    ),
    "a lower of a base layer": (
        lambda lab: lab.put(f"{lab.base.cache}/lower", lab.content(f"{lab.other.cache}/lower")),
        {"wrong-lower"} | LOST,
        "/lower",
    ),
    "a missing committed": (lambda lab: lab.do(f"rm {lab.base.cache}/committed"), {"missing-committed"}, "committed"),
    "a missing work": (lambda lab: lab.do(f"rmdir {lab.top.cache}/work"), {"missing-file"} | LOST, "/work"),
    "a changed mode in the store": (
        lambda lab: lab.do(f"sif {lab.top.cache}/work mode 040777"),
        {"wrong-store-mode"},
        "/work",
    ),
    "a changed owner in the store": (
        lambda lab: lab.do(f"sif {lab.top.cache} uid 9"),
        {"wrong-store-mode"},
        "overlay2/",
    ),
    "a missing link file": (
        lambda lab: lab.do(f"rm {lab.top.cache}/link"),
        {"missing-file", "orphan-link"} | LOST,
        "/l",
    ),
    "a missing symbolic link": (lambda lab: lab.do(f"unlink {lab.top.link}"), {"dangling-link"} | LOST, "/l/"),
    "a renamed link": (
        lambda lab: lab.do(
            f"unlink {lab.top.link}", f"symlink {ROOT.decode()}/overlay2/l/{'A' * 26} ../{lab.top.cache[16:]}/diff"
        ),
        {"dangling-link", "orphan-link"} | LOST,
        "/l/",
    ),
    "an extra link to nothing": (
        lambda lab: lab.do(f"symlink {ROOT.decode()}/overlay2/l/{'B' * 26} ../{'0' * 64}/diff"),
        {"dangling-link"},
        "BBBB",
    ),
    "a missing cache directory": (
        lambda lab: lab.do(
            f"rm {lab.other.cache}/diff/other",
            *(f"rm {lab.other.cache}/{name}" for name in ("link", "lower")),
            *(f"rmdir {lab.other.cache}{name}" for name in ("/diff", "/work", "")),
        ),
        {"missing-file", "dangling-link", "orphan-link"} | LOST,
        "overlay2/",
    ),
    "an orphan cache directory": (
        lambda lab: lab.do(f"mkdir {ROOT.decode()}/overlay2/{'a' * 64}"),
        {"orphan-cache-directory"},
        "aaaa",
    ),
    "another cache-id": (
        lambda lab: lab.put(f"{lab.top.layer}/cache-id", lab.content(f"{lab.other.layer}/cache-id")),
        {"shared-cache-id", "orphan-cache-directory", "extra-entry", "missing-entry"} | LOST,
        "",
    ),
    "a cache-id of nothing": (
        lambda lab: lab.put(f"{lab.top.layer}/cache-id", b"nothing"),
        {"bad-content", "orphan-cache-directory"} | LOST,
        "",
    ),
    "a wrong parent": (
        lambda lab: lab.put(f"{lab.top.layer}/parent", b"sha256:" + b"7" * 64),
        {"wrong-chain-id", "layer-without-parent"} | LOST,
        "",
    ),
    "a missing parent file": (
        lambda lab: lab.do(f"rm {lab.other.layer}/parent"),
        {"wrong-chain-id", "wrong-lower"} | LOST,
        "",
    ),
    "a missing size": (lambda lab: lab.do(f"rm {lab.top.layer}/size"), {"missing-file"} | LOST, "/size"),
    "a wrong size": (lambda lab: lab.put(f"{lab.top.layer}/size", b"11"), {"wrong-layer-size"}, "/size"),
    "a half-written layer": (
        lambda lab: lab.do(f"mkdir {ROOT.decode()}/image/overlay2/layerdb/tmp/write-set-1"),
        {"half-written-layer"},
        "layerdb/tmp",
    ),
    "a changed config": (
        lambda lab: lab.edit(f"{lab.configs}/{lab.one.image_id[7:]}", b"amd64", b"arm64"),
        {"damaged-config", "reference-without-image"},
        "",
    ),
    "a missing config": (
        lambda lab: lab.do(f"rm {lab.configs}/{lab.one.image_id[7:]}"),
        {"reference-without-image"},
        "repositories",
    ),
    "a stale repositories entry": (
        lambda lab: lab.edit(lab.repositories, b'"team/two:2":"sha256:', b'"team/two:2":"sha256:' + b"1" * 64),
        {"reference-without-image"},
        "repositories.",
    ),
    "repositories.json cut off": (
        lambda lab: lab.put(lab.repositories, lab.content(lab.repositories)[:-3]),
        {"unreadable-json"},
        "repositories.json",
    ),
    "a changed mode in layerdb": (
        lambda lab: lab.do(f"sif {lab.top.layer} mode 040755"),
        {"wrong-store-mode"},
        "layerdb/sha256",
    ),
    "a config that all may read": (
        lambda lab: lab.do(f"sif {lab.configs}/{lab.one.image_id[7:]} mode 0100644"),
        {"wrong-store-mode"},
        "imagedb",
    ),
    "a record of another layer": (
        lambda lab: lab.put(
            f"{lab.distribution}/diffid-by-digest/sha256/{lab.one.layers[2].blob.digest[7:]}", b"sha256:" + b"e" * 64
        ),
        {"inconsistent-record"},
        "v2metadata-by-diffid",
    ),
    "a lost record": (
        lambda lab: lab.do(f"rm {lab.distribution}/diffid-by-digest/sha256/{lab.one.layers[2].blob.digest[7:]}"),
        {"inconsistent-record"},
        "v2metadata-by-diffid",
    ),
    "a time of an image that is gone": (
        lambda lab: lab.do(f"mkdir {ROOT.decode()}/image/overlay2/imagedb/metadata/sha256/{'f' * 64}"),
        {"orphan-metadata"},
        "ffff",
    ),
    "a stray name beside the layers": (
        lambda lab: lab.do(f"mkdir {ROOT.decode()}/overlay2/stray"),
        {"unknown-name"},
        "overlay2/stray",
    ),
    "a tar-split with another size": (
        lambda lab: rewrite_tar_split(lab, lambda text: text.replace(b'"size":10,', b'"size":11,')),
        {"damaged-tar-split"},
        "tar-split",
    ),
    "an unknown record": (
        lambda lab: lab.put(f"{lab.distribution}/diffid-by-digest/sha256/{'c' * 64}", b"nonsense"),
        {"bad-content"},
        "cccc",
    ),
}


def test_a_good_store_has_no_findings(lab: Lab) -> None:
    judge_ext4(lab.path)
    report = lab.verify()
    assert report.findings == ()
    assert report.sound
    assert report.layers == 4
    assert report.tar_bytes == sum(
        len(layer.tar)
        for layer in {layer.diff_id: layer for image in images().values() for layer in image.layers}.values()
        if isinstance(layer.tar, bytes)
    )
    assert [(verdict.image_id, verdict.loads, len(verdict.references)) for verdict in report.images] == sorted(
        (built.image_id, True, 2) for built in images().values()
    )


def test_there_are_damages_enough() -> None:
    assert len(DAMAGES) >= 40
    assert len({(frozenset(codes), where) for _, codes, where in DAMAGES.values()}) > 40


@pytest.mark.parametrize("name", DAMAGES)
def test_single_damage_is_found_and_told_apart(lab: Lab, name: str) -> None:
    (lab.directory / "capability").write_bytes(CAPABILITY)
    do, codes, where = DAMAGES[name]
    do(lab)
    report = lab.verify()
    told = [finding for finding in report.findings if finding.severity is not Severity.NOTE]
    assert {finding.code for finding in told} == codes, told
    assert not report.sound
    assert any(where.encode() in finding.path for finding in told)
    assert all(finding.remedy and finding.text for finding in report.findings)


def test_lost_nanoseconds_are_only_a_note(lab: Lab) -> None:
    lab.do(f"sif {lab.base.diff}/data mtime_extra 0")
    report = lab.verify()
    assert [(finding.code, finding.severity) for finding in report.findings] == [("shortened-time", Severity.NOTE)]
    assert report.sound


def test_times_that_mke2fs_shortens_are_only_a_note(tmp_path: Path) -> None:
    """The judge is the mke2fs of this machine: what it makes of a tree's times is what devices have of them."""
    times = [0, -5, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) + 5, (1 << 33) + (1 << 31) + 7]
    wanted = [time * 1_000_000_000 + 123_456_789 for time in times]
    tree = tmp_path / "tree"
    tree.mkdir()
    for number, time in enumerate(wanted):
        (tree / f"{number}").touch()
        os.utime(tree / f"{number}", ns=(time, time))
        assert (tree / f"{number}").stat().st_mtime_ns == time
    with FileDevice(make_ext4(tmp_path / "image", 16 << 20, "-d", str(tree))) as device:
        reader = Ext4Reader(device)
        entries = [stat.entry for number in range(len(times)) if (stat := reader.lookup(b"%d" % number)) is not None]
    found = [entry.metadata.mtime for entry in entries if isinstance(entry, Regular)]
    assert all(is_shortened(one, other) for one, other in zip(found, wanted, strict=True)), found
    assert not any(is_shortened(one + 1_000_000_000, other) for one, other in zip(found, wanted, strict=True))


def test_years_lost_above_32_bits_are_only_a_note(tmp_path: Path) -> None:
    late = LayerBuilder().file("late", mtime=((1 << 32) + 77) * 1_000_000_000)
    path = store_with(tmp_path, late.finish())
    (layer,) = state_of(path).layers.values()
    run_tool("debugfs", "-w", "-R", f"sif {ROOT.decode()}/overlay2/{layer.cache_id}/diff/late mtime_extra 0", path)
    assert verdicts(path) == [("shortened-time", Severity.NOTE)]
    run_tool("debugfs", "-w", "-R", f"sif {ROOT.decode()}/overlay2/{layer.cache_id}/diff/late mtime 78", path)
    assert verdicts(path) == [("changed-time", Severity.ERROR)]


def store_with(directory: Path, *tars: bytes) -> Path:
    path = make_ext4(directory / "image", 16 << 20)
    run_tool("debugfs", "-w", "-R", f"mkdir {ROOT.decode()}", path)
    with FileDevice(path, writable=True) as device:
        fill_store(device, ROOT, {"image:1": build_image([build_layer(tar) for tar in tars])})
    return path


def state_of(path: Path) -> StoreState:
    with FileDevice(path) as device:
        return read_state(Ext4Reader(device), ROOT)


def verdicts(path: Path) -> list[tuple[str, Severity]]:
    with FileDevice(path) as device:
        return [(one.code, one.severity) for one in verify_store(Ext4Reader(device), ROOT).findings]


@pytest.mark.parametrize("space", ["trusted", "user"])
@pytest.mark.parametrize("mark", ["uuid", "impure", "origin"])
def test_marks_of_the_kernel_are_only_notes(lab: Lab, space: str, mark: str) -> None:
    lab.do(
        *(
            f"ea_set {path} {space}.overlay.{mark} y"
            for path in (lab.top.diff, lab.middle.diff, f"{lab.middle.diff}/lib")
        )
    )
    report = lab.verify()
    assert [(one.code, one.severity) for one in report.findings] == [("overlay-mark", Severity.NOTE)] * 2
    assert {one.text.split()[0] for one in report.findings} == {"1", "2"}
    assert report.sound


@pytest.mark.parametrize("mark", ["opaque", "redirect", "metacopy", "protattr", "whiteout", "uuids"])
def test_marks_that_change_what_is_seen_are_judged(lab: Lab, mark: str) -> None:
    lab.do(f"ea_set {lab.top.diff} trusted.overlay.{mark} y")
    assert [(one.code, one.severity) for one in lab.verify().findings] == [("extra-xattr", Severity.ERROR)]


EMPTY_BLOB = "sha256:4f4fb700ef54461cfa02571ae0db9a0dc1e0cdb5577484a6d75e68dc38e8acc1"


def test_what_deltas_leave_in_the_records_is_only_a_note(lab: Lab) -> None:
    for blob, code in ((EMPTY_BLOB, "placeholder-record"), (f"sha256:{'d' * 64}", "inconsistent-record")):
        record = b'[{"Digest":"%b","SourceRepository":"registry2.balena-cloud.com/v2/a","HMAC":""}]' % blob.encode()
        for layer in lab.one.layers[:2]:
            lab.put(f"{lab.distribution}/v2metadata-by-diffid/sha256/{layer.diff_id[7:]}", record)
        lab.put(f"{lab.distribution}/diffid-by-digest/sha256/{blob[7:]}", lab.one.layers[1].diff_id.encode())
        (found,) = lab.verify().findings
        assert found.code == code
        assert lab.one.layers[0].diff_id[7:].encode() in found.path
    assert {"placeholder-record"} <= CODES


@pytest.mark.parametrize("cut", [1, 2, 100, 323, 324])
def test_a_tar_that_is_cut_off_in_its_last_padding(tmp_path: Path, cut: int) -> None:
    tar = LayerBuilder().file("file", b"content" * 100).finish(end_of_archive=False)
    path = store_with(tmp_path, tar[:-cut])
    # Without any of the padding there is nothing that engines do not record.
    assert verdicts(path) == ([] if cut == 324 else [("cut-off-tar", Severity.NOTE)])
    (layer,) = state_of(path).layers.values()
    run_tool("debugfs", "-w", "-R", f"sif {ROOT.decode()}/overlay2/{layer.cache_id}/diff/file mode 0100600", path)
    block = int(ask_debugfs(path, f"blocks {ROOT.decode()}/overlay2/{layer.cache_id}/diff/file").split()[0])
    with path.open("r+b") as file:
        file.seek(block * 1024)
        file.write(b"C")
    assert verdicts(path) == [("changed-content", Severity.ERROR), ("changed-mode", Severity.ERROR)]


def test_a_tar_that_is_cut_off_in_the_padding_of_a_header(tmp_path: Path) -> None:
    header = pax_header({b"path": b"x"}, b"x")
    assert verdicts(store_with(tmp_path, LayerBuilder().file("f").finish(end_of_archive=False) + header[:700])) == [
        ("cut-off-tar", Severity.NOTE)
    ]


def test_a_rebuilt_tar_with_another_end_is_no_tar_that_was_cut_off(tmp_path: Path) -> None:
    tar = LayerBuilder().file("file", b"content" * 100).finish()
    path = store_with(tmp_path, tar)
    (layer,) = state_of(path).layers.values()
    place = f"{ROOT.decode()}/image/overlay2/layerdb/sha256/{layer.chain_id[7:]}/tar-split.json.gz"
    target = tmp_path / "tar-split"
    run_tool("debugfs", "-R", f"dump {place} {target}", path)
    lines = gzip.decompress(target.read_bytes()).splitlines(keepends=True)
    target.write_bytes(gzip.compress(b"".join(lines[:2])))
    run_tool("debugfs", "-w", "-R", f"rm {place}", path)
    run_tool("debugfs", "-w", "-R", f"write {target} {place}", path)
    assert ("wrong-diff-id", Severity.ERROR) in verdicts(path)


def test_what_nothing_names_is_only_a_note(lab: Lab) -> None:
    digest, image_id = images()["team/two:2"].digest, lab.two.image_id
    lab.edit(
        lab.repositories,
        f',"team/two":{{"team/two:2":"{image_id}","team/two@{digest}":"{image_id}"}}'.encode(),
        b"",
    )
    report = lab.verify()
    assert [(one.code, one.severity) for one in report.findings] == [("unnamed-image", Severity.NOTE)]
    lab.do(f"rm {lab.configs}/{image_id[7:]}")
    report = lab.verify()
    assert [(one.code, one.severity) for one in report.findings] == [("unused-layer", Severity.NOTE)]
    assert lab.other.layer.encode() in report.findings[0].path
    mount = f"{ROOT.decode()}/image/overlay2/layerdb/mounts"
    lab.do(f"mkdir {mount}", f"mkdir {mount}/c")
    lab.put(f"{mount}/c/parent", lab.two.layers[1].chain_id.encode())
    assert lab.verify().findings == ()


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_a_layer_with_sparse_files_is_compared_without_its_tar(tmp_path: Path, version: str) -> None:
    (tmp_path / "after").write_bytes(b"after")
    with (tmp_path / "holes").open("wb") as file:
        for position in range(0, 1 << 20, 1 << 17):
            file.seek(position)
            file.write(b"data" * 1024)
        file.truncate(2 << 20)
    options = ("-S", "--format=posix", f"--sparse-version={version}")
    run_tool("tar", "-C", tmp_path, *options, "-cf", tmp_path / "tar", "holes", "after")
    built = build_image([build_layer((tmp_path / "tar").read_bytes())])
    path = make_ext4(tmp_path / "image", 16 << 20)
    run_tool("debugfs", "-w", "-R", f"mkdir {ROOT.decode()}", path)
    with FileDevice(path, writable=True) as device:
        state = fill_store(device, ROOT, {"sparse:1": built})
        report = verify_store(Ext4Reader(device), ROOT)
    assert [(one.code, one.severity) for one in report.findings] == [("not-rebuildable", Severity.NOTE)]
    assert "holes" in report.findings[0].text
    (layer,) = state.layers.values()
    holes = f"{ROOT.decode()}/overlay2/{layer.cache_id}/diff/holes"
    block = int(ask_debugfs(path, f"blocks {holes}").split()[1])
    with path.open("r+b") as file:
        file.seek(block * 1024)
        file.write(b"D")
    run_tool("debugfs", "-w", "-R", f"sif {holes} mode 0100600", path)
    with FileDevice(path) as device:
        found = {one.code for one in verify_store(Ext4Reader(device), ROOT).findings}
    assert found == {"changed-content", "changed-mode", "not-rebuildable"}


def test_references_that_something_relies_on(lab: Lab) -> None:
    digest = images()["team/one:1"].digest
    wanted = [
        parse_reference(text) for text in ("team/one:1", f"team/one@{digest}", f"team/one:7@{digest}", "team/three")
    ]
    with FileDevice(lab.path) as device:
        report = verify_store(Ext4Reader(device), ROOT, references=wanted)
    assert [(finding.code, "team/three:latest" in finding.text) for finding in report.findings] == [
        ("unresolved-reference", True)
    ]
    lab.do(f"rm {lab.top.cache}/lower")
    with FileDevice(lab.path) as device:
        report = verify_store(Ext4Reader(device), ROOT, references=wanted[:1])
    assert "image-does-not-load" in {finding.code for finding in report.findings}
    assert [verdict.loads for verdict in report.images if "team/one:1" in verdict.references] == [False]


def test_e2fsck_is_quoted(lab: Lab) -> None:
    with FileDevice(lab.path) as device:
        assert check_file_system(device) == ()
        lab.do(f"freei {lab.base.diff}/data")
        (found,) = check_file_system(device)
    assert found.code == "damaged-file-system"
    assert "bitmap differences" in found.text


def test_an_unreadable_directory_is_a_finding(lab: Lab) -> None:
    lab.do(f"sif {lab.base.diff}/lib size 12345")
    assert {finding.code for finding in lab.verify().findings} == {"unreadable"}


def test_no_store_is_told(tmp_path: Path) -> None:
    path = make_ext4(tmp_path / "image", 1 << 20)
    with FileDevice(path) as device:
        report = verify_store(Ext4Reader(device), ROOT)
    assert [one.code for one in report.findings] == ["no-store"]
    assert (report.images, report.layers, report.tar_bytes) == ((), 0, 0)


def test_every_code_is_a_word() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code) for code in CODES)
