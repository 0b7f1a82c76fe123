"""Realistic images: a Debian userland, two applications on it that share layers, and a stand-in Supervisor.

The userland is made once by debootstrap and kept in the user's cache directory; everything above it is built in memory. Each
image's command checks from the inside that its layers are correct, and prints IMAGE_OUTPUT[name].
Needs root and Debian's archive (the first time).
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
import platformdirs
from tests.support.debian import bootstrap, locked

from drypoint.decoders import json_decoder
from drypoint.digest import parse_digest
from drypoint.oci import Descriptor, parse_platform
from drypoint.samples.images import BuiltImage, BuiltLayer, Compression, build_image, build_layer
from drypoint.samples.layers import DEFAULT_MTIME, LayerBuilder, file_capability
from drypoint.samples.tools import run_tool

SUITE = "bookworm"
ALPHA = "apps/alpha:1.0"
BETA = "apps/beta:2.1"
SUPERVISOR = "balena/supervisor:v19.0.1"
SUPERVISOR_VERSION = "v19.0.1"

_RECIPE = 1
"""Part of the cached file's name: increase it with every change to how the userland is made."""
_NET_RAW = 13
_MANY = 1500
_BIG = 16 << 20
_LITTLE = re.compile(
    r"usr/(?:s?bin/(?:dash|sh|cat|echo|true)|lib(?:64)?/(?:.*/)?(?:ld-linux[^/]*|libc\.so\.6))|bin|lib|lib64"
)

_COMMON_CHECKS = """\
test ! -e /etc/issue && test ! -e /usr/share/doc/bash && echo "whiteouts: gone"
echo "opaque: $(ls /etc/apt)"
test /srv/links/one -ef /srv/links/deep/three && echo "links: $(stat -c %h /srv/links/one)"
echo "devices: $(stat -c %F,%t:%T /srv/devices/null) $(stat -c %F,%t:%T /srv/devices/loop7) $(stat -c %F /srv/devices/pipe)"
echo "capability: $(setpriv --reuid=1000 --clear-groups /usr/local/bin/capable /proc/self/status | grep CapEff | tr -d '\\t')"
echo "setuid: $(setpriv --reuid=1000 --clear-groups /usr/local/bin/whoami-setuid -u)"
echo "owner: $(stat -c '%u:%g %a' /srv/owned)"
echo "big: $(stat -c %s /srv/big) $(tail -c 4 /srv/big)"
"""
_COMMON_OUTPUT = f"""\
whiteouts: gone
opaque: sources.list
links: 3
devices: character special file,1:3 block special file,7:7 fifo
capability: CapEff:0000000000002000
setuid: 0
owner: 70000:80000 1770
big: {_BIG} tail
"""
IMAGE_OUTPUT: Mapping[str, str] = MappingProxyType(
    {
        ALPHA: f"alpha\n{_COMMON_OUTPUT}many: {_MANY - 1} replaced\n",
        BETA: f"beta\n{_COMMON_OUTPUT}many: 1 only\n",
        SUPERVISOR: "supervisor\n",
    }
)
"""The output of ``docker run IMAGE``, by the names below."""


class _CachedLayer(msgspec.Struct):
    media_type: str
    digest: str
    size: int
    diff_id: str


def userland_images() -> dict[str, BuiltImage]:
    """The three images by repository and tag: ALPHA and BETA share a Debian userland and one more layer.

    Raises:
        ToolError: debootstrap is missing or failed.
    """
    debian = debian_layer()
    binaries = _read_members(debian, re.compile(r"usr/bin/(?:cat|id)"))
    common = build_layer(_common(binaries["usr/bin/cat"], binaries["usr/bin/id"]))
    alpha = build_layer(_alpha())
    return {
        ALPHA: _image([debian, common, alpha], docker=True),
        BETA: _image([debian, common, build_layer(_beta())], docker=False),
        SUPERVISOR: _image([build_layer(_little_userland(debian)), build_layer(_supervisor())], docker=True),
    }


def _image(layers: list[BuiltLayer], *, docker: bool) -> BuiltImage:
    platform = parse_platform(os.uname().machine)
    return build_image(layers, config={"Cmd": ["/bin/sh", "/check"]}, platform=platform, docker=docker)


