"""Preloading over a preload: once more the same, the next release beside the old one, and the next release in its place.

The reference is an engine that pulled both releases and was told ``docker rmi`` of what the next one does not name.
"""

from __future__ import annotations

import filecmp
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from drypoint.oci import parse_platform
from drypoint.samples.images import (
    BuiltImage,
    BuiltLayer,
    Compression,
    build_image,
    build_layer,
    registry_content,
)
from drypoint.samples.layers import LayerBuilder
from tests.support.docker_engine import DockerEngine
from tests.support.engine_images import add_supervisor
from tests.support.userland import SUPERVISOR, SUPERVISOR_VERSION

from .conftest import ServedImages
from .judging import (
    LOCAL,
    base_with_supervisor,
    check_filesystem,
    data_partition,
    differences_from,
    drypoint,
    mounted_data,
    verify_with_engine,
)

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "setpriv", "sfdisk")]

MIB = 1 << 20
ONE, TWO, ONE_NEXT = "fleet/one:1", "fleet/two:1", "fleet/one:2"
ORDER = (ONE, ONE_NEXT, TWO)
"""How the engine pulls: each pull moves the repository to the end of what is remembered of a layer. A preload leaves alone
what is there, so that doing it twice is doing it once.
"""


@dataclass(frozen=True, slots=True)
class Services:
    """The images of two releases on the registry: the first is ONE and TWO, the second ONE_NEXT and TWO."""

    images: Mapping[str, BuiltImage]
    references: Mapping[str, str]

    def apps_json(self, path: Path, *apps: Sequence[str]) -> Path:
        """An apps.json of version 3 with an app for each of *apps*, which are names of images."""
        state = {
            f"cafe{number:028x}": {
                "id": number,
                "name": f"app-{number}",
                "is_host": False,
                "class": "fleet",
                "releases": {
                    f"beef{number + 100:028x}": {
                        "id": number,
                        "services": self._services(names),
                        "volumes": {},
                        "networks": {},
                    }
                },
            }
            for number, names in enumerate(apps, 1)
        }
        path.write_text(json.dumps({"apps": state, "config": {}, "pinDevice": False}))
        return path

    def _services(self, names: Sequence[str]) -> dict[str, object]:
        return {
            f"service-{number}": {
                "id": number,
                "image_id": number,
                "image": self.references[name],
                "environment": {},
                "labels": {},
                "composition": {},
            }
            for number, name in enumerate(names, 1)
        }


@pytest.fixture(scope="module")
def services(served: ServedImages) -> Services:
    userland = served.images[SUPERVISOR].layers[0]
    common = build_layer(LayerBuilder().directory("opt", mode=0o711).file("opt/common", os.urandom(MIB)).finish())
    images = {name: _service([userland, common], name) for name in (ONE, TWO, ONE_NEXT)}
    served.registry.push(registry_content(images))
    references = {
        name: served.registry.reference(name.partition(":")[0], image.digest) for name, image in images.items()
    }
    return Services(images, references)


def _service(below: Sequence[BuiltLayer], name: str) -> BuiltImage:
    """It says what it is. Its own layer is large, and not compressed so that the room it takes is known beforehand."""
    own = LayerBuilder().file("say", f"echo {name}\n".encode()).file("opt/own", os.urandom(20 * MIB))
    layer = build_layer(own.hardlink("opt/linked", "opt/own").whiteout("opt/common").finish(), Compression.NONE)
    platform = parse_platform(os.uname().machine)
    return build_image([*below, layer], config={"Cmd": ["/bin/sh", "/say"]}, platform=platform)


def test_twice_is_once(workplace: Path, served: ServedImages, services: Services) -> None:
    base = base_with_supervisor(workplace, served)
    apps = services.apps_json(workplace / "apps.json", [ONE], [TWO])
    one, two, three = (workplace / f"{name}.img" for name in ("one", "two", "three"))
    options = ("--apps-json", apps, *LOCAL, "--additional-space", "30M")
    drypoint(workplace, "preload", base.path, "-o", one, *options)
    said = drypoint(workplace, "preload", one, "-o", two, *options, "--replace")
    assert "0 layers written" in said
    assert filecmp.cmp(one, two, shallow=False)
    plan = json.loads(drypoint(workplace, "plan", one, *options, "--json", "--quiet"))
    assert (plan["fetch_bytes"], [image["present"] for image in plan["images"]]) == (0, [True, True])
    # What the engine itself has pulled is there as well.
    with mounted_data(one, writable=True) as point, DockerEngine(point / "docker") as engine:
        engine.pull(services.references[ONE_NEXT])
    pulled = services.apps_json(workplace / "pulled.json", [ONE_NEXT])
    assert "0 layers written" in drypoint(workplace, "preload", one, "-o", three, "--apps-json", pulled, *LOCAL)


