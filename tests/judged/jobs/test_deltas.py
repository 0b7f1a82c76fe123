"""A delta that is given as an image is refused by name, wherever it comes from, before a layer of it is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from drypoint.cli.app import cli
from drypoint.errors import DrypointError
from drypoint.oci import parse_config
from drypoint.samples.disk_images import IMAGE_TOOLS, MIB, Sizes, build_disk_image
from drypoint.samples.images import (
    BuiltImage,
    build_image,
    build_layer,
    registry_content,
    write_docker_archive,
    write_oci_archive,
    write_oci_layout,
)
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.registry import serve_registry

pytestmark = pytest.mark.needs(*IMAGE_TOOLS, "e2fsck")

BASE_ID = f"sha256:{'b' * 64}"
TARGET = build_image([build_layer(LayerBuilder().file("release", b"2").finish())])


def delta(**labels: str) -> BuiltImage:
    layer = build_layer(LayerBuilder().file("delta", b"a patch").finish())
    return build_image([layer], config={"Labels": labels})


DELTA = delta(**{"io.resin.delta.base": BASE_ID, "io.resin.delta.config": TARGET.config.decode()})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = Sizes(boot=40 * MIB, root_a=8 * MIB, root_b=8 * MIB, state=8 * MIB, data=16 * MIB)
    return build_disk_image(tmp_path_factory.mktemp("base") / "base.img", sizes=sizes).path


@pytest.fixture(scope="module")
def filled(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base with the delta's target in its store."""
    directory = tmp_path_factory.mktemp("filled")
    write_oci_layout(directory / "layout", {"team/app:2": TARGET})
    done = run("preload", base, "-o", directory / "out.img", "--image", f"oci:{directory / 'layout'}")
    assert done[0] == 0, done[1]
    return directory / "out.img"


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, [*map(str, arguments), "--no-index"])
    if isinstance(done.exception, DrypointError):
        return done.exception.exit_code, str(done.exception)
    return done.exit_code, done.output


@pytest.fixture(params=["registry", "oci layout", "oci archive", "docker archive"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    match request.param:
        case "registry":
            with serve_registry(registry_content({"team/delta:1-2": DELTA})) as registry:
                yield f"{registry.host}/team/delta:1-2"
                assert registry.count(DELTA.layers[0].descriptor.digest) == 0
        case "oci layout":
            write_oci_layout(tmp_path / "layout", {"team/delta:1-2": DELTA})
            yield f"oci:{tmp_path / 'layout'}"
        case "oci archive":
            write_oci_archive(tmp_path / "oci.tar", {"team/delta:1-2": DELTA})
            yield f"oci-archive:{tmp_path / 'oci.tar'}"
        case _:
            write_docker_archive(tmp_path / "docker.tar", {"team/delta:1-2": DELTA})
            yield f"docker-archive:{tmp_path / 'docker.tar'}"


@pytest.mark.parametrize("command", ["preload", "plan", "pack"])
def test_a_delta_is_refused_by_name(base: Path, image: str, command: str, tmp_path: Path) -> None:
    output = () if command == "plan" else ("-o", tmp_path / "out")
    status, said = run(command, base, *output, "--image", image)
    assert status == 22, said
    assert "team/delta:1-2 is not an image but a delta of balenaEngine" in said
    assert f"which makes {TARGET.image_id} of the image {BASE_ID}. Give the image that it makes" in said
    assert not (tmp_path / "out").exists()


def test_a_delta_whose_target_is_in_the_store(filled: Path, image: str, tmp_path: Path) -> None:
    status, said = run("preload", filled, "-o", tmp_path / "out", "--image", image)
    assert status == 22, said
    assert (
        f"The store has {TARGET.image_id} already as team/app:2, team/app@{TARGET.digest}: leave the delta out" in said
    )


@pytest.mark.parametrize(
    ("labels", "is_delta"),
    [
        ({"io.resin.delta.base": BASE_ID}, True),
        ({"io.resin.delta.config": "{}"}, True),
        ({"io.resin.delta.base": ""}, True),
        ({"io.resin.delta": "1", "IO.RESIN.DELTA.BASE": BASE_ID}, False),
        ({}, False),
    ],
)
def test_the_labels_say_what_a_delta_is(labels: dict[str, str], is_delta: bool) -> None:
    assert (parse_config(delta(**labels).config, "x").delta is not None) == is_delta
