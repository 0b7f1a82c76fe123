"""``drypoint preload``: images into a disk image."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..balena.boot_request import BootRequest
from ..balena.job import preload_request
from ..digest import Digest
from ..disk.formats import opened_image
from ..disk.host.workspace import Destination, check_destination
from ..errors import UsageError
from ..jobs.preload import Result
from ..jobs.preload import preload as run_preload
from . import render, report
from .boot_options import boot_options
from .cloud_options import CloudInputs, cloud_options
from .job import balena_request, registry_options
from .options import Inputs, input_options

_EXAMPLES = """\b
Examples:
  drypoint preload balena.img.zip -o preloaded.img.zst --fleet myorg/myfleet --pin-device-to-release
  drypoint preload balena.img -o preloaded.img --apps-json apps.json
  drypoint preload balena.img -o preloaded.img --image alpine:3.20 --image ghcr.io/org/app:1.4
  drypoint preload base.img -o out.img --image docker-archive:app.tar --config config.json
  drypoint preload pios.img.xz -o out.img.xz --bmap out.bmap --compose compose.yaml \\
      --data-partition rootfs --data-root /var/lib/docker
"""


@click.command("preload", epilog=_EXAMPLES)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="The disk image to write. A name that ends in .gz, .xz, .zst or .zip is compressed.",
)
@click.option(
    "--in-place",
    is_flag=True,
    help="Change BASE itself instead of writing OUT: a plain file, or a block device that is not mounted. If anything fails, "
    "BASE is restored.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option(
    "--bmap",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write a block map, with which bmaptool copies only the used blocks of OUT to a device.",
)
@click.option(
    "--shrink-to-fit",
    is_flag=True,
    help="Give back the space that the growth of the partition left unused, except for the last 4 MiB.",
)
@click.option(
    "--fsck",
    is_flag=True,
    help="If the data partition was not unmounted cleanly or is damaged, run e2fsck -fp first: automatic repairs only, as a "
    "device does when it boots.",
)
@click.option("--no-verify", is_flag=True, help="Do not read back and check what was written.")
@input_options
@boot_options
@cloud_options
@render.output_options
def command(
    inputs: Inputs,
    boot: BootRequest,
    cloud: CloudInputs,
    output: Path | None,
    in_place: bool,
    overwrite: bool,
    bmap: Path | None,
    shrink_to_fit: bool,
    fsck: bool,
    no_verify: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Write OUT, a copy of the disk image BASE with the images in its engine's store.

    BASE is only read, and may be compressed (gzip, xz, zstd, zip). What was written is read back and checked. OUT appears
    when it is complete; if anything fails, or on Ctrl-C, nothing is left behind.
    """
    render.set_up(verbose)
    if in_place == (output is not None):
        raise UsageError("give either -o OUT, for a new disk image, or --in-place, to change BASE itself")
    if str(output) == "-":
        raise UsageError("a disk image cannot be streamed to standard output; give a file name with -o")
    # Checked before BASE is unpacked, which may take minutes.
    destination = Destination(output, overwrite, bmap)
    scratch = check_destination(inputs.base, destination)
    with render.progress(quiet=quiet) as progress:
        with opened_image(inputs.base, directory=scratch, in_place=in_place, progress=progress) as base:
            wanted = balena_request(inputs, boot, cloud, shrink_to_fit=shrink_to_fit)
            options = registry_options(inputs)
            with preload_request(wanted, base.device, options, warn=render.warning, progress=progress) as found:
                result = run_preload(
                    base,
                    destination,
                    found.request,
                    fsck=fsck,
                    verify=not no_verify,
                    processes=len(os.sched_getaffinity(0)),
                    progress=progress,
                )
    if not quiet:
        report.show_result(result)
        if no_verify:
            render.line(f"not verified (--no-verify); drypoint verify {result.output} checks it")
        if found.first_boot is not None:
            render.line()
            render.line(found.first_boot.report(result.plan.images, _stored_sizes(result)).rstrip())


def _stored_sizes(result: Result) -> dict[Digest, int]:
    """The bytes of the layers in the engine's store, by chain-id."""
    sizes = {shared.layer.chain_id: shared.size for shared in result.plan.store.shared}
    sizes.update({layer.planned.chain_id: layer.applied.size for layer in result.layers})
    return sizes
