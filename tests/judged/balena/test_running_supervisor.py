"""Which Supervisor a device starts with (supervisor.conf, then the store), and what is refused for it."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.cloud import serve_cloud
from tests.support.cloud_fixtures import DEVICE, LIGHTS, TOKEN, service
from tests.support.cloud_fixtures import content as cloud_content
from tests.support.flasher_images import build_flasher_image
from tests.support.stores import fill_store

from drypoint.balena.inspecting import inspect
from drypoint.balena.os_root import SupervisorConf, read_supervisor_conf
from drypoint.balena.running_supervisor import find_supervisor, supervisor_by
from drypoint.balena.supervisor_version import SupervisorVersion
from drypoint.cli.app import cli
from drypoint.disk import FileDevice, Window
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.errors import ImageNotFoundError, UsageError
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, DiskImage, Sizes, build_disk_image
from drypoint.samples.images import BuiltImage, build_image, build_layer
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.registry import RegistryContent, serve_registry
from drypoint.samples.tools import run_tool

SMALL = Sizes(boot=8 * MIB, root_a=8 * MIB, root_b=8 * MIB, state=8 * MIB, data=40 * MIB)
PLACE = "/etc/balena-supervisor/supervisor.conf in resin-rootA"
DIGEST = "sha256:" + "ab" * 32
NAMED = f"registry2.balena-cloud.com/v2/abc@{DIGEST}"
ID, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
LAYER = build_layer(LayerBuilder().file("app", b"supervisor").finish())


def config(version: str) -> bytes:
    return json.dumps({"config": {"Env": [f"VERSION={version}"]}}).encode()


TAGS = {"balena_supervisor": {"balena_supervisor:v14.2.10": ID, "balena_supervisor:v19.0.5": OTHER}}
STORED = {**TAGS, "registry2.balena-cloud.com/v2/abc": {NAMED: ID}}


@pytest.mark.parametrize(
    ("conf", "repositories", "expected", "note"),
    [
        (("", "v14.2.10"), {}, "14.2.10", ""),
        ((NAMED, "v14.2.10"), TAGS, "14.2.10", "has the Supervisor 19.0.5, but"),
        ((NAMED, ""), STORED, "14.2.10", "has the Supervisor 19.0.5, but"),
        ((NAMED, "v13.0.0"), STORED, "14.2.10", "says 13.0.0, but the image that it names is 14.2.10"),
        (("balena_supervisor:v19.0.5", "v19.0.5"), STORED, "19.0.5", ""),
        (("not an image", "v12.0.0"), TAGS, "12.0.0", "has the Supervisor 19.0.5, but"),
        ((NAMED, "latest"), TAGS, "19.0.5", ""),
        (None, TAGS, "19.0.5", ""),
    ],
)
def test_what_supervisor_conf_names_is_what_starts(
    conf: tuple[str, str] | None, repositories: dict[str, dict[str, str]], expected: str, note: str
) -> None:
    found = supervisor_by(None if conf is None else SupervisorConf(PLACE, *conf), repositories)
    assert found is not None
    assert str(found.version) == expected
    assert note in found.note
    assert bool(note) == bool(found.note)


def test_the_image_that_is_named_says_its_version_itself() -> None:
    conf = SupervisorConf(PLACE, NAMED, "")
    repositories = {"registry2.balena-cloud.com/v2/abc": {NAMED: ID}}
    assert supervisor_by(conf, repositories) is None
    found = supervisor_by(conf, repositories, {ID: config("v16.1.10")})
    assert found is not None
    assert (str(found.version), found.said_by) == ("16.1.10", PLACE)
    assert supervisor_by(None, {}) is None


def put(image: DiskImage, label: str, tmp_path: Path, files: dict[str, bytes]) -> None:
    """Write *files* into the file system *label*, with debugfs."""
    directories = dict.fromkeys(
        "/".join(name.split("/")[:depth]) for name in files for depth in range(1, name.count("/") + 1)
    )
    commands = [f"mkdir /{directory}" for directory in directories]
    for number, (name, content) in enumerate(files.items()):
        (tmp_path / f"put-{number}").write_bytes(content)
        commands += [f"rm /{name}", f"write {tmp_path / f'put-{number}'} /{name}"]
    at = f"{image.path}?offset={image.partition(label).offset}"
    run_tool("debugfs", "-w", "-f", "-", at, script="\n".join(commands) + "\n")


def supervisor(**of: object) -> BuiltImage:
    return build_image([LAYER], config=of)


def conf_of(image: str, version: str) -> bytes:
    return f"# last known\nSUPERVISOR_IMAGE={image}\nSUPERVISOR_VERSION={version}\nLED_FILE=/dev/null\n".encode()


@pytest.fixture
def disk(tmp_path: Path) -> DiskImage:
    """A balenaOS whose root file system starts 14.2.10, while its store's tag says 19.0.5."""
    image = build_disk_image(tmp_path / "disk.img", sizes=SMALL)
    window = image.partition("resin-data")
    with FileDevice(image.path, writable=True) as device:
        fill_store(Window(device, window.offset, window.size), b"docker", {"balena_supervisor:v19.0.5": supervisor()})
    hostapp = "docker/overlay2/bb/diff/etc/balena-supervisor/supervisor.conf"
    put(image, "resin-rootA", tmp_path, {"docker/overlay2/bb/lower": b"l/AA", hostapp: conf_of(NAMED, "v14.2.10")})
    return image