def _common(cat: bytes, show_id: bytes) -> bytes:
    layer = LayerBuilder()
    layer.directory("etc/apt", mtime=DEFAULT_MTIME + 123_456_789).opaque("etc/apt").file(
        "etc/apt/sources.list", b"# none\n"
    )
    layer.whiteout("etc/issue").whiteout("usr/share/doc/bash", uid=12, gid=34)
    layer.file("usr/local/bin/capable", cat, mode=0o755, xattrs={b"security.capability": file_capability(_NET_RAW)})
    layer.file("usr/local/bin/whoami-setuid", show_id, mode=0o4755)
    layer.directory("srv/links").file("srv/links/one", b"one inode\n", mtime=DEFAULT_MTIME + 1)
    # No entry names the directory "deep": the engine makes it.
    layer.hardlink("srv/links/two", "srv/links/one").hardlink("srv/links/deep/three", "./srv/links/one")
    layer.directory("srv/devices").char_device("srv/devices/null", 1, 3, mode=0o666).block_device(
        "srv/devices/loop7", 7, 7
    )
    layer.char_device("srv/devices/large", 300, 70_000).fifo("srv/devices/pipe")
    layer.directory("srv/owned", mode=0o1770, uid=70_000, gid=80_000, xattrs={b"user.note": b"\0binary\xff"})
    layer.file(b"srv/owned/caf\xe9", b"latin-1\n").file("srv/owned/line\nbreak", b"")
    layer.symlink("srv/short", "links/one").symlink("srv/" + "long-name-" * 20, "x/" * 900, uid=5)
    layer.file("srv/big", (piece for piece in (bytes(_BIG - 4), b"tail")), size=_BIG)
    layer.directory("srv/many", mode=0o2775, gid=50)
    for number in range(_MANY):
        layer.file(f"srv/many/f{number:04}", b"%d\n" % number * (number % 50), mtime=DEFAULT_MTIME + number)
    return layer.finish()


def _alpha() -> bytes:
    check = f"echo alpha\n{_COMMON_CHECKS}echo many: $(ls /srv/many | wc -l) $(cat /srv/many/f0002)\n"
    layer = LayerBuilder().directory("srv/many", mode=0o2775, gid=50).whiteout("srv/many/f0001")
    return layer.file("srv/many/f0002", b"replaced\n").file("check", check.encode()).finish()


def _beta() -> bytes:
    check = f"echo beta\n{_COMMON_CHECKS}echo many: $(ls /srv/many | wc -l) $(cat /srv/many/*)\n"
    layer = LayerBuilder().directory("srv/many").opaque("srv/many").file("srv/many/new", b"only\n")
    return layer.file("check", check.encode(), mode=0o700).finish()


def _supervisor() -> bytes:
    layer = LayerBuilder().directory("data", mode=0o700).file("check", b"echo supervisor\n")
    return layer.file("usr/src/app/dist/app.js", b"console.log('stand-in')\n" * 1000).finish()


def _little_userland(debian: BuiltLayer) -> bytes:
    """A shell and what it needs to run, from the Debian layer."""
    layer = LayerBuilder()
    with tarfile.open(_path_of(debian)) as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            if not _LITTLE.fullmatch(path):
                continue
            if member.issym():
                layer.symlink(path, member.linkname)
            elif member.isreg():
                layer.file(path, _content(archive, member), mode=member.mode)
    return layer.finish()


def _read_members(debian: BuiltLayer, wanted: re.Pattern[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(_path_of(debian)) as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            if wanted.fullmatch(path):
                found[path] = _content(archive, member)
    return found


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, f"{member.name} is no regular file"
    return file.read()


def _path_of(layer: BuiltLayer) -> Path:
    assert isinstance(layer.tar, Path)
    return layer.tar


def debian_layer() -> BuiltLayer:
    """The layer from the cache, made first if it is missing; concurrent processes wait."""
    directory = platformdirs.user_cache_path("drypoint", appauthor=False, ensure_exists=True)
    name = f"debian-{SUITE}-{os.uname().machine}-{_RECIPE}"
    tar, blob, facts = (directory / f"{name}{suffix}" for suffix in (".tar", ".tar.gz", ".json"))
    with locked(directory / f"{name}.lock"):
        # The facts are written last, so that their presence means that the rest is complete.
        if not facts.exists():
            _make_debian_tar(tar)
            made = build_layer(tar, Compression.GZIP, docker=True, store=blob)
            content = _CachedLayer(
                made.descriptor.media_type, made.descriptor.digest, made.descriptor.size, made.diff_id
            )
            facts.write_bytes(msgspec.json.encode(content))
    known = json_decoder(_CachedLayer).decode(facts.read_bytes())
    descriptor = Descriptor(known.media_type, parse_digest(known.digest), known.size)
    return BuiltLayer(descriptor, parse_digest(known.diff_id), blob, tar)


def _make_debian_tar(tar: Path) -> None:
    directory = Path(tempfile.mkdtemp(prefix="userland-", dir=tar.parent))
    try:
        bootstrap(SUITE, directory)
        options = [
            "--format=pax",
            "--pax-option=delete=atime,delete=ctime",
            "--sort=name",
            "--numeric-owner",
            "--xattrs",
        ]
        run_tool("tar", *options, "--directory", directory, "--create", "--file", tar, ".")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
