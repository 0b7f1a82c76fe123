"""Fleets through the program, as a user types it: logged in by balena's own files, judged by a real engine.

The registry is the real one and checks the tokens that the stand-in for balena's API gives.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drypoint.balena.apps_json import ANY_VERSION, read_apps_json
from drypoint.samples.disk_images import build_disk_image
from drypoint.samples.images import write_oci_layout
from drypoint.samples.tools import run_tool
from tests.support.docker_engine import DockerEngine
from tests.support.flasher_images import build_flasher_image
from tests.support.mounts import mounted

from .cloud_server import (
    COMMIT,
    FLEET_UUID,
    LEEWAY,
    RELEASE_ID,
    SUPERVISOR_OUTPUT,
    TOKEN,
    CloudServer,
    cloud_server,
    config_json,
)
from .judging import LOCAL, OUTPUT, check_filesystem, digest_of_file, drypoint, drypoint_failing, mounted_data
from .test_flasher import root_of

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "sfdisk", "zstd")]

SERVICES = ("gateway", "weather")


@pytest.fixture
def cloud(workplace: Path) -> Iterator[CloudServer]:
    with cloud_server() as running:
        running.log_in(workplace)
        yield running


def base(directory: Path, name: str = "base.img") -> Path:
    """A balenaOS-like disk image whose store is empty."""
    path = directory / name
    build_disk_image(path)
    return path


def supervisor_image(directory: Path, version: str) -> str:
    """The way of the seed: VERSION and device-type.json beside the disk image say which Supervisor it is to have."""
    folder = directory / "in"
    folder.mkdir(exist_ok=True)
    (folder / "VERSION").write_text(version + "\n")
    (folder / "device-type.json").write_text('{"slug": "genericx86-64-ext", "arch": "amd64"}')
    return drypoint(directory, "supervisor-image", "--from", "in", "-q").strip()


def base_with(directory: Path, version: str) -> Path:
    """A disk image with a Supervisor of that version."""
    made = directory / f"with-{version}.img"
    drypoint(
        directory, "preload", base(directory), "-o", made, "--supervisor-image", supervisor_image(directory, version)
    )
    return made


def apps_json(image: Path) -> tuple[bytes, dict[str, Any]]:
    with mounted_data(image) as point:
        content = (point / "apps.json").read_bytes()
    state: dict[str, Any] = json.loads(content)
    return content, state


def check_version_3(cloud: CloudServer, content: bytes, *, pinned: bool) -> None:
    """By drypoint's own checks, and by hand: the fields that the Supervisor's types demand, and what a device would do."""
    assert len(read_apps_json(content, "apps.json").services) == len(SERVICES)
    state = json.loads(content)
    assert set(state) == {"apps", "config", "pinDevice"}
    assert state["pinDevice"] is pinned
    assert all(isinstance(value, str) for value in state["config"].values())
    (app,) = [state["apps"][FLEET_UUID]]
    assert set(state["apps"]) == {FLEET_UUID}
    assert (app["id"], app["name"], app["class"], app["is_host"]) == (1, "lights", "fleet", False)
    assert set(app["releases"]) == {COMMIT}
    release = app["releases"][COMMIT]
    assert release["id"] == RELEASE_ID
    assert (release["volumes"], release["networks"]) == ({"data": {}}, {})
    assert set(release["services"]) == set(SERVICES)
    for name, service in release["services"].items():
        assert service["image"] == cloud.reference(name)
        assert isinstance(service["id"], int)
        assert isinstance(service["image_id"], int)
        assert service["environment"] == {"WHO": f"demo/{name}:1.0"}
        assert service["labels"] == {"io.balena.features.dbus": "1"}
        assert service["composition"] == {"restart": "always"}


def run_offline(image: Path, references: dict[str, str], *, also: dict[str, str] | None = None) -> None:
    """A real engine runs the services by *references*, without a network, and others by their names."""
    check_filesystem(image)
    with mounted_data(image, writable=True) as point, DockerEngine(point / "docker", offline=True) as engine:
        for name, reference in references.items():
            assert engine.run(reference) == OUTPUT[f"demo/{name}:1.0"]
        for name, said in (also or {}).items():
            assert engine.run(name) == said
        assert engine.complaints() == ()


def check_secrets(directory: Path, said: str, cloud: CloudServer, *, less: tuple[str, ...] = ()) -> None:
    """No token of this login, nor of the registry, is in *said* or any file but the login's own."""
    secrets = [TOKEN, *cloud.server.tokens]
    assert cloud.server.tokens
    # A token's last part is its signature, which nothing may show either.
    parts = [part.encode() for secret in secrets for part in (secret, secret.rpartition(".")[2])]
    assert not any(part.decode() in said for part in parts)
    for path in directory.rglob("*"):
        if path.is_file() and path.name != "token" and path.name not in less:
            found = subprocess.run(
                ["grep", "-qFaf", "-", str(path)], input=b"\n".join(parts), check=False
            ).returncode  # fmt: skip
            assert found == 1, f"a token is in {path}"


