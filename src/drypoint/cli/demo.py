"""``drypoint demo``: the whole job on sample data.

The one command that uses :mod:`drypoint.samples`: it makes its own images, disk image and registry, with the builders that the
tests use.
"""

from __future__ import annotations

from pathlib import Path

import click

from .. import preload, verify_balena
from ..errors import VerificationError
from ..samples.demo import demo_registry, make_base
from . import render, report
from .verified import show_verification

_DEFAULT_DIRECTORY = Path("drypoint-demo")


@click.command("demo")
@click.argument("directory", type=click.Path(path_type=Path), default=_DEFAULT_DIRECTORY)
@render.output_options
def command(directory: Path, verbosity: render.Verbosity) -> None:
    """Make a sample disk image and two sample images, preload them, and verify the result.

    Needs no network and no root: files are in DIRECTORY (default: drypoint-demo), the registry is on loopback. The disk image
    has the layout of balenaOS for a Raspberry Pi 4 and stays in DIRECTORY.
    """
    files = make_base(directory)
    render.line(f"1. A disk image with the layout of balenaOS and an empty store: {files.base}")
    with demo_registry(files) as registry:
        render.line(f"2. A registry on {registry.host} serves two images; {files.apps_json} names both:")
        for reference in registry.references:
            render.line(f"     {reference}")
        render.line()
        render.line(
            f"3. drypoint preload {files.base} -o {files.out} --apps-json {files.apps_json} --allow-host {registry.host}"
        )
        with render.progress(quiet=verbosity.quiet) as progress:
            result = preload(files.base, files.out, registry.request, progress=progress)
    report.show_result(result)
    render.line()
    render.line(f"4. drypoint verify {files.out}")
    found = verify_balena(files.out)
    show_verification(found, verbosity)
    if not found.sound:
        raise VerificationError(f"{files.out} does not hold what was preloaded; see the findings above")
