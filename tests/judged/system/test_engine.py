"""What a disk image says of its engine: stores of other drivers, daemon.json and flags, links, Home Assistant OS's flag."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.ext4_images import make_ext4
from tests.support.flasher_images import build_flasher_image

import drypoint
from drypoint import ExtraFile, Target, parse_platform, preload
from drypoint.disk import FileDevice, find_partition, read_table
from drypoint.errors import StoreError
from drypoint.etch.base_manifest import base_manifest
from drypoint.jobs.request import PreloadRequest
from drypoint.progress import SILENT, Step
from drypoint.samples.disk_images import (
    IMAGE_TOOLS,
    MIB,
    DiskImage,
    PartitionTable,
    Sizes,
    build_disk_image,
    data_tree,
)
from drypoint.samples.tools import run_tool
from drypoint.system import StorePlace, find_store
from drypoint.volumes.partitioned_disk import PartitionedDisk
from drypoint.volumes.target import Container

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck", "debugfs")

SMALL = Sizes(boot=4 * MIB, root_a=8 * MIB, root_b=4 * MIB, state=4 * MIB, data=16 * MIB)
PLATFORM = parse_platform("linux/amd64")
Tree = Mapping[str, str | None]
"""Content by path: a file, a directory (None), or a symbolic link (``-> target``)."""


def write(root: Path, tree: Tree) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in tree.items():
        path = root / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
    return root


def bare(tmp_path: Path, tree: Tree) -> Path:
    """A root file system alone."""
    return make_ext4(tmp_path / "root.img", 16 * MIB, "-d", str(write(tmp_path / "root", tree)))


def balena(
    tmp_path: Path, data: Tree | None = None, root: Tree | None = None, table: PartitionTable = PartitionTable.MBR
) -> DiskImage:
    """A balenaOS-like disk image with *data* in resin-data and *root* in resin-rootA."""
    tree = write(data_tree(tmp_path / "data"), data or {})
    image = build_disk_image(tmp_path / "base.img", sizes=SMALL, data=tree, table=table)
    if root is not None:
        part = image.partition("resin-rootA")
        place = f"offset={part.offset}"
        files = write(tmp_path / "rootA", root)
        run_tool(
            "mkfs.ext4", "-q", "-F", "-L", "resin-rootA", "-E", place, "-d", files, image.path, f"{part.size >> 10}k"
        )
    return image


def place_of(image: Path, partition: str | int, wanted: bytes | None = None) -> StorePlace:
    with FileDevice(image) as device:
        return find_store(PartitionedDisk(device).volume(partition), wanted)


class Notes:
    """A :class:`~drypoint.Progress` that keeps what it is given to say."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def begin(self, what: str, total: int | None = None) -> Step:
        return SILENT.begin(what)

    def note(self, text: str) -> None:
        self.texts.append(text)


def codes(place: StorePlace) -> list[str]:
    return [obstacle.code for obstacle in place.obstacles]


@pytest.mark.parametrize("driver", ["aufs", "btrfs", "devicemapper", "fuse-overlayfs", "overlay", "zfs"])
@pytest.mark.parametrize("inside", ["x", None])
def test_another_drivers_directory_is_an_obstacle_unless_it_is_empty(
    tmp_path: Path, driver: str, inside: str | None
) -> None:
    image = bare(tmp_path, {f"docker/{driver}" + (f"/{inside}" if inside else ""): None, "docker/overlay2/l": None})
    assert codes(place_of(image, 0)) == (["other-graph-driver"] if inside else [])


def test_a_file_with_a_drivers_name_is_an_obstacle_too(tmp_path: Path) -> None:
    assert codes(place_of(bare(tmp_path, {"docker/aufs": "x"}), 0)) == ["other-graph-driver"]


@pytest.mark.parametrize(
    "tree", [{"docker/vfs/dir/x": None}, {"docker/image/vfs/repositories.json": "{}"}, {"docker/AUFS/x": None}]
)
def test_what_dockerd_starts_with_is_not_an_obstacle(tmp_path: Path, tree: Tree) -> None:
    assert place_of(bare(tmp_path, tree), 0) == StorePlace(b"docker")


def test_records_of_another_driver_alone_are_a_warning(tmp_path: Path) -> None:
    place = place_of(bare(tmp_path, {"docker/image/aufs/repositories.json": "{}"}), 0)
    assert place.obstacles == ()
    assert "docker/image/aufs" in place.warnings[0]


