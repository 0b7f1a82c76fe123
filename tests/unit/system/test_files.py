"""The files of a system on a disk image are anybody's: whatever is in them, they are read in bounded time or passed over."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from drypoint.disk.tables.partitions import Partition, PartitionKind, PartitionTable, ProbedPartition
from drypoint.fstree import Directory, Metadata, Regular, Symlink, follow_links
from drypoint.sinks.memory import MemoryTree
from drypoint.system.flags import engine_flags
from drypoint.system.mounts import covering, read_mounts
from drypoint.system.settings import read_settings

PIECES = [
    "[Service]\n", "ExecStart=", "Environment=", "EnvironmentFile=-/etc/default/docker\n", "dockerd", "/usr/bin/dockerd ",
    "--data-root", "-g", "-s", "=", " ", "\n", "\\\n", "'", '"', "$DOCKER_OPTS", "${A}", "/x", "overlay2", "#", "\0", "{", "}",
    '"data-root"', ":", ",", "null", "true", '"features"', '"containerd-snapshotter"', "LABEL=", "UUID=x", "\\040", "ext4",
]  # fmt: skip
TEXT = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=30).map("".join)
FILES = ("etc/docker/daemon.json", "lib/systemd/system/docker.service", "etc/default/docker", "etc/fstab")


def tree_of(contents: dict[str, bytes]) -> MemoryTree:
    tree = MemoryTree()
    for path, content in contents.items():
        parts = path.split("/")
        for count in range(1, len(parts)):
            parent = "/".join(parts[:count]).encode()
            if tree.lookup(parent) is None:
                tree.add(Directory(parent, Metadata(0o755)))
        tree.add(Regular(path.encode(), Metadata(0o644), len(content)), (content,))
    return tree


@given(st.dictionaries(st.sampled_from(FILES), st.one_of(TEXT.map(str.encode), st.binary(max_size=80)), min_size=1))
@settings(max_examples=100, deadline=None)
def test_whatever_they_hold_is_read(contents: dict[str, bytes]) -> None:
    tree = tree_of(contents)
    found = read_settings(tree, b"")
    for setting in (found.data_root, found.storage_driver, found.userns_remap):
        assert setting is None or (setting.value and "\0" not in setting.value)
    partition = ProbedPartition(Partition(1, 0, 1 << 20, PartitionKind.PRIMARY, "0x83"), None)
    mounts = read_mounts(tree, b"", PartitionTable(512, (partition.partition,), None), (partition,))
    assert all(mount.point and not mount.point.startswith(b"/") for mount in mounts)
    covering(mounts, b"var/lib/docker")


def test_a_flag_in_each_spelling() -> None:
    for spelling in ("--data-root /x", "--data-root=/x", "-g /x", "-g=/x", "-g/x", "--graph /x", "--graph=/x"):
        unit = f"[Service]\nExecStart=/usr/bin/dockerd -D {spelling} -H fd://\n".encode()
        tree = tree_of({"usr/lib/systemd/system/docker.service": unit})
        assert engine_flags(tree, b"", b"docker.service")[0] == "-D"
        setting = read_settings(tree, b"").data_root
        assert setting is not None
        assert (setting.value, setting.source) == ("/x", "docker.service")


def test_a_unit_in_etc_replaces_one_in_lib_and_drop_ins_go_by_name() -> None:
    start = b"[Service]\nExecStart=\nExecStart=dockerd --data-root="
    tree = tree_of(
        {
            "lib/systemd/system/docker.service": start + b"/lib\n",
            "etc/systemd/system/docker.service": start + b"/etc\n",
            "lib/systemd/system/docker.service.d/20-b.conf": start + b"/last\n",
            "etc/systemd/system/docker.service.d/10-a.conf": start + b"/first\n",
            "etc/systemd/system/docker.service.d/30-c": start + b"/not-a-drop-in\n",
        }
    )
    setting = read_settings(tree, b"").data_root
    assert setting is not None
    assert setting.value == "/last"


TARGETS = [b"a", b"b/c", b"/d", b"../a", b".", b"/", b"c/../d", b"../../b"]
LINKS = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.sampled_from(TARGETS)), max_size=4)


@given(LINKS.map(dict))
@settings(max_examples=60, deadline=None)
def test_links_are_followed_as_far_as_they_go(links: dict[bytes, bytes]) -> None:
    tree = MemoryTree()
    for name, target in links.items():
        tree.add(Symlink(name, Metadata(0o777), target))
    for path in (b"a", b"a/b/c", b"d/d", b""):
        found = follow_links(tree, path)
        if found.path is not None:
            assert b".." not in found.path.split(b"/")
            assert tree.lookup(found.path) is None or not isinstance(tree.lookup(found.path), Symlink)
            again = follow_links(tree, found.path)
            assert (again.path, again.link) == (found.path, None)