def test_from_a_login_to_services_that_run_offline(cloud: CloudServer, workplace: Path) -> None:
    plain = base_with(workplace, "v16.1.10")
    run_tool("zip", "-q", "-j", workplace / "balena.img.zip", plain)
    (workplace / "config.json").write_bytes(config_json(cloud.server))
    cloud.server.tokens.clear()
    cloud.server.requests.clear()
    said = drypoint(
        workplace, "preload", "balena.img.zip", "-o", "out.img.zst", "--fleet", "myorg/lights", "--commit", "current",
        "--pin-device-to-release", "--config", "config.json", "-v", "-v",
    )  # fmt: skip
    assert len(cloud.server.tokens) == 1, "one token for all images"
    assert {request.authorization for request in cloud.server.requests} == {f"Bearer {TOKEN}"}
    assert f"lights at release {COMMIT}:" in said
    assert "online, it registers and is pinned" in said
    for name in SERVICES:
        assert cloud.images[f"demo/{name}:1.0"].image_id.removeprefix("sha256:")[:12] in said

    run_tool("zstd", "-dq", workplace / "out.img.zst", "-o", workplace / "out.img")
    check_secrets(workplace, said, cloud)
    content, _ = apps_json(workplace / "out.img")
    check_version_3(cloud, content, pinned=True)
    references = {name: cloud.reference(name) for name in SERVICES}
    run_offline(workplace / "out.img", references, also={"balena_supervisor:v16.1.10": SUPERVISOR_OUTPUT})


def test_the_judge_of_secrets_finds_one(cloud: CloudServer, workplace: Path) -> None:
    cloud.server.tokens.append("head.body.signature")
    check_secrets(workplace, "nothing", cloud)
    (workplace / "left").write_bytes(b"\0\xff" + TOKEN.encode())
    with pytest.raises(AssertionError, match="left"):
        check_secrets(workplace, "nothing", cloud)
    with pytest.raises(AssertionError):
        check_secrets(workplace, "signature", cloud)


@pytest.mark.parametrize(
    ("version", "expected"), [("v12.11.43", 2), ("v13.0.0", 3), ("v13.1.6", 3)], ids=lambda value: str(value)
)
def test_each_supervisor_gets_the_file_that_it_reads(
    cloud: CloudServer, workplace: Path, version: str, expected: int
) -> None:
    out = workplace / "out.img"
    drypoint(workplace, "preload", base_with(workplace, version), "-o", out, "--fleet", "myorg/lights")
    content, state = apps_json(out)
    if expected == 3:
        check_version_3(cloud, content, pinned=False)
    else:
        assert len(read_apps_json(content, "apps.json", ANY_VERSION).services) == len(SERVICES)
        app = state["apps"]["1"]
        assert (app["name"], app["commit"], app["releaseId"]) == ("lights", COMMIT, RELEASE_ID)
        services = {service["serviceName"]: service for service in app["services"].values()}
        assert {name: service["image"] for name, service in services.items()} == {
            name: cloud.reference(name) for name in SERVICES
        }
        assert all(service["restart"] == "always" for service in services.values())
    run_offline(
        out,
        {name: cloud.reference(name) for name in SERVICES},
        also={f"balena_supervisor:{version}": SUPERVISOR_OUTPUT},
    )


def test_a_base_without_a_supervisor(cloud: CloudServer, workplace: Path) -> None:
    plain, out = base(workplace), workplace / "out.img"
    said = drypoint_failing(workplace, "preload", plain, "-o", out, "--fleet", "myorg/lights")
    assert "--supervisor-version" in said
    assert not out.exists()
    said = drypoint(
        workplace, "preload", plain, "-o", out, "--fleet", "myorg/lights", "--supervisor-version", "12.11.43"
    )
    assert "no Supervisor found on the disk image" in said
    assert "1" in apps_json(out)[1]["apps"]
    # Way C: both at once.
    image = supervisor_image(workplace, "16.1.10")
    drypoint(
        workplace, "preload", plain, "-o", out, "--overwrite", "--fleet", "myorg/lights", "--supervisor-image", image
    )
    check_version_3(cloud, apps_json(out)[0], pinned=False)
    references = {name: cloud.reference(name) for name in SERVICES}
    run_offline(out, references, also={"balena_supervisor:v16.1.10": SUPERVISOR_OUTPUT})