def test_a_driver_that_daemon_json_names_decides(tmp_path: Path) -> None:
    tree = {"docker/aufs/diff": None, "etc/docker/daemon.json": '{"storage-driver": "overlay2"}'}
    assert place_of(bare(tmp_path, tree), 0).obstacles == ()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('{"storage-driver": "vfs"}', "sets the storage driver 'vfs'"),
        ('{"Storage-Driver": "btrfs"}', "sets the storage driver 'btrfs'"),
        ('{"storage-driver": "overlay2", "userns-remap": "default"}', "sets userns-remap to 'default'"),
        ('{"features": {"containerd-snapshotter": true}}', "turns the containerd image store on"),
    ],
)
def test_settings_that_send_the_engine_elsewhere(tmp_path: Path, config: str, words: str) -> None:
    place = place_of(bare(tmp_path, {"etc/docker/daemon.json": config}), 0)
    assert codes(place) == ["engine-elsewhere"]
    assert words in place.obstacles[0].text
    assert place.obstacles[0].path == b"etc/docker/daemon.json"


@pytest.mark.parametrize(
    "config",
    [
        "null",
        "",
        "{}",
        '{"storage-driver": null, "userns-remap": null, "features": null, "data-root": null, "graph": null}',
        '{"storage-driver": "", "userns-remap": "", "data-root": ""}',
        '{"features": {"containerd-snapshotter": false, "buildkit": true}, "debug": true}',
        '{"features": {"containerd-snapshotter": null}} trailing',
        '{"storage-driver": "overlay2", "log-driver": "journald", "unknown": [1]}',
    ],
)
def test_settings_that_send_it_nowhere_else(tmp_path: Path, config: str) -> None:
    place = place_of(bare(tmp_path, {"etc/docker/daemon.json": config}), 0)
    assert (place.data_root, place.obstacles, place.warnings) == (b"docker", (), ())


def test_the_variable_for_the_driver(tmp_path: Path) -> None:
    unit = "[Service]\nEnvironment=DOCKER_DRIVER=btrfs\nExecStart=/usr/bin/dockerd -s overlay2\n"
    place = place_of(bare(tmp_path, {"lib/systemd/system/docker.service": unit}), 0)
    assert "sets the storage driver 'btrfs'" in place.obstacles[0].text


def test_images_in_containerds_store_are_a_warning(tmp_path: Path) -> None:
    snapshots = "docker/containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots"
    for name, warned in ((snapshots, False), (f"{snapshots}/1/fs", True)):
        directory = tmp_path / str(warned)
        directory.mkdir()
        place = place_of(bare(directory, {name: None}), 0)
        assert (place.obstacles, bool(place.warnings)) == ((), warned)


def test_what_is_hostile_stays_in_one_line(tmp_path: Path) -> None:
    tree = {
        "etc/fstab": "LABEL=\x1b[31mred /var/lib/docker ext4\n",
        "lib/systemd/system/docker.service": "[Service]\nExecStart=/usr/bin/dockerd --config-file '/etc/\x1b[31m.json'\n",
        "etc/\x1b[31m.json": '{"storage-driver": "\\u001b[31m"}',
        "var/lib/docker": None,
    }
    place = place_of(bare(tmp_path, tree), 0, b"var/lib/docker")
    assert len(place.obstacles) == 2
    assert not any(character in str(one) for one in place.obstacles for character in "\x1b\n")


@pytest.mark.parametrize(
    "config",
    ["{", '{"data-root": "/a\\u0000b"}', '{"data-root": "/' + "a" * 5000 + '"}', "[]", "[" * 100_000, '{"data-root": '],
)
def test_a_daemon_json_that_is_damaged_is_a_warning(tmp_path: Path, config: str) -> None:
    place = place_of(bare(tmp_path, {"etc/docker/daemon.json": config}), 0)
    assert place.obstacles == ()
    assert "etc/docker/daemon.json is not well formed" in place.warnings[0]


