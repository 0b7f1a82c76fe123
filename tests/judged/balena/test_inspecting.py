"""What inspect says of disk images, against what sfdisk, dumpe2fs and fsck.vfat say of the same ones."""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from tests.support.ext4_images import ask_dumpe2fs, make_ext4
from tests.support.scripts import ROOT
from tests.support.stores import fill_store

import drypoint
from drypoint.balena.inspecting import Inspection, inspect
from drypoint.balena.running_supervisor import find_supervisor
from drypoint.balena.supervisor_version import parse_supervisor_version
from drypoint.cli.app import cli
from drypoint.cli.inspected_json import inspection_object
from drypoint.digest import hex_of
from drypoint.disk import FileDevice, FilesystemKind, Window
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.errors import DiskImageError, FilesystemError, PartitionTableError
from drypoint.inspection import InspectedPartition
from drypoint.inspection.picture import draw
from drypoint.samples.applications import sample_images
from drypoint.samples.disk_images import (
    IMAGE_TOOLS,
    MIB,
    RASPBERRY_PI_4,
    DiskImage,
    PartitionTable,
    Sizes,
    build_disk_image,
)
from drypoint.samples.images import BuiltImage, build_image, build_layer
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.tools import run_tool

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "dumpe2fs", "sfdisk")

SMALL = Sizes(boot=8 * MIB, root_a=8 * MIB, root_b=8 * MIB, state=8 * MIB, data=40 * MIB)
SUPERVISOR_LAYER = build_layer(LayerBuilder().file("app", b"supervisor").finish())


def supervisor(**config: object) -> BuiltImage:
    return build_image([SUPERVISOR_LAYER], config=config)


def apps_json(*images: str) -> bytes:
    services = {
        f"service-{number}": {"id": 1, "image_id": 1, "image": image, "environment": {}, "labels": {}}
        for number, image in enumerate(images)
    }
    release = {"id": 1, "services": services, "volumes": {}, "networks": {}}
    app = {"id": 1, "name": "fleet", "class": "fleet", "releases": {"cafe" * 8: release}}
    return json.dumps({"apps": {"beef" * 8: app}, "config": {}, "pinDevice": True}).encode()


@contextmanager
def partition_of(image: DiskImage, label: str) -> Iterator[Window]:
    place = image.partition(label)
    with FileDevice(image.path, writable=True) as device:
        yield Window(device, place.offset, place.size)


def by_label(found: Inspection, label: str) -> InspectedPartition:
    return next(one for one in found.disk.partitions if one.label == label)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    path = tmp_path_factory.mktemp("disk") / "disk.img"
    image = build_disk_image(path, sizes=SMALL, device_type=RASPBERRY_PI_4)
    samples = sample_images()
    images = {**samples, "balena_supervisor:v17.3.2": supervisor()}
    weather = f"demo/weather@{samples['demo/weather:1.0'].digest}"
    with partition_of(image, "resin-data") as window:
        fill_store(window, b"docker", images, {b"apps.json": apps_json(weather, "demo/absent:1")})
    return image


@pytest.mark.parametrize("table", PartitionTable)
def test_partitions_are_where_sfdisk_finds_them(tmp_path: Path, table: PartitionTable) -> None:
    path = build_disk_image(tmp_path / "disk.img", table=table, sizes=SMALL).path
    whole = inspect(path)
    found = whole.disk
    told = json.loads(run_tool("sfdisk", "--json", path))["partitiontable"]
    assert (found.table, found.disk_id.lower()) == ({"dos": "mbr", "gpt": "gpt"}[told["label"]], told["id"].lower())
    assert found.size == path.stat().st_size
    expected = {
        (int(one["node"].removeprefix(str(path))), one["start"] * 512, one["size"] * 512, one.get("name", ""))
        for one in told["partitions"]
    }
    assert {
        (one.partition.number, one.partition.start, one.partition.size, one.partition.name) for one in found.partitions
    } == expected
    assert [one.notes for one in found.partitions] == [()] * len(found.partitions)
    assert whole.data is not None
    assert (whole.data.number, whole.store) == (6 if table is PartitionTable.MBR else 5, None)
    assert whole.os is not None
    assert [one.version for one in whole.os.systems] == ["6.1.24"]


