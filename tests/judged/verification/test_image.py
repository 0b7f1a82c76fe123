"""A whole disk image: its table, its file systems, its apps.json; each damage is found in its partition and told apart."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.stores import fill_store

from drypoint.balena.apps_json import read_apps_json
from drypoint.balena.apps_json_images import AppsJsonImages
from drypoint.balena.apps_json_v2 import to_version_2
from drypoint.balena.running_supervisor import RunningSupervisor
from drypoint.balena.supervisor_version import parse_supervisor_version
from drypoint.cli.app import cli
from drypoint.disk import FileDevice, Window
from drypoint.samples.disk_images import (
    IMAGE_TOOLS,
    MIB,
    DiskImage,
    Partition,
    PartitionTable,
    Sizes,
    build_disk_image,
)
from drypoint.samples.images import BuiltImage, build_image, build_layer
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.tools import run_tool
from drypoint.verification import Report, Severity, filesystem, verify

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "fsck.vfat", "e2fsck")

SIZES = Sizes(boot=16 * MIB, root_a=8 * MIB, root_b=8 * MIB, state=8 * MIB, data=16 * MIB)
REPOSITORY = "registry.example/v2/abc"


def image_of(text: str) -> BuiltImage:
    layer = LayerBuilder()
    for number in range(40):
        layer.file(f"some/directory/file-{number}", f"{text} {number}".encode())
    return build_image([build_layer(layer.finish())], config={"Labels": {"is": text}})


MAIN, OTHER = image_of("main"), image_of("other")


def apps_json(*images: str) -> bytes:
    services = {
        f"service{number}": {"id": number, "image_id": number, "image": image, "environment": {}, "labels": {}}
        for number, image in enumerate(images)
    }
    app = {
        "id": 1,
        "name": "lights",
        "class": "fleet",
        "is_host": False,
        "releases": {"ab" * 16: {"id": 1, "services": services, "volumes": {}, "networks": {}}},
    }
    return json.dumps({"config": {}, "pinDevice": False, "apps": {"cd" * 16: app}}).encode()


GOOD_APPS = apps_json(f"{REPOSITORY}@{MAIN.digest}")


@dataclass(frozen=True, slots=True)
class Lab:
    """A disk image to do damage to."""

    image: DiskImage

    @property
    def path(self) -> Path:
        return self.image.path

    def partition(self, label: str = "resin-data") -> Partition:
        return self.image.partition(label)

    def do(self, *commands: str, label: str = "resin-data") -> None:
        where = f"{self.path}?offset={self.partition(label).offset}"
        run_tool("debugfs", "-w", "-f", "/dev/stdin", where, script="\n".join(commands) + "\n")

    def flip(self, offset: int, bit: int = 1) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ bit]))

    def flip_block_of(self, path: str, inside: int, label: str = "resin-data") -> None:
        partition = self.partition(label)
        blocks = run_tool("debugfs", "-R", f"blocks {path}", f"{self.path}?offset={partition.offset}")
        self.flip(partition.offset + int(blocks.split()[0]) * 4096 + inside)

    def put(self, name: str, content: bytes) -> None:
        new = self.path.with_suffix(".new")
        new.write_bytes(content)
        self.do(f"rm {name}", f"write {new} {name}")

    def verify(self, apps: bytes | None = None, supervisor: RunningSupervisor | None = None) -> Report:
        required_images = AppsJsonImages(None if apps is None else read_apps_json(apps, "given"), supervisor)
        return verify(self.path, partition="resin-data", data_root=b"docker", required_images=required_images)

    def told(self) -> set[tuple[str, int | None]]:
        return {(one.code, one.partition) for one in self.verify().findings}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> DiskImage:
    path = tmp_path_factory.mktemp("good") / "disk.img"
    image = build_disk_image(path, table=PartitionTable.GPT, sizes=SIZES)
    data = image.partition("resin-data")
    with FileDevice(path, writable=True) as device:
        window = Window(device, data.offset, data.size)
        fill_store(window, b"docker", {f"{REPOSITORY}:1": MAIN, "other:1": OTHER}, {b"apps.json": GOOD_APPS})
    return image


@pytest.fixture
def lab(good: DiskImage, tmp_path: Path) -> Lab:
    copy = tmp_path / "disk.img"
    run_tool("cp", "--sparse=always", good.path, copy)
    return Lab(DiskImage(copy, good.table, good.partitions))


def test_a_good_image_has_no_findings(lab: Lab) -> None:
    before = lab.path.read_bytes()
    report = lab.verify()
    assert report.findings == ()
    assert report.sound
    assert [(one.partition, one.label, one.kind) for one in report.file_systems] == [
        (1, "resin-boot", "FAT16"),
        (2, "resin-rootA", "ext4"),
        (3, "resin-rootB", "ext4"),
        (4, "resin-state", "ext4"),
        (5, "resin-data", "ext4"),
    ]
    assert all("files" in one.verdict for one in report.file_systems)
    assert [(one.service, one.image_id, one.starts_offline) for one in report.services] == [
        ("lights/service0", MAIN.image_id, True)
    ]
    assert lab.path.read_bytes() == before


def superblock(lab: Lab, label: str) -> int:
    return lab.partition(label).offset + 1024


def inode(lab: Lab, path: str) -> int:
    """Where the inode of *path* lies in the disk image."""
    said = run_tool("debugfs", "-R", f"imap {path}", f"{lab.path}?offset={lab.partition().offset}")
    found = re.search(r"at block (\d+), offset 0x([0-9a-f]+)", said)
    assert found is not None
    return lab.partition().offset + int(found[1]) * 4096 + int(found[2], 16)


def first_file(lab: Lab, name: str = "some/directory/file-7") -> str:
    for entry in run_tool(
        "debugfs", "-R", "ls -p docker/overlay2", f"{lab.path}?offset={lab.partition().offset}"
    ).splitlines():
        parts = entry.split("/")
        if len(parts) > 5 and len(parts[5]) == 64:
            return f"docker/overlay2/{parts[5]}/diff/{name}"
    raise AssertionError("no layer")


Damage = tuple[Callable[[Lab], None], set[tuple[str, int | None]]]
DAMAGES: dict[str, Damage] = {
    "the backup GPT's header": (
        lambda lab: lab.flip(lab.path.stat().st_size - 512 + 40),
        {("damaged-table-copy", None)},
    ),
    "the backup GPT's entries": (
        lambda lab: lab.flip(lab.path.stat().st_size - 33 * 512 + 60),
        {("damaged-table-copy", None)},
    ),
    "the primary GPT's header": (lambda lab: lab.flip(512 + 40), {("damaged-table-copy", None)}),
    "the primary GPT's entries": (lambda lab: lab.flip(1024 + 60), {("damaged-table-copy", None)}),
    "a superblock of another partition": (
        lambda lab: lab.flip(superblock(lab, "resin-state") + 0x30),
        {("damaged-superblock", 4), ("damaged-file-system", 4)},
    ),
    "the superblock of the data partition": (
        lambda lab: lab.flip(superblock(lab, "resin-data") + 0x30),
        {("damaged-superblock", 5), ("damaged-file-system", 5)},
    ),
    "a group descriptor": (
        lambda lab: lab.flip(lab.partition("resin-rootB").offset + 4096 + 0x0C),
        {("damaged-group-descriptor", 3), ("damaged-file-system", 3)},
    ),
    "an inode": (
        lambda lab: lab.flip(inode(lab, first_file(lab)) + 0x18),
        {("unreadable", 5), ("damaged-file-system", 5)},
    ),
    "a directory's checksum": (
        lambda lab: lab.flip_block_of(first_file(lab, "some/directory"), 4095),
        {("unreadable", 5), ("damaged-file-system", 5)},
    ),
    "a directory's entry": (
        lambda lab: lab.flip_block_of(first_file(lab, "some/directory"), 24 + 8),
        {("unreadable", 5), ("damaged-file-system", 5)},
    ),
    "a block bitmap": (
        lambda lab: lab.do("freeb 200 2", label="resin-rootA"),
        {("damaged-file-system", 2)},
    ),
    "an inode that nothing names": (
        lambda lab: lab.do("unlink /apps.json"),
        {("damaged-file-system", 5)},
    ),
    "a journal to be recovered": (
        lambda lab: lab.do("feature needs_recovery"),
        {("journal-needs-recovery", 5)},
    ),
    "a file system in which errors were met": (
        lambda lab: lab.do("ssv state 3", label="resin-state"),
        {("file-system-not-clean", 4)},
    ),
    "a FAT that was not unmounted": (
        lambda lab: lab.flip(lab.partition("resin-boot").offset + 0x25),
        {("damaged-fat", 1)},
    ),
    "a chain of a FAT": (
        lambda lab: lab.flip(lab.partition("resin-boot").offset + 4 * 512 + 4, 0x55),
        {("damaged-fat", 1)},
    ),
    "a flipped bit in a file": (
        lambda lab: lab.flip_block_of(first_file(lab), 0),
        {("changed-content", 5)},
    ),
    "apps.json that is not a JSON": (lambda lab: lab.put("apps.json", b"{nothing"), {("bad-apps-json", 5)}),
    "apps.json with a wrong type": (
        lambda lab: lab.put("apps.json", GOOD_APPS.replace(b'"environment": {}', b'"environment": []')),
        {("bad-apps-json", 5)},
    ),
    "apps.json of version 2 with a wrong type": (
        lambda lab: lab.put("apps.json", b'{"apps": {"1301645": {"name": "lights", "services": 5}}}'),
        {("bad-apps-json", 5)},
    ),
    "apps.json of version 1": (lambda lab: lab.put("apps.json", b'[{"appId": 7}]'), {("unchecked-apps-json", 5)}),
    "apps.json naming an image that is not there": (
        lambda lab: lab.put("apps.json", apps_json(f"registry.example/v2/none@{MAIN.digest}")),
        {("unresolved-reference", 5)},
    ),
    "apps.json naming another digest": (
        lambda lab: lab.put("apps.json", apps_json(f"{REPOSITORY}@{OTHER.digest}")),
        {("other-image", 5)},
    ),
    "no store": (
        lambda lab: lab.do("unlink docker", "mkdir docker"),
        {("no-store", 5), ("unresolved-reference", 5), ("damaged-file-system", 5)},
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_single_damage_is_found_in_its_partition(lab: Lab, name: str) -> None:
    do, expected = DAMAGES[name]
    do(lab)
    assert lab.told() == expected
    assert not lab.verify().sound


@pytest.mark.parametrize(
    ("version", "sound"), [(None, True), ("7.0.0", True), ("10.8.0", True), ("12.11.43", True), ("16.1.10", False)]
)
def test_version_2_is_checked_by_the_rules_of_its_supervisor(lab: Lab, version: str | None, sound: bool) -> None:
    # Supervisors before 12.11.15 take no service of the id 0.
    state = json.loads(GOOD_APPS.replace(b'"id": 0', b'"id": 7'))
    lab.put("apps.json", json.dumps(to_version_2(state)).encode())
    supervisor = None if version is None else RunningSupervisor(parse_supervisor_version(version), "a test")
    report = lab.verify(supervisor=supervisor)
    assert {one.code for one in report.findings} == (set() if sound else {"bad-apps-json"})
    assert [(one.service, one.starts_offline) for one in report.services] == [("lights/service0", sound)]


def test_the_device_starts_nothing_offline_if_one_image_is_missing(lab: Lab) -> None:
    apps = apps_json(f"{REPOSITORY}@{MAIN.digest}", f"registry.example/v2/none@sha256:{'1' * 64}")
    report = lab.verify(apps)
    assert [(one.code, one.path) for one in report.findings] == [
        ("unresolved-reference", b"docker/image/overlay2/repositories.json")
    ]
    assert [one.starts_offline for one in report.services] == [False, False]


def test_the_supervisor_finds_a_digest_that_it_has_noted_before(lab: Lab) -> None:
    apps = apps_json(f"{REPOSITORY}@{MAIN.digest}", f"registry.example/v2/moved@{MAIN.digest}")
    report = lab.verify(apps)
    assert report.findings == ()
    assert [one.image_id for one in report.services] == [MAIN.image_id] * 2


def test_apps_json_is_looked_for_where_the_supervisor_has_put_it(lab: Lab) -> None:
    lab.put("apps.json", b"{}")
    lab.put("apps.json.preloaded", apps_json("nothing.example/a"))
    assert lab.told() == {("unresolved-reference", 5)}
    lab.put("apps.json.preloaded", GOOD_APPS)
    assert lab.told() == set()


def test_missing_checkers_are_a_note(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "tool_path", lambda name: None)
    report = lab.verify()
    assert {(one.code, one.severity) for one in report.findings} == {("file-system-not-checked", Severity.NOTE)}
    assert {one.text for one in report.findings} == {"e2fsck is not installed", "fsck.vfat is not installed"}
    assert report.sound


def test_a_checker_that_hangs_is_stopped(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "e2fsck").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "e2fsck").chmod(0o755)
    monkeypatch.setattr(filesystem, "tool_path", lambda name: str(tmp_path / name))
    with FileDevice(lab.path) as device:
        (found,) = filesystem.check_file_system(device, timeout=0.2)
    assert (found.code, found.severity) == ("unfinished-check", Severity.WARNING)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The exit status, and what is said on standard output."""
    status = cli.main([str(one) for one in arguments], standalone_mode=False)
    assert isinstance(status, int)
    return status, capsys.readouterr().out