@pytest.mark.parametrize(
    "tree",
    [
        {"etc/docker/daemon.json": '{"data-root": "/srv/engine/"}'},
        {"etc/docker/daemon.json": '{"graph": "/srv/./engine"}'},
        {"etc/docker/daemon.json": '{"Data-Root": "/srv/engine"}'},
        {"etc/docker/daemon.json": "-> ../../opt/daemon.json", "opt/daemon.json": '{"data-root": "/srv/engine"}'},
        {"etc/balena-engine/daemon.json": '{"data-root": "/srv/engine"}'},
        {
            "lib/systemd/system/docker.service": "[Service]\nExecStart=/usr/bin/dockerd -H fd:// --data-root=/srv/engine\n"
        },
        {"usr/lib/systemd/system/docker.service": "[Service]\nExecStart=/usr/bin/dockerd \\\n  -g /srv/engine\n"},
        {
            "lib/systemd/system/docker.service": "[Service]\nExecStart=/usr/bin/dockerd -g /elsewhere\n",
            "etc/systemd/system/docker.service.d/10-x.conf": (
                "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --graph /srv/engine\n"
            ),
        },
        {
            "lib/systemd/system/docker.service": (
                "[Service]\nEnvironmentFile=-/etc/default/docker\nExecStart=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS\n"
            ),
            "etc/default/docker": '#DOCKER_OPTS="-g /no"\nDOCKER_OPTS="--dns 8.8.8.8 --data-root /srv/engine"\n',
        },
        {"etc/default/docker": 'export DOCKER_OPTS="--data-root /srv/engine"\n'},
        {"etc/conf.d/docker": 'DOCKER_OPTS="--data-root /srv/engine"\n'},
        {
            "etc/systemd/system/docker.service": "[Service]\nExecStart=-/bin/sh -c 'exec dockerd --data-root /srv/engine'\n"
        },
        {
            "etc/systemd/system/docker.service": (
                "[Service]\nEnvironment=A=1 'ROOT=/srv/engine'\nExecStart=/usr/bin/dockerd --data-root ${ROOT}\n"
            )
        },
        {
            "lib/systemd/system/docker.service": "[Service]\nExecStart=/usr/bin/dockerd --config-file /opt/d.json\n",
            "opt/d.json": '{"data-root": "/srv/engine"}',
        },
        {
            "lib/systemd/system/balena.service": "[Service]\nExecStart=/usr/bin/healthdog balenad --data-root=/srv/engine\n"
        },
    ],
)
def test_a_data_root_that_is_set_is_used(tmp_path: Path, tree: Tree) -> None:
    image = bare(tmp_path, tree)
    place = place_of(image, 0)
    assert (place.data_root, place.obstacles, place.warnings) == (b"srv/engine", (), ())
    assert place_of(image, 0, b"srv/engine").obstacles == ()
    other = place_of(image, 0, b"var/lib/docker")
    assert codes(other) == ["engine-elsewhere"]
    assert "--data-root /srv/engine" in other.obstacles[0].remedy


@pytest.mark.parametrize(
    ("flags", "driver"),
    [("-s aufs", "aufs"), ("--storage-driver=aufs", "aufs"), ("-saufs", "aufs"), ("-s overlay2", None)],
)
def test_flags_of_a_balena_service_in_a_store_of_its_own(tmp_path: Path, flags: str, driver: str | None) -> None:
    unit = (
        f"[Service]\nExecStart=/usr/bin/healthdog --healthcheck=/x /usr/bin/balenad --experimental {flags} -H fd://\n"
    )
    layer = f"balena/overlay2/{'a' * 64}/diff"
    root = {f"{layer}/usr/lib/systemd/system/balena.service": unit, f"{layer}/etc/os-release": "NAME=balenaOS\n"}
    place = place_of(balena(tmp_path, {"docker/aufs/diff/x": None}, root).path, "resin-data")
    if driver is None:
        assert place.obstacles == ()
    else:
        assert "sets the storage driver 'aufs'" in place.obstacles[0].text


def test_another_systems_data_root_on_a_partition_that_its_fstab_mounts(tmp_path: Path) -> None:
    fstab = "LABEL=resin-data /mnt/data ext4 defaults 0 2\n/dev/mmcblk0p5 /state ext4 defaults\n"
    root = {"etc/fstab": fstab, "etc/docker/daemon.json": '{"data-root": "/mnt/data/engine/here"}'}
    image = balena(tmp_path, {"engine/here": None}, root).path
    place = place_of(image, "resin-data")
    assert (place.data_root, place.obstacles, place.warnings) == (b"engine/here", (), ())
    assert codes(place_of(image, "resin-data", b"docker")) == ["engine-elsewhere"]
    elsewhere = place_of(image, "resin-state")
    assert "--data-partition 6 --data-root /engine/here" in elsewhere.obstacles[0].remedy


