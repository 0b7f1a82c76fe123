"""``drypoint demo``: the whole job on sample data.

The one command that uses :mod:`drypoint.samples`: it makes its own images, disk image and registry, with the builders that the
tests use.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..balena.apps_json_images import AppsJsonImages
from ..errors import OutputError, VerificationError
from ..fstree.extra_file import ExtraFile
from ..jobs.preload import preload
from ..jobs.request import ImageRequest, PreloadRequest
from ..oci import Platform, parse_reference
from ..samples.applications import sample_images
from ..samples.disk_images import EPOCH, RASPBERRY_PI_4, build_disk_image
from ..samples.images import registry_content
from ..samples.registry import serve_registry
from ..sources.registry import RegistryOptions, RegistrySource, StaticCredentials
from ..verification import verify
from ..volumes.target import DEFAULT_DATA_ROOT, DEFAULT_PARTITION
from . import render, report
from .verified import show_verification

_PLATFORM = Platform("linux", "arm64")
_DEFAULT_DIRECTORY = Path("drypoint-demo")
_FILES = ("base.img", "apps.json", "preloaded.img")


@click.command("demo")
@click.argument("directory", type=click.Path(path_type=Path), default=_DEFAULT_DIRECTORY)
@render.output_options
def command(directory: Path, quiet: bool, verbose: int) -> None:
    """Make a sample disk image and two sample images, preload them, and verify the result.

    Needs no network and no root: files are in DIRECTORY (default: drypoint-demo), the registry is on loopback. The disk image
    has the layout of balenaOS for a Raspberry Pi 4 and stays in DIRECTORY.
    """
    render.set_up(verbose)
    base, apps_json, out = (directory / name for name in _FILES)
    _prepare(directory)
    render.line(f"1. A disk image with the layout of balenaOS and an empty store: {base}")
    build_disk_image(base, device_type=RASPBERRY_PI_4)
    images = sample_images(_PLATFORM)
    with serve_registry(registry_content(images)) as registry:
        references = [f"{registry.host}/{name.partition(':')[0]}@{image.digest}" for name, image in images.items()]
        apps_json.write_text(json.dumps(_target_state(references), indent=2))
        render.line(f"2. A registry on {registry.host} serves two images; {apps_json} names both:")
        for reference in references:
            render.line(f"     {reference}")
        render.line()
        render.line(f"3. drypoint preload {base} -o {out} --apps-json {apps_json} --allow-host {registry.host}")
        options = RegistryOptions(credentials=StaticCredentials({}), environment={})
        with render.progress(quiet=quiet) as progress, RegistrySource(options) as source:
            result = preload(
                base,
                out,
                PreloadRequest(
                    [ImageRequest(parse_reference(reference), source) for reference in references],
                    _PLATFORM,
                    files=(ExtraFile(b"apps.json", apps_json.read_bytes()),),
                    timestamp=EPOCH,
                ),
                progress=progress,
            )
    report.show_result(result)
    render.line()
    render.line(f"4. drypoint verify {out}")
    verification = verify(
        out,
        partition=DEFAULT_PARTITION,
        data_root=DEFAULT_DATA_ROOT,
        required_images=AppsJsonImages(),
    )
    show_verification(verification, quiet=quiet, verbose=verbose > 0)
    if not verification.sound:
        raise VerificationError(f"{out} does not hold what was preloaded; see the findings above")


def _prepare(directory: Path) -> None:
    """An empty directory; one that holds more than an earlier demo's files is not touched."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in directory.iterdir() if path.name not in _FILES)
        if others:
            raise OutputError(
                f"{directory} holds {others[0]!r}, which is not a file of the demo; choose another directory"
            )
        for name in _FILES:
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {directory}: {error.strerror}") from error


def _target_state(references: list[str]) -> dict[str, object]:
    services = {
        reference.rpartition("/")[2].partition("@")[0]: {
            "id": number,
            "image_id": number,
            "image": reference,
            "environment": {},
            "labels": {},
            "composition": {},
        }
        for number, reference in enumerate(references, 1)
    }
    release = {"id": 1, "services": services, "volumes": {}, "networks": {}}
    app = {"id": 1, "name": "demo", "is_host": False, "class": "fleet", "releases": {"cafe" * 8: release}}
    return {"apps": {"beef" * 8: app}, "config": {}, "pinDevice": False}