@pytest.mark.parametrize("version", ["v16.1.10", "v12.11.43"])
def test_a_flasher_is_told_the_release(cloud: CloudServer, workplace: Path, version: str) -> None:
    inner = base_with(workplace, version)
    flasher = build_flasher_image(workplace / "flasher.img", inner)
    out = workplace / "out.img"
    said = drypoint(
        workplace, "preload", flasher.disk.path, "-o", out, "--fleet", "myorg/lights", "--pin-device-to-release"
    )
    assert "First it installs" in said
    offset, size = root_of(out)
    installed = workplace / "installed.img"
    with mounted(out, offset=offset, size=size) as point:
        assert (point / "etc/resin-device-pinning.conf").read_text() == f"RELEASE_ID={RELEASE_ID}"
        run_tool("dd", f"if={point / flasher.path}", f"of={installed}", "bs=4M", "conv=sparse", "status=none")
    assert apps_json(installed)[1]["pinDevice"] is True
    run_offline(installed, {name: cloud.reference(name) for name in SERVICES})


def test_pack_and_inject_make_what_preload_makes(cloud: CloudServer, workplace: Path) -> None:
    plain = base_with(workplace, "v16.1.10")
    wanted = ("--fleet", "myorg/lights", "--pin-device-to-release")
    drypoint(workplace, "preload", plain, "-o", "preloaded.img", *wanted)
    packed = drypoint(workplace, "pack", plain, "-o", "out.etch", *wanted)
    assert f"lights at release {COMMIT}:" in packed
    drypoint(workplace, "inject", "out.etch", "injected.img")
    assert digest_of_file(workplace / "preloaded.img") == digest_of_file(workplace / "injected.img")
    # A base that is only passed on: what it holds, the Supervisor too, was written down before.
    drypoint(workplace, "inspect", plain, "--base-manifest", "base.manifest")
    run_tool("gzip", "-k1", plain)
    passed = ("pack", f"{plain}.gz", "-o", "passed.etch", "--platform", "linux/amd64", *wanted)
    assert "give --base-manifest FILE" in drypoint_failing(workplace, *passed)
    drypoint(workplace, *passed, "--base-manifest", "base.manifest")
    drypoint(workplace, "inject", "passed.etch", "passed.img")
    assert digest_of_file(workplace / "passed.img") == digest_of_file(workplace / "preloaded.img")
    planned = drypoint(workplace, "plan", plain, *wanted)
    assert "to fetch" in planned
    check_secrets(workplace, packed + planned, cloud)


def test_what_was_saved_serves_without_the_server(workplace: Path) -> None:
    with cloud_server(open_to_all=True) as cloud:
        cloud.log_in(workplace)
        plain = base_with(workplace, "v16.1.10")
        drypoint(
            workplace, "preload", plain, "-o", "asked.img", "--fleet", "myorg/lights", "--save-apps-json", "apps.json"
        )
        shutil.rmtree(workplace / ".balena")
        (workplace / ".balenarc.yml").unlink()
        asked = len(cloud.server.requests)
        drypoint(workplace, "preload", plain, "-o", "saved.img", "--apps-json", "apps.json", *LOCAL)
        assert len(cloud.server.requests) == asked
        assert digest_of_file(workplace / "asked.img") == digest_of_file(workplace / "saved.img")
        images = {name: image for name, image in cloud.images.items() if "demo/" in name}
        references = {name: cloud.reference(name) for name in SERVICES}
    # Nobody is left to ask: neither a server nor a registry.
    write_oci_layout(workplace / "layout", {name.partition("/")[2].partition(":")[0]: i for name, i in images.items()})
    drypoint(workplace, "preload", plain, "-o", "alone.img", "--apps-json", "apps.json", "--image", "oci:layout")
    run_offline(workplace / "alone.img", references)


def test_tokens_are_renewed_while_a_layer_is_fetched(workplace: Path) -> None:
    """The line cuts off each answer after a while; the token has lapsed by then, and the registry wants another."""
    with cloud_server(relayed=True) as cloud:
        cloud.log_in(workplace)
        plain = base(workplace)
        cloud.server.faults.token_seconds = 2.0
        cloud.server.faults.token_age = LEEWAY
        said = drypoint(
            workplace, "preload", plain, "-o", "out.img", "--fleet", "myorg/lights", "--supervisor-version", "16.1.10",
            "-v", "-v",
        )  # fmt: skip
        assert len(cloud.server.tokens) >= 2
        check_secrets(workplace, said, cloud)
        refused = len(re.findall(r"http\.response\.status=401", cloud.registry.log()))
        assert refused <= 2 * len(cloud.server.tokens)
        run_offline(workplace / "out.img", {name: cloud.reference(name) for name in SERVICES})