@pytest.mark.parametrize(
    ("point", "found"),
    [("/var/lib/docker", b""), ("/var", b"lib/docker"), ("/var/lib/docker/x", b"docker"), ("/srv", b"docker")],
)
def test_a_partition_that_is_mounted_where_the_engine_looks(tmp_path: Path, point: str, found: bytes) -> None:
    image = balena(tmp_path, root={"etc/fstab": f"LABEL=resin-data {point} ext4\n"}).path
    place = place_of(image, "resin-data")
    assert (place.data_root, place.obstacles, place.warnings) == (found, (), ())
    assert bool(place_of(image, "resin-data", b"other").warnings) == (found != b"docker")
    assert place_of(image, "resin-data", found).warnings == ()


@pytest.mark.parametrize("table", list(PartitionTable))
def test_the_ways_in_which_fstab_names_a_partition(tmp_path: Path, table: PartitionTable) -> None:
    image = balena(tmp_path, table=table)
    with FileDevice(image.path) as device:
        read = read_table(device)
        data = find_partition(device, read, "resin-data")
    number = data.partition.number
    assert data.filesystem is not None
    partuuid = data.partition.guid or f"{read.disk_id.removeprefix('0x')}-{number:02x}"
    names = [
        f"UUID={data.filesystem.uuid}", 'LABEL="resin-data"', f"PARTUUID={partuuid}", f"/dev/sda{number}",
        f"/dev/nvme0n1p{number}", "/dev/disk/by-label/resin-data",
    ]  # fmt: skip
    for count, name in enumerate(names):
        root = {"etc/fstab": f"{name} /var/lib ext4\n", "etc/docker/daemon.json": '{"data-root": "/var/lib/x"}'}
        directory = tmp_path / str(count)
        directory.mkdir()
        part = image.partition("resin-rootA")
        files = write(directory / "rootA", root)
        options = ["-E", f"offset={part.offset}", "-L", "resin-rootA", "-d", str(files)]
        run_tool("mkfs.ext4", "-q", "-F", *options, image.path, f"{part.size >> 10}k")
        assert place_of(image.path, "resin-data").data_root == b"x", name


@pytest.mark.parametrize(
    ("value", "warned"), [("/mnt/data/docker", False), ("/opt/engine", True), ("relative", True), ("/docker", False)]
)
def test_another_systems_data_root_that_no_fstab_places(tmp_path: Path, value: str, warned: bool) -> None:
    root = {"etc/os-release": "NAME=x\n", "etc/docker/daemon.json": f'{{"data-root": "{value}"}}'}
    place = place_of(balena(tmp_path, root=root).path, "resin-data")
    assert (place.data_root, place.obstacles, bool(place.warnings)) == (b"docker", (), warned)


def test_a_data_root_under_another_partitions_mount(tmp_path: Path) -> None:
    tree = {"etc/fstab": "UUID=1234 / ext4\n/dev/sdb1 /var/lib/docker ext4 defaults 0 0\n", "var/lib/docker": None}
    place = place_of(bare(tmp_path, tree), 0, b"var/lib/docker")
    assert codes(place) == ["engine-elsewhere"]
    assert "mounts /dev/sdb1 at '/var/lib/docker'" in place.obstacles[0].text


@pytest.mark.parametrize(
    ("tree", "found"),
    [
        ({"docker": "-> engine", "engine": None}, b"engine"),
        ({"docker": "-> ./a/../engine", "a": None, "engine": None}, b"engine"),
        ({"docker": "-> one", "one": "-> two", "two": None}, b"two"),
        # Seen: an absolute one is the running system's.
        ({"docker": "-> /engine", "engine": None, "etc/os-release": ""}, b"engine"),
        ({"docker": "-> ../../engine", "engine": None, "etc/os-release": ""}, b"engine"),
    ],
)
def test_a_link_inside_the_partition_is_followed(tmp_path: Path, tree: Tree, found: bytes) -> None:
    place = place_of(bare(tmp_path, tree), 0)
    assert (place.data_root, place.obstacles) == (found, ())


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"docker": "-> /mnt/other/docker"}, "which is a path of the running device"),
        ({"docker": "-> ../other"}, "which is a path of the running device"),
        ({"docker": "-> nothing"}, "where nothing is"),
        ({"docker": "-> docker"}, "round in a circle"),
        ({"docker": "-> /mnt/docker", "etc/os-release": ""}, "where nothing is"),
        ({"docker": "-> a/docker", "a": "-> b"}, "where nothing is"),
    ],
)
def test_a_link_that_leads_out_or_nowhere_is_an_obstacle(tmp_path: Path, tree: Tree, words: str) -> None:
    place = place_of(bare(tmp_path, tree), 0)
    assert codes(place) == ["linked-data-root"]
    assert words in place.obstacles[0].text


