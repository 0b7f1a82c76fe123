"""The oracle convicts: each kind of difference is planted in a small store and found, alone."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from drypoint.errors import ToolError
from tests.support.oracle import Difference, DifferenceKind, compare_stores, describe

pytestmark = pytest.mark.needs(root=True)

BASE = hashlib.sha256(b"base").hexdigest()
TOP = hashlib.sha256(b"top").hexdigest()
TIME = 1_700_000_000_123_456_789
BASE_NAMES = [
    "./",
    "./etc/",
    "etc/hosts",
    "etc/note",
    "bin/tool",
    "bin/more",
    "dev/null",
    "dev/zero",
    "big",
    "lib",
    "lib/d/",
]
TOP_NAMES = ["etc/.wh.hosts", "made/file", "noise"]


class Store:
    """A hand-made data root of two layers; *seed* decides the random words in it."""

    def __init__(self, root: Path, seed: str) -> None:
        self.root = root
        self.cache = {chain: hashlib.sha256(f"{seed} {chain}".encode()).hexdigest() for chain in (BASE, TOP)}
        self.link = {
            chain: hashlib.sha256(f"{chain} {seed}".encode()).hexdigest()[:26].upper() for chain in (BASE, TOP)
        }

    def diff(self, chain: str = BASE) -> Path:
        return self.overlay(chain) / "diff"

    def overlay(self, chain: str) -> Path:
        return self.root / "overlay2" / self.cache[chain]

    def layer(self, chain: str) -> Path:
        return self.root / "image/overlay2/layerdb/sha256" / chain

    def make(self) -> Store:
        (self.root / "overlay2/l").mkdir(parents=True)
        (self.root / "containers").mkdir()
        for chain, names in ((BASE, BASE_NAMES), (TOP, TOP_NAMES)):
            self.layer(chain).mkdir(parents=True)
            (self.layer(chain) / "cache-id").write_text(self.cache[chain])
            (self.layer(chain) / "size").write_text("7")
            write_tar_split(self.layer(chain) / "tar-split.json.gz", names)
            self.diff(chain).mkdir(parents=True)
            (self.overlay(chain) / "link").write_text(self.link[chain])
            (self.root / "overlay2/l" / self.link[chain]).symlink_to(f"../{self.cache[chain]}/diff")
        (self.overlay(TOP) / "lower").write_text(f"l/{self.link[BASE]}")
        write_json(
            self.root / "image/overlay2/repositories.json", {"Repositories": {"a": {"a:1": "sha256:1"}, "b": {}}}
        )
        metadata = self.root / "image/overlay2/distribution/v2metadata-by-diffid/sha256/00"
        metadata.parent.mkdir(parents=True)
        write_json(metadata, [{"Digest": "sha256:2", "SourceRepository": "r", "HMAC": ""}])
        updated = self.root / "image/overlay2/imagedb/metadata/sha256/00/lastUpdated"
        updated.parent.mkdir(parents=True)
        updated.write_text(str(self.root))
        self.fill()
        for directory, directories, files in os.walk(self.root):
            for name in (*directories, *files):
                os.utime(Path(directory) / name, ns=(TIME, TIME), follow_symlinks=False)
        return self

    def fill(self) -> None:
        base, top = self.diff(BASE), self.diff(TOP)
        for directory in ("etc", "bin", "dev", "usr/lib/d"):
            (base / directory).mkdir(parents=True)
        (base / "etc/hosts").write_text("hosts")
        (base / "etc/note").symlink_to("hosts")
        (base / "lib").symlink_to("/usr/lib")
        (base / "bin/tool").write_text("tool")
        (base / "bin/more").hardlink_to(base / "bin/tool")
        os.mknod(base / "dev/null", 0o020666, os.makedev(1, 3))
        os.mknod(base / "dev/zero", 0o020666, os.makedev(0, 0))
        (base / "big").write_bytes(bytes(3 << 20))
        os.setxattr(base / "bin/tool", "trusted.note", b"\0one")
        (top / "etc").mkdir()
        os.mknod(top / "etc/hosts", 0o020000, 0)
        (top / "made").mkdir()
        (top / "made/file").write_text("made")
        (top / "noise").write_text("none")


def write_tar_split(path: Path, names: list[str], level: int = 6) -> None:
    records = [{"type": 1, "name": name, "payload": None, "position": at} for at, name in enumerate(names)]
    records.append({"type": 1, "name_raw": b64encode(b"caf\xe9").decode(), "payload": None, "position": 99})
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(content, level))


def write_json(path: Path, value: object, indent: int | None = None) -> None:
    path.write_text(json.dumps(value, indent=indent))


@pytest.fixture
def left(tmp_path: Path) -> Store:
    return Store(tmp_path / "left", "left").make()


@pytest.fixture
def right(tmp_path: Path) -> Store:
    return Store(tmp_path / "right", "right").make()


def test_random_words_are_no_difference(left: Store, right: Store) -> None:
    assert left.cache != right.cache
    assert compare_stores(left.root, right.root) == ()


def in_base(path: str) -> str:
    return f"overlay2/{{{BASE}}}/diff/{path}"


def in_top(path: str) -> str:
    return f"overlay2/{{{TOP}}}/diff/{path}"


def replace_device(store: Store, major: int, minor: int) -> None:
    device = store.diff() / "dev/null"
    device.unlink()
    os.mknod(device, 0o020666, os.makedev(major, minor))
    os.utime(device, ns=(TIME, TIME))


def break_link(store: Store) -> None:
    name = store.diff() / "bin/more"
    name.unlink()
    shutil.copy2(store.diff() / "bin/tool", name)
    os.setxattr(name, "trusted.note", b"\0one")


def retarget(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)
    for changed in (path, path.parent):
        os.utime(changed, ns=(TIME, TIME), follow_symlinks=False)


def rewrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(TIME, TIME))


def remove(store: Store, name: str) -> None:
    (store.diff() / name).unlink()
    os.utime((store.diff() / name).parent, ns=(TIME, TIME))


def touch(path: Path) -> None:
    os.utime(path, ns=(TIME, TIME + 1), follow_symlinks=False)


def flip_last_byte_of_big(store: Store) -> None:
    rewrite(store.diff() / "big", bytes((3 << 20) - 1) + b"\1")


K = DifferenceKind
REPOSITORIES = "image/overlay2/repositories.json"
V2_METADATA = "image/overlay2/distribution/v2metadata-by-diffid/sha256/00"
LAYER = f"image/overlay2/layerdb/sha256/{BASE}"
PLANTS: dict[str, tuple[Callable[[Store], object], list[tuple[DifferenceKind, str]]]] = {
    "missing file": (lambda s: remove(s, "etc/hosts"), [(K.MISSING, in_base("etc/hosts"))]),
    "missing whiteout": (lambda s: (s.diff(TOP) / "etc/hosts").unlink(), [(K.MISSING, in_top("etc/hosts"))]),
    "extra file": (lambda s: (s.diff() / "bin/extra").touch(), [(K.EXTRA, in_base("bin/extra"))]),
    "extra in store": (lambda s: (s.root / "strange").mkdir(), [(K.EXTRA, "strange")]),
    "orphan cache directory": (
        lambda s: (s.root / "overlay2" / ("0" * 64)).mkdir(),
        [(K.EXTRA, "overlay2/" + "0" * 64)],
    ),
    "orphan link": (lambda s: (s.root / "overlay2/l/ORPHAN").symlink_to("x"), [(K.EXTRA, "overlay2/l/ORPHAN")]),
    "type": (lambda s: retarget(s.diff() / "etc/hosts", "x"), [(K.TYPE, in_base("etc/hosts"))]),
    "mode": (lambda s: (s.diff() / "etc/hosts").chmod(0o4755), [(K.MODE, in_base("etc/hosts"))]),
    "mode of the data root": (lambda s: s.root.chmod(0o700), [(K.MODE, "")]),
    "user": (lambda s: os.chown(s.diff() / "etc/hosts", 70_000, 0), [(K.OWNER, in_base("etc/hosts"))]),
    "group of a link": (lambda s: os.lchown(s.diff() / "etc/note", 0, 1), [(K.OWNER, in_base("etc/note"))]),
    "size": (lambda s: rewrite(s.diff() / "etc/hosts", b"host"), [(K.SIZE, in_base("etc/hosts"))]),
    "mtime of a file": (lambda s: touch(s.diff() / "etc/hosts"), [(K.MTIME, in_base("etc/hosts"))]),
    "mtime of a symlink": (lambda s: touch(s.diff() / "etc/note"), [(K.MTIME, in_base("etc/note"))]),
    "mtime of a named directory": (lambda s: touch(s.diff() / "etc"), [(K.MTIME, in_base("etc"))]),
    "mtime behind a symlink": (lambda s: touch(s.diff() / "usr/lib/d"), [(K.MTIME, in_base("usr/lib/d"))]),
    "mtime of a 0:0 device that is no whiteout": (
        lambda s: touch(s.diff() / "dev/zero"),
        [(K.MTIME, in_base("dev/zero"))],
    ),
    "xattr value": (
        lambda s: os.setxattr(s.diff() / "bin/tool", "trusted.note", b"\0two"),
        [(K.XATTRS, in_base("bin/more")), (K.XATTRS, in_base("bin/tool"))],
    ),
    "xattr name": (lambda s: os.setxattr(s.diff() / "etc", "trusted.x", b""), [(K.XATTRS, in_base("etc"))]),
    "device number": (lambda s: replace_device(s, 1, 5), [(K.DEVICE, in_base("dev/null"))]),
    "broken hard link": (break_link, [(K.HARD_LINKS, in_base("bin/more")), (K.HARD_LINKS, in_base("bin/tool"))]),
    "content": (lambda s: rewrite(s.diff() / "etc/hosts", b"hostz"), [(K.CONTENT, in_base("etc/hosts"))]),
    "last byte": (flip_last_byte_of_big, [(K.CONTENT, in_base("big"))]),
    "content of a store file": (lambda s: (s.layer(BASE) / "size").write_text("8"), [(K.CONTENT, f"{LAYER}/size")]),
    "cache-id with a newline": (
        lambda s: (s.overlay(TOP) / "link").write_text(s.link[TOP] + "\n"),
        # The link is another word now, so the one in l/ belongs to nobody any more.
        [
            (K.MISSING, f"overlay2/l/{{link {TOP}}}"),
            (K.EXTRA, "overlay2/l/{}"),
            (K.CONTENT, f"overlay2/{{{TOP}}}/link"),
        ],
    ),
    "lower": (
        lambda s: (s.overlay(TOP) / "lower").write_text(f"l/{s.link[TOP]}"),
        [(K.CONTENT, f"overlay2/{{{TOP}}}/lower")],
    ),
    "target": (lambda s: retarget(s.diff() / "etc/note", "./hosts"), [(K.TARGET, in_base("etc/note"))]),
    "target of a store link": (
        lambda s: retarget(s.root / "overlay2/l" / s.link[TOP], f"../{s.cache[BASE]}/diff"),
        [(K.TARGET, f"overlay2/l/{{link {TOP}}}")],
    ),
    "repositories": (
        lambda s: write_json(s.root / REPOSITORIES, {"Repositories": {"a": {"a:1": "sha256:9"}, "b": {}}}),
        [(K.JSON, REPOSITORIES)],
    ),
    "distribution record": (lambda s: write_json(s.root / V2_METADATA, []), [(K.JSON, V2_METADATA)]),
    "unreadable JSON": (lambda s: (s.root / REPOSITORIES).write_text("{"), [(K.JSON, REPOSITORIES)]),
    "tar-split record": (
        lambda s: write_tar_split(s.layer(BASE) / "tar-split.json.gz", [*BASE_NAMES[:-1], "lib/e/"]),
        [(K.TAR_SPLIT, f"{LAYER}/tar-split.json.gz")],
    ),
    "tar-split cut short": (
        lambda s: os.truncate(s.layer(BASE) / "tar-split.json.gz", 60),
        [(K.TAR_SPLIT, f"{LAYER}/tar-split.json.gz")],
    ),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_difference_is_found_alone(plant: str, left: Store, right: Store) -> None:
    spoil, expected = PLANTS[plant]
    spoil(right)
    found = compare_stores(left.root, right.root)
    renamed = [(kind, path.replace("{}", right.link[TOP])) for kind, path in expected]
    assert sorted(summary(found), key=str) == sorted(renamed, key=str), describe(found)


def test_every_kind_is_planted() -> None:
    planted = {kind for _, expected in PLANTS.values() for kind, _ in expected}
    assert planted == set(DifferenceKind)


INNOCENT: dict[str, Callable[[Store], object]] = {
    "time of a whiteout": lambda s: touch(s.diff(TOP) / "etc/hosts"),
    "time of a directory that no entry names": lambda s: touch(s.diff(TOP) / "made"),
    "time of the layer's root": lambda s: touch(s.diff()),
    "time outside of layers": lambda s: touch(s.root / REPOSITORIES),
    "how JSON is written": lambda s: write_json(
        s.root / REPOSITORIES, {"Repositories": {"b": {}, "a": {"a:1": "sha256:1"}}}, indent=2
    ),
    "how tar-split is compressed": lambda s: write_tar_split(s.layer(BASE) / "tar-split.json.gz", BASE_NAMES, level=1),
    "what an engine makes at start": lambda s: (s.root / "containers/x").touch(),
}


@pytest.mark.parametrize("change", INNOCENT)
def test_chance_is_no_difference(change: str, left: Store, right: Store) -> None:
    INNOCENT[change](right)
    assert compare_stores(left.root, right.root) == ()


def test_two_faults_in_one_place_are_two_differences(left: Store, right: Store) -> None:
    hosts = right.diff() / "etc/hosts"
    rewrite(hosts, b"other")
    hosts.chmod(0o600)
    found = compare_stores(left.root, right.root)
    assert summary(found) == [(K.MODE, in_base("etc/hosts")), (K.CONTENT, in_base("etc/hosts"))]


def test_only_root_may_judge(left: Store, right: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ToolError, match="by root only"):
        compare_stores(left.root, right.root)


def test_differences_are_told_in_lines() -> None:
    differences = [Difference(K.MODE, b"caf\xe9/" + b"%d" % number, "0644", "0755") for number in range(4)]
    assert describe(differences, limit=2).splitlines() == [
        "mode: caf\\xe9/0: expected 0644, found 0755",
        "mode: caf\\xe9/1: expected 0644, found 0755",
        "… and 2 more",
    ]


def summary(differences: tuple[Difference, ...]) -> list[tuple[DifferenceKind, str]]:
    return [(difference.kind, difference.path.decode()) for difference in differences]