def test_the_command_tells_kinds_once_and_a_few_of_each(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "verify", lab.path)[0] == 0
    path = first_file(lab, "some/directory")
    lab.do(*(f"sif {path}/file-{number} mode 0100600" for number in range(12)))
    status, said = run(capsys, "verify", lab.path)
    assert status == 60
    assert said.count("permissions differ from the tar's [changed-mode] (12 times)") == 1
    assert said.count("/file-") == 5
    assert "and 7 more; -v shows all" in said
    assert "lights/service0  starts offline" in said
    assert max(len(line) for line in said.splitlines()) < 140
    assert run(capsys, "verify", "-v", lab.path)[1].count("/file-") == 12


def test_the_json_object_has_it_all(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run(capsys, "verify", lab.path, "--json")
    document: dict[str, Any] = json.loads(said)
    assert status == 0
    assert list(document) == [
        "sound",
        "layers",
        "tar_bytes",
        "disk_image",
        "file_systems",
        "images",
        "services",
        "findings",
    ]
    assert document["services"] == [
        {
            "service": "lights/service0",
            "reference": f"{REPOSITORY}@{MAIN.digest}",
            "image_id": MAIN.image_id,
            "starts_offline": True,
        }
    ]
    other = lab.path.with_suffix(".json")
    other.write_bytes(apps_json("nothing.example/a"))
    status, said = run(capsys, "verify", lab.path, "--json", "--apps-json", other)
    assert status == 60
    assert [(one["code"], one["partition"]) for one in json.loads(said)["findings"]] == [("unresolved-reference", 5)]