def test_a_link_to_a_partition_that_is_mounted(tmp_path: Path) -> None:
    tree = {"var/lib/docker": "-> /mnt/big/docker", "mnt/big": None, "etc/fstab": "LABEL=big /mnt/big ext4\n"}
    place = place_of(bare(tmp_path, tree), 0, b"var/lib/docker")
    assert codes(place) == ["engine-elsewhere"]
    assert "LABEL=big" in place.obstacles[0].text


def test_home_assistants_flag(tmp_path: Path) -> None:
    place = place_of(balena(tmp_path, {".docker-use-containerd-snapshotter": ""}).path, "resin-data")
    assert codes(place) == ["engine-elsewhere"]
    assert "Home Assistant OS" in place.obstacles[0].text


BAD = {"docker/aufs/diff/x": None}


def test_every_job_refuses_before_anything_is_written(tmp_path: Path) -> None:
    image = balena(tmp_path, BAD)
    before = image.path.read_bytes()
    files = [ExtraFile(b"apps.json", b"{}")]
    out = tmp_path / "out.img"
    with pytest.raises(StoreError, match="store of the graph driver aufs"):
        preload(image.path, out, PreloadRequest([], PLATFORM, files=files))
    with pytest.raises(StoreError, match="aufs"):
        preload(image.path, None, PreloadRequest([], PLATFORM, files=files))
    with pytest.raises(StoreError, match="aufs"):
        drypoint.plan(image.path, drypoint.PreloadRequest([], PLATFORM, files=files))
    written: list[bytes] = []
    with pytest.raises(StoreError, match="aufs"):
        drypoint.pack(
            image.path, lambda data: written.append(bytes(data)), drypoint.PreloadRequest([], PLATFORM, files=files)
        )
    assert written == []
    with FileDevice(image.path) as device, pytest.raises(StoreError, match="aufs"):
        base_manifest(device, "resin-data", None)
    assert not out.exists()
    assert image.path.read_bytes() == before


def test_inject_refuses_what_pack_could_not_see(tmp_path: Path) -> None:
    written: list[bytes] = []
    image = balena(tmp_path, {".docker-use-containerd-snapshotter": ""})
    stream = drypoint.BaseStream(iter([image.path.read_bytes()]), image.path.stat().st_size)
    drypoint.pack(
        stream,
        lambda data: written.append(bytes(data)),
        drypoint.PreloadRequest([], PLATFORM, files=[ExtraFile(b"apps.json", b"{}")]),
        unseen=True,
    )
    with pytest.raises(StoreError, match="Home Assistant OS"):
        drypoint.inject(iter(written), tmp_path / "out.img")
    assert not (tmp_path / "out.img").exists()


def test_inspect_and_verify_say_it(tmp_path: Path) -> None:
    image = balena(tmp_path, BAD)
    assert any("graph driver aufs" in note for note in drypoint.inspect(image.path).notes)
    report = drypoint.verify(image.path, partition="resin-data")
    assert "other-graph-driver" in {one.code for one in report.findings}
    assert not report.sound
    linked = tmp_path / "linked"
    linked.mkdir()
    root = bare(linked, {"docker": "-> /mnt/docker"})
    assert [one.code for one in drypoint.verify(root, partition=0).findings] == ["linked-data-root"]
    found = drypoint.inspect(root, partition=0)
    assert found.store is None
    assert "/mnt/docker" in found.notes[0]


def test_the_disk_image_inside_a_flasher(tmp_path: Path) -> None:
    inner = balena(tmp_path, BAD)
    outer = build_flasher_image(tmp_path / "flasher.img", inner.path)
    target = Target(container=Container("flash-rootA", outer.path.encode()))
    with pytest.raises(StoreError, match="graph driver aufs"):
        drypoint.plan(
            outer.disk.path, drypoint.PreloadRequest([], PLATFORM, target=target, files=[ExtraFile(b"a", b"")])
        )


def test_a_preload_follows_what_daemon_json_says(tmp_path: Path) -> None:
    image = bare(tmp_path, {"etc/docker/daemon.json": '{"data-root": "/srv/engine"}', "srv": None})
    notes = Notes()
    found = drypoint.plan(image, drypoint.PreloadRequest([], PLATFORM, target=Target(partition=0)), progress=notes)
    assert found.state.root == b"srv/engine"
    assert notes.texts == ["the data root is 'srv/engine', as etc/docker/daemon.json says"]