def test_both_releases_stay_without_replacing(workplace: Path, served: ServedImages, services: Services) -> None:
    base = base_with_supervisor(workplace, served)
    first = services.apps_json(workplace / "first.json", [ONE], [TWO])
    second = services.apps_json(workplace / "second.json", [ONE_NEXT], [TWO])
    one, two = workplace / "one.img", workplace / "two.img"
    drypoint(workplace, "preload", base.path, "-o", one, "--apps-json", first, *LOCAL)
    drypoint(workplace, "preload", one, "-o", two, "--apps-json", second, *LOCAL)
    check_filesystem(two)
    with DockerEngine(workplace / "reference") as engine:
        add_supervisor(engine, served.by_digest(SUPERVISOR), SUPERVISOR_VERSION)
        for name in ORDER:
            engine.pull(services.references[name])
    assert differences_from(workplace / "reference", two) == ""
    run_all(two, services, ONE, TWO, ONE_NEXT)


def run_all(image: Path, services: Services, *names: str) -> None:
    with mounted_data(image, writable=True) as point, DockerEngine(point / "docker", offline=True) as engine:
        for name in names:
            assert engine.run(services.references[name]) == f"{name}\n"
        assert engine.complaints() == ()


def test_replaced_release_goes_as_by_rmi(workplace: Path, served: ServedImages, services: Services) -> None:
    base = base_with_supervisor(workplace, served)
    first = services.apps_json(workplace / "first.json", [ONE, TWO])
    second = services.apps_json(workplace / "second.json", [ONE_NEXT], [TWO])
    one, two, beside = (workplace / f"{name}.img" for name in ("one", "two", "beside"))
    drypoint(workplace, "preload", base.path, "-o", one, "--apps-json", first, *LOCAL)
    # The device has booted: the Supervisor has taken the file.
    with mounted_data(one, writable=True) as point:
        (point / "apps.json").rename(point / "apps.json.preloaded")
        (point / "apps.json").write_text("{}\n")
    old = services.images[ONE]
    planned = json.loads(
        drypoint(workplace, "plan", one, "--apps-json", second, *LOCAL, "--replace", "--json", "--quiet")
    )
    assert planned["removal"]["images"] == [{"id": old.image_id, "references": [services.references[ONE]]}]
    assert len(planned["removal"]["layers"]) == 1
    said = drypoint(workplace, "preload", one, "-o", two, "--apps-json", second, *LOCAL, "--replace")
    assert f"replaced: {old.image_id[:19]} ({services.references[ONE]})" in said
    check_filesystem(two)
    with DockerEngine(workplace / "reference") as engine:
        add_supervisor(engine, served.by_digest(SUPERVISOR), SUPERVISOR_VERSION)
        for name in ORDER:
            engine.pull(services.references[name])
        engine.remove_image(services.references[ONE])
    assert differences_from(workplace / "reference", two) == ""
    run_all(two, services, ONE_NEXT, TWO)
    verify_with_engine(two, workplace, served, [SUPERVISOR], [])
    # The room of the old release is used for the new one.
    drypoint(workplace, "preload", one, "-o", beside, "--apps-json", second, *LOCAL)
    assert data_partition(two)[1] == data_partition(one)[1] < data_partition(beside)[1]


def test_image_of_a_container_is_not_replaced(workplace: Path, served: ServedImages, services: Services) -> None:
    base = base_with_supervisor(workplace, served)
    first = services.apps_json(workplace / "first.json", [ONE], [TWO])
    second = services.apps_json(workplace / "second.json", [ONE_NEXT])
    one, two = workplace / "one.img", workplace / "two.img"
    drypoint(workplace, "preload", base.path, "-o", one, "--apps-json", first, *LOCAL)
    with mounted_data(one, writable=True) as point, DockerEngine(point / "docker", offline=True) as engine:
        engine.docker("create", "--name=used", "--network=none", services.references[ONE])
        engine.tag(services.references[TWO], "mine:1")
    said = drypoint(workplace, "preload", one, "-o", two, "--apps-json", second, *LOCAL, "--replace")
    assert "a container was made from it" in said
    assert "it has another name, mine:1" in said
    with mounted_data(two, writable=True) as point, DockerEngine(point / "docker", offline=True) as engine:
        assert engine.docker("start", "--attach", "used") == f"{ONE}\n"
        assert engine.run("mine:1") == f"{TWO}\n"
        assert engine.run(services.references[ONE_NEXT]) == f"{ONE_NEXT}\n"
        assert engine.complaints() == ()
