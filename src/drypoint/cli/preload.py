"""``drypoint preload``: images into a disk image."""

from __future__ import annotations

from pathlib import Path

import click

from .. import preloading
from ..errors import UsageError
from . import render, report
from .options import Inputs, input_options, job

_EXAMPLES = """\b
Examples:
  drypoint preload balena.img -o preloaded.img --apps-json apps.json
  drypoint preload balena.img -o preloaded.img --image alpine:3.20 --image ghcr.io/org/app:1.4
  drypoint preload base.img -o out.img --image docker-archive:app.tar
  drypoint preload pios.img -o out.img --image alpine --data-partition rootfs --data-root /var/lib/docker
"""


@click.command("preload", epilog=_EXAMPLES)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="OUT", help="The disk image to make."
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--no-verify", is_flag=True, help="Do not read back and prove what was written.")
@input_options
@render.output_options
def command(
    inputs: Inputs,
    output: Path,
    overwrite: bool,
    no_verify: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Make OUT, a copy of the disk image BASE whose engine finds the images in its store.

    BASE is only read. What was written is read back and proved. OUT appears when it is whole; if anything fails, or on
    Ctrl-C, nothing is left behind.
    """
    render.set_up(verbose)
    if str(output) == "-":
        raise UsageError("a disk image cannot be streamed to standard output; give the name of a file with -o")
    with render.progress(quiet=quiet) as progress, job(inputs) as wanted:
        result = preloading.preload(
            inputs.base,
            output,
            wanted.requests,
            platform=wanted.platform,
            target=wanted.target,
            files=wanted.files,
            replaced=wanted.replaced,
            additional_space=wanted.additional_space,
            overwrite=overwrite,
            timestamp=wanted.timestamp,
            index=wanted.index,
            verify=not no_verify,
            progress=progress,
        )
    if not quiet:
        report.show_result(result)
        if no_verify:
            render.line(f"not verified, as asked; drypoint verify {output} does it")