def test_free_room_of_ext4_is_what_dumpe2fs_tells(filled: DiskImage) -> None:
    found = inspect(filled.path)
    for label in ("resin-rootA", "resin-state", "resin-data"):
        one = by_label(found, label)
        fields = ask_dumpe2fs(filled.path, offset=one.partition.start)
        block = int(fields["Block size"])
        assert one.space is not None
        assert (one.space.total, one.space.free, one.space.reserved, one.space.inodes, one.space.free_inodes) == (
            int(fields["Block count"]) * block,
            int(fields["Free blocks"]) * block,
            int(fields["Reserved block count"]) * block,
            int(fields["Inode count"]),
            int(fields["Free inodes"]),
        )
        assert one.filesystem is not None
        assert one.filesystem.uuid == fields["Filesystem UUID"]


@pytest.mark.needs("mkfs.vfat", "fsck.vfat", "mcopy")
@pytest.mark.parametrize(("bits", "mebibytes"), [(12, 4), (16, 16), (32, 36)])
def test_free_room_of_fat_is_what_fsck_counts(tmp_path: Path, bits: int, mebibytes: int) -> None:
    fat = tmp_path / "fat.img"
    with fat.open("wb") as file:
        file.truncate(mebibytes * MIB)
    run_tool("mkfs.vfat", "-F", str(bits), "-n", "BOOT", fat)
    (tmp_path / "content").write_bytes(bytes(300_001))
    run_tool("mcopy", "-i", fat, tmp_path / "content", "::/content")
    disk = in_a_partition(tmp_path, fat, 0xC)
    one = inspect(disk).disk.partitions[0]
    told = re.search(r"(\d+)/(\d+) clusters", run_tool("fsck.vfat", "-n", fat))
    assert told is not None
    assert one.filesystem is not None
    assert (one.filesystem.kind, one.notes) == (FilesystemKind(f"FAT{bits}"), ())
    cluster = one.filesystem.block_size
    assert one.space is not None
    assert (one.space.total, one.space.free) == (
        int(told[2]) * cluster,
        (int(told[2]) - int(told[1])) * cluster,
    )


def test_a_wrong_hint_in_fat32_is_told(tmp_path: Path) -> None:
    fat = tmp_path / "fat.img"
    with fat.open("wb") as file:
        file.truncate(36 * MIB)
    run_tool("mkfs.vfat", "-F", "32", fat)
    with fat.open("r+b") as file:
        file.seek(512 + 488)
        file.write((77).to_bytes(4, "little"))
    one = inspect(in_a_partition(tmp_path, fat, 0xC)).disk.partitions[0]
    assert one.space is not None
    assert one.space.free > 30 * MIB
    assert "FSInfo sector says 77" in one.notes[0]


def in_a_partition(tmp_path: Path, content: Path, kind: int) -> Path:
    disk = tmp_path / "disk.img"
    with disk.open("wb") as file:
        file.seek(MIB)
        file.write(content.read_bytes())
        file.truncate(MIB + content.stat().st_size)
    run_tool(
        "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk, script=f"label: dos\nstart=2048,type={kind:x}\n"
    )
    return disk


def test_balena_os_says_what_it_is(filled: DiskImage) -> None:
    found = inspect(filled.path)
    assert found.os is not None
    assert [(one.partition, one.name, one.version, one.path) for one in found.os.systems] == [
        ("resin-rootA", "balenaOS", "6.1.24", b"etc/os-release")
    ]
    assert found.os.device_type is not None
    assert (found.os.device_type.slug, found.os.device_type.arch) == ("raspberrypi4-64", "aarch64")
    assert found.os.config is not None
    assert (found.os.config.device_type, found.os.config.has_api_key) == ("raspberrypi4-64", False)
    assert (found.os.flasher, found.os.secure_boot, found.os.notes) == (False, False, ())
    assert [one.version for one in found.supervisors] == ["17.3.2"]


def test_images_layers_and_who_shares_them(filled: DiskImage) -> None:
    store = inspect(filled.path).store
    samples = sample_images()
    assert store is not None
    images = {image.image_id: image for image in store.images}
    for name, built in samples.items():
        image = images[built.image_id]
        assert image.references == (name, f"{name.partition(':')[0]}@{built.digest}")
        assert (len(image.layers), image.platform, image.usable) == (len(built.layers), "linux/amd64", True)
        assert image.created == "2024-01-01T00:00:00Z"
    base = next(layer for layer in store.layers if len(layer.images) == 2)
    assert base.diff_id == samples["demo/weather:1.0"].layers[0].diff_id
    assert base.images == tuple(sorted(image.image_id for image in samples.values()))
    assert (store.orphans.layers, store.orphans.directories, store.findings, store.containers) == ((), (), (), ())


