"""A fleet preloaded from Python: the README's example against a stand-in of the API server, and what it says besides."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.cloud import serve_cloud
from tests.support.cloud_fixtures import LIGHTS, QUICK, RUNNING, TOKEN, content
from tests.support.scripts import ROOT

import drypoint
from drypoint.balena.apps_json_images import AppsJsonImages
from drypoint.oci import Platform
from drypoint.progress import SILENT, Step
from drypoint.samples.applications import sample_images
from drypoint.samples.disk_images import IMAGE_TOOLS, RASPBERRY_PI_4, build_disk_image
from drypoint.samples.images import registry_content
from drypoint.samples.registry import serve_registry
from drypoint.stores import StoreContents

pytestmark = pytest.mark.needs(*IMAGE_TOOLS)

WEATHER, GATEWAY = "demo/weather", "demo/gateway"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and home of its own, without a login but the one that a test writes."""
    for name in os.environ:
        if name.startswith("BALENA"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def fleet(place: Path) -> Iterator[str]:
    """myorg/myfleet with one service on a server where the user is logged in; the name of the Supervisor's image."""
    images = sample_images(Platform("linux", "arm64"))
    with serve_registry(registry_content(images)) as registry:
        weather = replace(
            LIGHTS.releases[0].services[0],
            location=f"{registry.host}/{WEATHER}",
            content_hash=images[f"{WEATHER}:1.0"].digest,
        )
        given = content()
        release = replace(LIGHTS.releases[0], services=[weather])
        given.fleets = [replace(LIGHTS, slug="myorg/myfleet", releases=[release])]
        with serve_cloud(given) as cloud:
            (place / ".balena").mkdir()
            (place / ".balena/token").write_text(TOKEN)
            (place / ".balenarc.yml").write_text(f"apiUrl: {cloud.url}\n")
            yield f"{registry.host}/{GATEWAY}:1.0"


def example() -> str:
    blocks: list[str] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (found,) = (block for block in blocks if "BalenaRequest" in block)
    return found


class Notes:
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, what: str, total: int | None = None) -> Step:
        return SILENT.begin(what, total)

    def note(self, text: str) -> None:
        self.lines.append(text)


def test_the_readmes_fleet_is_preloaded(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_disk_image(place / "empty.img", device_type=RASPBERRY_PI_4)
    with fleet(place) as supervisor:
        # The base of the example has a Supervisor already.
        wanted = drypoint.BalenaRequest(supervisor_image=supervisor, supervisor_version="16.1.10")
        with drypoint.opened_image(place / "empty.img") as base:
            with drypoint.preload_request(wanted, base.device, QUICK) as found:
                assert found.first_boot is None
                drypoint.preload(base, place / "balena.img.zip", found.request)
        assert len(example().splitlines()) <= 10
        exec(compile(example(), "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert f"at release {RUNNING}" in said
    assert "registers and is pinned" in said
    assert "the Supervisor 16.1.10 reads apps.json" in said
    with drypoint.opened_image(place / "out.img.zst") as out:
        report = drypoint.verify(
            Path(out.device.name), partition="resin-data", data_root=b"docker", required_images=AppsJsonImages()
        )
    assert report.sound
    assert [service.starts_offline for service in report.services] == [True]


def test_the_file_is_saved_and_warnings_are_notes(place: Path) -> None:
    base = build_disk_image(place / "base.img", device_type=RASPBERRY_PI_4).path
    notes = Notes()
    with fleet(place), drypoint.opened_image(base) as opened:
        wanted = drypoint.BalenaRequest(
            fleets=("myorg/myfleet",),
            supervisor_version="16.1.10",
            boot=drypoint.BootRequest(settings=("apiEndpoint=http://api.example",)),
            save_apps_json=place / "saved.json",
        )
        with drypoint.preload_request(wanted, opened.device, QUICK, progress=notes) as found:
            plan = drypoint.plan(opened, found.request)
    assert [image.references[0].path for image in plan.images] == [WEATHER]
    (file,) = found.request.files
    assert json.loads((place / "saved.json").read_bytes()) == json.loads(file.content)
    warnings = [line for line in notes.lines if line.startswith("warning: ")]
    assert any("no Supervisor found on the disk image" in line for line in warnings)
    assert any("names the server (apiEndpoint) with http://" in line for line in warnings)
    assert any(line.startswith("myorg/myfleet at release") for line in notes.lines)


def test_a_fleet_for_another_processor_is_refused(place: Path) -> None:
    base = build_disk_image(place / "base.img").path
    with fleet(place), drypoint.opened_image(base) as opened:
        wanted = drypoint.BalenaRequest(fleets=("myorg/myfleet",), supervisor_version="16.1.10")
        with pytest.raises(drypoint.UsageError, match="aarch64"):
            with drypoint.preload_request(wanted, opened.device, QUICK):
                pass
        lenient = drypoint.BalenaRequest(
            fleets=("myorg/myfleet",), supervisor_version="16.1.10", check_architecture=False
        )
        with drypoint.preload_request(lenient, opened.device, QUICK) as found:
            assert found.request.check_images is None


def test_a_base_that_is_not_read_has_to_be_described(place: Path) -> None:
    said: list[str] = []
    unread = drypoint.UnreadBase("standard input")
    with fleet(place) as supervisor:
        with pytest.raises(drypoint.UsageError, match=r"standard input cannot be read .*give --platform"):
            with drypoint.preload_request(drypoint.BalenaRequest(images=(supervisor,)), unread, QUICK):
                pass
        arm = Platform("linux", "arm64")
        boot = drypoint.BootRequest(static_ip="10.0.0.1/24")
        with pytest.raises(drypoint.UsageError, match="its boot partition cannot be changed"):
            with drypoint.preload_request(drypoint.BalenaRequest(boot=boot, platform=arm), unread, QUICK):
                pass
        wanted = drypoint.BalenaRequest(
            fleets=("myorg/myfleet",), supervisor_image=supervisor, supervisor_version="16.1.10", platform=arm
        )
        with drypoint.preload_request(wanted, unread, QUICK, warn=said.append) as found:
            assert found.unseen
            assert len(found.request.images) == 2
        assert "what standard input holds is not known" in said[0]
        known = drypoint.UnreadBase("standard input", StoreContents(b"docker"))
        said.clear()
        with drypoint.preload_request(wanted, known, QUICK, warn=said.append) as found:
            assert not found.unseen
        assert said == [line for line in said if "not pinned" in line or "follows" in line]