def apps_json(**service: object) -> bytes:
    own = {"id": 1, "image_id": 1, "image": "a/b:1", "environment": {}, "labels": {}, **service}
    release = {"id": 1, "services": {"main": own}}
    app = {"id": 1, "name": "lights", "releases": {"deadbeef": release}}
    return json.dumps({"apps": {"beef": app}, "config": {}}).encode()


WITH_LABEL = apps_json(labels={"under_score": "x"})


@pytest.mark.needs(*IMAGE_TOOLS)
class TestOnDiskImages:
    def test_the_hostapp_s_own_file_goes_before_the_store_s_tags(self, disk: DiskImage) -> None:
        window = disk.partition("resin-data")
        with FileDevice(disk.path) as device:
            conf = read_supervisor_conf(device)
            reader = Ext4Reader(Window(device, window.offset, window.size))
            found = find_supervisor(device, reader, b"docker")
        assert conf == SupervisorConf(PLACE, NAMED, "v14.2.10")
        assert found is not None
        assert (found.version, found.said_by) == (SupervisorVersion(14, 2, 10), PLACE)
        assert found.note == f"the engine's store has the Supervisor 19.0.5, but {PLACE} starts 14.2.10"

    def test_before_2022_the_tag_is_written_beside_the_image(self, tmp_path: Path) -> None:
        image = build_disk_image(tmp_path / "disk.img", sizes=SMALL)
        old = b'SUPERVISOR_IMAGE="balena/armv7hf-supervisor"\nSUPERVISOR_TAG=v12.5.10\n'
        put(image, "resin-rootA", tmp_path, {"etc/resin-supervisor/supervisor.conf": old})
        with FileDevice(image.path) as device:
            assert read_supervisor_conf(device) == SupervisorConf(
                "/etc/resin-supervisor/supervisor.conf in resin-rootA", "balena/armv7hf-supervisor:v12.5.10", "v12.5.10"
            )

    def test_preload_and_plan_refuse_before_anything_is_fetched(self, disk: DiskImage, tmp_path: Path) -> None:
        (tmp_path / "apps.json").write_bytes(WITH_LABEL)
        before = disk.path.read_bytes()
        for command in (["preload", "-o", str(tmp_path / "out.img")], ["plan"]):
            # The image's registry would not answer.
            done = CliRunner().invoke(cli, [*command, str(disk.path), "--apps-json", str(tmp_path / "apps.json"), "-q"])
            assert isinstance(done.exception, UsageError)
            said = str(done.exception)
            assert f"the disk image's Supervisor 14.2.10 ({PLACE}) would ignore" in said
            assert "labels.under_score: the name may hold letters, digits, dots and dashes" in said
            assert "The Supervisor 14.2.11 accepts it unchanged" in said
        assert not (tmp_path / "out.img").exists()
        assert disk.path.read_bytes() == before

    def refused(self, out: Path, *arguments: str) -> None:
        """Each command that fetches images refuses; the registry that they are in would not answer."""
        for command in (["preload", "-o", str(out)], ["plan"], ["pack", "-o", str(out)]):
            done = CliRunner().invoke(cli, [*command, *arguments, "-q"])
            assert isinstance(done.exception, UsageError), (command, done.output)
            said = str(done.exception)
            assert f"the disk image's Supervisor 14.2.10 ({PLACE})" in said
            assert "labels.under_score: the name may hold letters, digits, dots and dashes" in said
            assert not out.exists()

    def test_pack_refuses_before_anything_is_fetched(self, disk: DiskImage, tmp_path: Path) -> None:
        (tmp_path / "apps.json").write_bytes(WITH_LABEL)
        self.refused(tmp_path / "out", str(disk.path), "--apps-json", str(tmp_path / "apps.json"))

    def test_a_fleet_and_a_device_are_refused_before_anything_is_fetched(self, disk: DiskImage, tmp_path: Path) -> None:
        services = [replace(service("main", 1), labels={"under_score": "x"})]
        fleet = replace(LIGHTS, releases=[replace(LIGHTS.releases[0], services=services)])
        given = cloud_content()
        given.fleets = [fleet]
        given.devices = [replace(DEVICE, system=())]
        with serve_cloud(given) as cloud:
            who = ("--token", TOKEN, "--api-url", cloud.url)
            self.refused(tmp_path / "out", str(disk.path), "--fleet", "myorg/lights", "--dont-check-arch", *who)
            self.refused(tmp_path / "out", str(disk.path), "--device", DEVICE.uuid, "--dont-check-arch", *who)
            assert cloud.tokens == []

    def test_the_disk_image_inside_a_flasher_decides(self, disk: DiskImage, tmp_path: Path) -> None:
        (tmp_path / "apps.json").write_bytes(WITH_LABEL)
        # The flasher's own Supervisor does not read apps.json.
        beside = {"etc/balena-supervisor/supervisor.conf": conf_of(NAMED, "v19.0.5")}
        flasher = build_flasher_image(tmp_path / "flasher.img", disk.path, beside=beside)
        self.refused(tmp_path / "out", str(flasher.disk.path), "--apps-json", str(tmp_path / "apps.json"))

    def test_each_warning_is_shown_once(self, disk: DiskImage, tmp_path: Path) -> None:
        given = json.loads(apps_json(running=False))
        given["apps"]["beef"]["class"] = "block"
        (tmp_path / "config.json").write_text('{"apiEndpoint": "http://api.lan.example"}')
        with serve_registry(RegistryContent()) as registry:
            service = given["apps"]["beef"]["releases"]["deadbeef"]["services"]["main"]
            service["image"] = f"{registry.host}/a/b:1"
            (tmp_path / "apps.json").write_text(json.dumps({**given, "pinDevice": True}))
            arguments = ["--apps-json", str(tmp_path / "apps.json"), "--config", str(tmp_path / "config.json")]
            arguments += ["--allow-host", registry.host]
            done = CliRunner().invoke(cli, ["plan", str(disk.path), *arguments])
        assert isinstance(done.exception, ImageNotFoundError)
        for text in ("running is false", "will not be pinned", "apiEndpoint"):
            assert done.output.count(text) == 1
        assert "pins the device" not in done.output

    def test_verify_and_inspect_find_it_on_a_finished_disk_image(self, disk: DiskImage, tmp_path: Path) -> None:
        put(disk, "resin-data", tmp_path, {"apps.json": WITH_LABEL})
        done = CliRunner().invoke(cli, ["verify", str(disk.path), "--json"])
        findings = {one["code"]: one["text"] for one in json.loads(done.output)["findings"]}
        assert "Supervisor 14.2.10" in findings["bad-apps-json"]
        found = inspect(disk.path)
        assert found.apps is not None
        assert any("under_score" in note for note in found.apps.notes)
        assert [service.name for service in found.apps.services] == ["main"]
        with_later = CliRunner().invoke(cli, ["verify", str(disk.path), "--json", "--supervisor-version", "14.2.11"])
        assert "bad-apps-json" not in with_later.output

    def test_inject_refuses_it_before_it_is_written(self, disk: DiskImage, tmp_path: Path) -> None:
        def archive(apps: bytes) -> str:
            path = tmp_path / "by-hand.tar"
            with tarfile.open(path, "w") as tar:
                tar.add(disk.path, "balena.img")
                member = tarfile.TarInfo(f"inject/{disk.partition('resin-data').number}/apps.json")
                member.size = len(apps)
                tar.addfile(member, io.BytesIO(apps))
            return str(path)

        out = tmp_path / "out.img"
        refused = CliRunner().invoke(cli, ["inject", "-q", archive(WITH_LABEL), str(out)])
        assert isinstance(refused.exception, UsageError)
        said = str(refused.exception)
        assert said.startswith("the disk image's Supervisor 14.2.10")
        assert "would ignore the archive's apps.json:" in said
        assert not out.exists()
        arguments = ["inject", "-q", "--no-verify", "--overwrite-files", archive(WITH_LABEL), str(out)]
        assert CliRunner().invoke(cli, [*arguments, "--supervisor-version", "19.0.5"]).exit_code == 0
        damaged = CliRunner().invoke(cli, ["inject", "-q", archive(b"[1]"), str(tmp_path / "x.img")])
        assert isinstance(damaged.exception, UsageError)
