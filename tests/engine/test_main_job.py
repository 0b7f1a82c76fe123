"""The whole job, judged by real parts: images from a real registry, preloaded, and a real engine that starts on the result.

The program runs as a user without any privilege; only the judges are root.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drypoint.samples.applications import sample_images
from drypoint.samples.disk_images import PartitionTable, build_disk_image
from drypoint.samples.images import registry_content
from drypoint.samples.registry import Faults, serve_registry
from tests.support.docker_engine import DockerEngine
from tests.support.engine_images import add_supervisor
from tests.support.mounts import mounted
from tests.support.unprivileged import NOBODY
from tests.support.userland import ALPHA, BETA, SUPERVISOR, SUPERVISOR_VERSION

from .conftest import ServedImages
from .judging import (
    LOCAL,
    base_with_supervisor,
    check_filesystem,
    data_partition,
    differences_from,
    digest_of_file,
    drypoint,
    drypoint_failing,
    verify_with_engine,
)

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "setpriv", "sfdisk")]


@pytest.mark.parametrize("table", list(PartitionTable), ids=lambda table: table.name)
def test_images_by_tag(workplace: Path, served: ServedImages, table: PartitionTable) -> None:
    base = base_with_supervisor(workplace, served, table)
    before = digest_of_file(base.path)
    out = workplace / "out.img"
    images = ["--image", served.by_tag(ALPHA), "--image", served.by_tag(BETA)]
    # docker save unpacks the image in the data root.
    said = drypoint(workplace, "preload", base.path, "-o", out, *images, "--additional-space", "400M")
    assert "grew from 64.0 MiB" in said
    assert digest_of_file(base.path) == before
    check_filesystem(out)

    reference = workplace / "reference"
    with DockerEngine(reference) as engine:
        add_supervisor(engine, served.by_digest(SUPERVISOR), SUPERVISOR_VERSION)
        engine.pull(served.by_tag(ALPHA))
        engine.pull(served.by_tag(BETA))
    assert differences_from(reference, out) == ""

    verify_with_engine(out, workplace, served, [ALPHA, BETA, SUPERVISOR], [ALPHA, BETA])


def test_services_of_an_apps_json(workplace: Path, served: ServedImages) -> None:
    base = base_with_supervisor(workplace, served, by_mke2fs=True)
    apps_json = workplace / "apps.json"
    apps_json.write_text(json.dumps(target_state(served.by_digest(ALPHA), served.by_digest(BETA)), indent=1))
    out = workplace / "out.img"
    drypoint(workplace, "preload", base.path, "-o", out, "--apps-json", apps_json, *LOCAL)
    check_filesystem(out)

    reference = workplace / "reference"
    with DockerEngine(reference) as engine:
        add_supervisor(engine, served.by_digest(SUPERVISOR), SUPERVISOR_VERSION)
        engine.pull(served.by_digest(ALPHA))
        engine.pull(served.by_digest(BETA))
    # mke2fs of this version drops the nanoseconds of what it copies: the Supervisor's layers, and nothing else.
    differences = differences_from(reference, out).splitlines()
    assert all("mtime" in line for line in differences)
    offset, size = data_partition(out)
    with mounted(out, offset=offset, size=size) as point:
        copied = point / "apps.json"
        assert copied.read_bytes() == apps_json.read_bytes()
        assert (copied.stat().st_uid, copied.stat().st_mode & 0o7777) == (0, 0o644)

    verify_with_engine(out, workplace, served, [ALPHA, BETA, SUPERVISOR], [])


def target_state(*images: str) -> dict[str, object]:
    """An apps.json of version 3 with a service for each image."""
    services = {
        f"service-{number}": {
            "id": 100 + number,
            "image_id": 200 + number,
            "image": image,
            "environment": {},
            "labels": {},
            "composition": {},
        }
        for number, image in enumerate(images)
    }
    release = {"id": 10, "services": services, "volumes": {}, "networks": {}}
    app = {"id": 1, "name": "app", "is_host": False, "class": "fleet", "releases": {"cafe" * 8: release}}
    return {"apps": {"beef" * 8: app}, "config": {"HOST_CONFIG:gpu_mem": "16"}, "pinDevice": False}


@pytest.mark.parametrize("spoil", ["missing image", "wrong blob", "no disk image", "not ext4", "no such partition"])
def test_bad_input_names_the_thing_and_leaves_nothing(workplace: Path, served: ServedImages, spoil: str) -> None:
    base = build_disk_image(workplace / "base.img").path
    image, expected, options = served.by_tag(ALPHA), "", []
    match spoil:
        case "missing image":
            image = served.by_tag("apps/gamma:9")
            expected = "apps/gamma"
        case "wrong blob":
            image = served.by_digest(ALPHA).replace(served.images[ALPHA].digest[-4:], "0000")
            expected = image[-64:]
        case "no disk image":
            base.write_bytes(b"no disk image" * 1000)
            expected = "base.img"
        case "not ext4":
            options = ["--data-partition", "resin-boot"]
            expected = "partition 1 holds FAT"
        case "no such partition":
            options = ["--data-partition", "nowhere"]
            expected = "'nowhere'"
    said = drypoint_failing(workplace, "preload", base, "-o", workplace / "out.img", "--image", image, *options)
    assert expected in said
    assert "Traceback" not in said
    assert sorted(path.name for path in workplace.iterdir()) == ["base.img"]


def test_a_full_disk_leaves_nothing(workplace: Path, served: ServedImages) -> None:
    base = build_disk_image(workplace / "base.img").path
    small = workplace / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=60m,uid={NOBODY}", "tmpfs", small], check=True)
    try:
        said = drypoint_failing(small, "preload", base, "-o", small / "out.img", "--image", served.by_tag(ALPHA))
        assert "is full" in said
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupt_leaves_nothing(workplace: Path, sent: signal.Signals) -> None:
    base = build_disk_image(workplace / "base.img").path
    program = Path(sys.executable).with_name("drypoint")
    # So slow that the job cannot be over before the signal comes.
    with serve_registry(registry_content(sample_images()), faults=Faults(bytes_per_second=200_000)) as registry:
        process = subprocess.Popen(
            [program, "preload", base, "-o", workplace / "out.img", "--image", f"{registry.host}/demo/weather:1.0"],
            text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            # The tests themselves may run in the background, where interrupts are ignored.
            preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL),
        )  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("fetching"):
                process.send_signal(sent)
                break
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + sent
    assert "nothing unfinished was left behind" in said
    assert [path.name for path in workplace.iterdir()] == ["base.img"]