def test_services_of_apps_json_resolve_or_not(filled: DiskImage) -> None:
    apps = inspect(filled.path).apps
    assert apps is not None
    weather = sample_images()["demo/weather:1.0"].image_id
    assert [(one.app_name, one.release_uuid, one.name, one.image_id, one.usable) for one in apps.services] == [
        ("fleet", "cafe" * 8, "service-0", weather, True),
        ("fleet", "cafe" * 8, "service-1", None, False),
    ]
    assert (apps.path, apps.pin_device, apps.notes) == (b"apps.json", True, ())


def test_the_image_is_not_changed(filled: DiskImage) -> None:
    before = filled.path.read_bytes()
    inspect(filled.path)
    assert filled.path.read_bytes() == before


def test_a_compressed_image_is_looked_into_as_it_is(filled: DiskImage, tmp_path: Path) -> None:
    packed = tmp_path / "disk.img.gz"
    with filled.path.open("rb") as plain, gzip.open(packed, "wb", compresslevel=1) as file:
        shutil.copyfileobj(plain, file)
    found = inspect(packed)
    assert found.disk.name == str(packed)
    assert replace(found, disk=replace(found.disk, name=str(filled.path))) == inspect(filled.path)


def test_a_store_with_damage_and_leftovers_is_shown(tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img", sizes=SMALL)
    with partition_of(image, "resin-data") as window:
        state = fill_store(window, b"docker", sample_images())
    offset = image.partition("resin-data").offset
    gone = next(layer for layer in state.layers.values() if layer.parent is not None and not layer.committed)
    own = f"/docker/image/overlay2/layerdb/sha256/{hex_of(gone.chain_id)}"
    for command in (f"rm {own}/cache-id", "rm /docker/image/overlay2/repositories.json"):
        subprocess.run(
            ["debugfs", "-w", "-R", command, f"{image.path}?offset={offset}"], check=True, capture_output=True
        )
    store = inspect(image.path).store
    assert store is not None
    assert sorted(image.usable for image in store.images) == [False, True]
    assert all(image.references == () for image in store.images)
    assert len(store.orphans.images) == 2
    assert store.orphans.directories == (gone.cache_id,)
    assert "missing-file" in {finding.code for finding in store.findings}
    assert CliRunner().invoke(cli, ["inspect", str(image.path)]).exit_code == 0


def test_a_damaged_partition_is_said_and_stops_nothing(tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img", sizes=SMALL)
    for label, position, content in (
        ("resin-rootA", 1024 + 32, b"\xff" * 4),
        ("resin-rootB", 1024, bytes(1024)),
        ("resin-state", 0, b"LUKS\xba\xbe\0\2"),
        ("resin-data", 1024 + 96, b"\xff"),
    ):
        with partition_of(image, label) as window:
            window.write(position, content)
    found = inspect(image.path)
    numbered = {one.partition.number: one for one in found.disk.partitions}
    assert "makes no sense" in numbered[2].notes[0]
    assert numbered[2].space is None
    assert numbered[3].filesystem is None
    assert numbered[5].filesystem is not None
    assert numbered[5].filesystem.kind is FilesystemKind.LUKS2
    assert found.store is None
    assert found.notes
    assert found.os is not None
    assert "resin-rootA cannot be read" in found.os.notes[0]
    done = CliRunner().invoke(cli, ["inspect", str(image.path)])
    assert done.exit_code == 0
    assert "LUKS2" in done.output


def test_two_data_partitions_are_not_chosen_between(tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img", sizes=SMALL)
    offset = image.partition("resin-state").offset
    run_tool("tune2fs", "-L", "resin-data", f"{image.path}?offset={offset}")
    found = inspect(image.path)
    assert (found.data, found.store) == (None, None)
    assert found.notes == ("partitions 5 and 6 are both labelled resin-data; choose one by its number",)
    assert inspect(image.path, partition=6).notes == ()


def test_a_flasher_names_what_it_installs(tmp_path: Path) -> None:
    root = make_ext4(tmp_path / "root.img", 8 * MIB, "-L", "flash-rootA")
    release = 'NAME="balenaOS"\nVERSION="2.98.12+rev1"\nVARIANT="Production"\n'
    files = {
        "opt/balena-image-x.balenaos-img": b"image",
        "opt/balena-image-x.balenaos-img.sig": b"signature",
        "opt/readme": b"other",
        "balena/overlay2/aa/diff/etc/os-release": b"NAME=older\n",
        "balena/overlay2/bb/lower": b"l/AA",
        "balena/overlay2/bb/diff/etc/os-release": release.encode(),
        "balena/overlay2/bb/diff/etc/balena-supervisor/supervisor.conf": b"SUPERVISOR_VERSION=v14.0.8\n",
    }
    commands = [
        f"mkdir /{'/'.join(parts[:depth])}"
        for name in files
        for parts in [name.split("/")]
        for depth in range(1, len(parts))
    ]
    for name, content in files.items():
        (tmp_path / name.replace("/", "-")).write_bytes(content)
        commands.append(f"write {tmp_path / name.replace('/', '-')} /{name}")
    run_tool("debugfs", "-w", "-f", "-", root, script="\n".join(dict.fromkeys(commands)) + "\n")
    found = inspect(in_a_partition(tmp_path, root, 0x83))
    assert found.os is not None
    assert found.os.flasher
    # A signature by itself forbids nothing.
    assert not found.os.secure_boot
    assert found.inner is None
    assert [note.partition(": ")[0] for note in found.notes] == ["the disk image that is installed cannot be read"]
    assert [(one.path, one.size, one.signed) for one in found.os.inner_images] == [
        (b"opt/balena-image-x.balenaos-img", 5, True)
    ]
    assert [(one.version, one.variant, one.supervisor) for one in found.os.systems] == [
        ("2.98.12+rev1", "Production", "14.0.8")
    ]


def test_config_json_gives_no_secret_away(tmp_path: Path) -> None:
    image = build_disk_image(tmp_path / "disk.img", sizes=SMALL)
    config = {
        "applicationId": "1234",
        "deviceType": "x",
        "hostname": "plant",
        "apiKey": "secret-one",
        "wifiKey": "secret-two",
        "installer": {"secureboot": True},
    }
    boot = f"{image.path}@@{image.partition('resin-boot').offset}"
    (tmp_path / "config.json").write_text(json.dumps(config))
    run_tool("mcopy", "-o", "-i", boot, tmp_path / "config.json", "::config.json")
    found = inspect(image.path)
    assert found.os is not None
    assert found.os.config is not None
    assert (found.os.config.application_id, found.os.config.hostname, found.os.config.has_api_key) == (
        1234,
        "plant",
        True,
    )
    assert found.os.secure_boot
    assert "secret" not in repr(found) + json.dumps(inspection_object(found))
    (tmp_path / "config.json").write_text('{"apiKey": "secret-three", broken')
    run_tool("mcopy", "-o", "-i", boot, tmp_path / "config.json", "::config.json")
    found = inspect(image.path)
    assert found.os is not None
    assert found.os.notes == ("config.json in resin-boot is not well formed",)


def test_other_disk_images_are_shown_and_a_wrong_partition_is_an_error(tmp_path: Path) -> None:
    disk = in_a_partition(tmp_path, make_ext4(tmp_path / "root.img", 16 * MIB, "-L", "rootfs"), 0x83)
    found = inspect(disk)
    assert (found.os, found.data, found.store, found.apps, found.notes) == (None, None, None, None, ())
    assert inspect(disk, partition="rootfs", data_root=b"var/lib/docker").store is None
    with FileDevice(disk, writable=True) as device:
        fill_store(Window(device, MIB, 16 * MIB), b"", {"a:1": supervisor()})
    store = inspect(disk, partition=1, data_root=b"").store
    assert store is not None
    assert [image.references[0] for image in store.images] == ["a:1"]
    with pytest.raises(PartitionTableError, match="no partition has the label 'nowhere'"):
        inspect(disk, partition="nowhere")
    with pytest.raises(DiskImageError):
        inspect(tmp_path)
    image = build_disk_image(tmp_path / "balena.img", sizes=SMALL)
    with pytest.raises(FilesystemError, match="holds FAT"):
        inspect(image.path, partition="resin-boot")
    done = CliRunner().invoke(cli, ["inspect", str(image.path), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.output)["store"] is None


@pytest.mark.parametrize(
    ("reference", "config", "version"),
    [
        ("balena_supervisor:v17.3.2", {}, "17.3.2"),
        ("balena/aarch64-supervisor:v16.1.0", {}, "16.1.0"),
        ("balena/aarch64-supervisor:latest", {"Env": ["PATH=/bin", "VERSION=15.0.1"]}, "15.0.1"),
        ("registry.example/my/supervisor:latest", {"Env": ["VERSION=v14.1.0"]}, "14.1.0"),
        ("balena/aarch64-supervisor:latest", {}, None),
    ],
)
def test_the_supervisors_version_is_found(
    tmp_path: Path, reference: str, config: dict[str, object], version: str | None
) -> None:
    disk = make_ext4(tmp_path / "data.img", 16 * MIB, "-L", "resin-data")
    with FileDevice(disk, writable=True) as device:
        fill_store(device, b"", {reference: supervisor(**config)})
        reads_apps = find_supervisor(device, Ext4Reader(device), b"")
    assert [one.version for one in inspect(disk, data_root=b"").supervisors] == [version]
    reads = None if reads_apps is None else reads_apps.version
    assert reads == (None if version is None else parse_supervisor_version(version)), "preload thinks likewise"


def test_the_command_prints_tables_json_and_a_picture(filled: DiskImage, tmp_path: Path) -> None:
    svg = tmp_path / "out.svg"
    done = CliRunner().invoke(cli, ["inspect", "-q", str(filled.path), "--svg", str(svg), "-v"])
    assert done.exit_code == 0
    for expected in ("resin-data", "balenaOS 6.1.24", "Supervisor 17.3.2", "demo/weather:1.0", "missing", "aarch64"):
        assert expected in done.output
    assert "demo/gateway" in svg.read_text()
    told = json.loads(CliRunner().invoke(cli, ["inspect", str(filled.path), "--json"]).output)
    assert told == json.loads(json.dumps(inspection_object(drypoint.inspect(filled.path))))
    assert {one["id"] for one in told["store"]["images"]} >= {image.image_id for image in sample_images().values()}
    before = filled.path.read_bytes()
    done = CliRunner().invoke(cli, ["inspect", str(filled.path), "--svg", str(filled.path)])
    assert isinstance(done.exception, drypoint.OutputError)
    assert filled.path.read_bytes() == before


def test_every_key_of_the_json_is_documented(filled: DiskImage) -> None:
    page = (ROOT / "docs/reference/json.md").read_text().partition("## drypoint inspect")[2].partition("\n## ")[0]
    keys: set[str] = set()
    pending: list[object] = [inspection_object(inspect(filled.path))]
    while pending:
        match pending.pop():
            case dict() as members:
                keys |= set(members)
                pending.extend(members.values())
            case list() as items:
                pending.extend(items)
    documented = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", page))))
    assert keys - documented == set()


def test_whatever_is_damaged_it_ends_with_an_answer_or_a_known_error(filled: DiskImage, tmp_path: Path) -> None:
    """Superblocks, tables and the store's small files, with bytes turned at random; each time it still has to end in order."""
    rnd = random.Random(20)
    disk = tmp_path / "disk.img"
    shutil.copyfile(filled.path, disk)
    starts = [0, *(one.offset for one in filled.partitions)]
    answers = 0
    with FileDevice(disk, writable=True) as device:
        for _ in range(80):
            places = [
                rnd.choice(starts) + rnd.randrange(1 << rnd.choice((9, 12, 16, 20))) for _ in range(rnd.randint(1, 40))
            ]
            before = [(place, device.read(place, 1)) for place in dict.fromkeys(places)]
            for place, _ in before:
                device.write(place, rnd.randbytes(1))
            try:
                found = inspect(disk)
                json.dumps(inspection_object(found)).encode()
                ElementTree.fromstring(draw(found.disk, found.store, title="t"))
                answers += 1
            except drypoint.DrypointError:
                pass
            for place, byte in before:
                device.write(place, byte)
    assert answers > 20
    assert inspect(disk).store == inspect(filled.path).store
