"""``drypoint preload``: writes images into a disk image."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from .. import BootRequest, Destination, check_destination, opened_image, preload_request
from .. import preload as run_preload
from ..errors import UsageError
from . import render, report
from .boot_options import boot_options
from .cloud_options import CloudInputs, cloud_options
from .job import balena_request, usable_processors
from .network_options import NetworkInputs, network_options
from .option_group import Command, option_group
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


class OutputInputs(msgspec.Struct, frozen=True):
    """The options about the result, as they were given."""

    output: Path | None
    in_place: bool
    overwrite: bool
    bmap: Path | None

    def destination(self, secrets: tuple[Path, ...]) -> Destination:
        if self.in_place == (self.output is not None):
            raise UsageError("give either -o OUT, for a new disk image, or --in-place, to change BASE itself")
        if str(self.output) == "-":
            raise UsageError("a disk image cannot be streamed to standard output; give a file name with -o")
        return Destination(self.output, self.overwrite, self.bmap, secrets)


class StepInputs(msgspec.Struct, frozen=True):
    """The options about additional steps, as they were given."""

    shrink_to_fit: bool
    fsck: bool
    no_verify: bool


def _result_options(function: Command) -> Command:
    options = [
        click.option(
            "-o", "--output", type=click.Path(path_type=Path), metavar="OUT",
            help="The disk image to write. A name that ends in .gz, .xz, .zst or .zip is compressed.",
        ),
        click.option(
            "--in-place", is_flag=True,
            help="Change BASE itself instead of writing OUT: a plain file, or a block device that is not mounted. If anything "
            "fails, BASE is restored.",
        ),
        click.option("--overwrite", is_flag=True, help="Replace OUT if it exists."),
        click.option(
            "--bmap", type=click.Path(path_type=Path), metavar="FILE",
            help="Also write a block map, with which bmaptool copies only the used blocks of OUT to a device.",
        ),
    ]  # fmt: skip
    return option_group(function, "output", OutputInputs, options)


def _step_options(function: Command) -> Command:
    options = [
        click.option(
            "--shrink-to-fit", is_flag=True,
            help="Give back the space that the growth of the partition left unused, except for the last 4 MiB.",
        ),
        click.option(
            "--fsck", is_flag=True,
            help="If the data partition was not unmounted cleanly or is damaged, run e2fsck -fp first: automatic repairs only, "
            "as a device does when it boots.",
        ),
        click.option("--no-verify", is_flag=True, help="Do not read back and check what was written."),
    ]  # fmt: skip
    return option_group(function, "steps", StepInputs, options)


@click.command("preload", epilog=_EXAMPLES)
@_result_options
@_step_options
@input_options
@network_options
@boot_options
@cloud_options
@render.output_options
def command(
    output: OutputInputs,
    steps: StepInputs,
    inputs: Inputs,
    network: NetworkInputs,
    boot: BootRequest,
    cloud: CloudInputs,
    verbosity: render.Verbosity,
) -> None:
    """Write OUT, a copy of the disk image BASE with the images in its engine's store.

    BASE is only read, and may be compressed (gzip, xz, zstd, zip). What was written is read back and checked. OUT appears
    when it is complete; if anything fails, or on Ctrl-C, nothing is left behind.
    """
    path, destination = Path(inputs.base), output.destination((*boot.files, *inputs.apps_json))
    # Checked before BASE is unpacked, which may take minutes.
    scratch = check_destination(path, destination)
    with render.progress(quiet=verbosity.quiet) as progress:
        with opened_image(path, directory=scratch, in_place=output.in_place, progress=progress) as base:
            wanted = balena_request(inputs, boot, cloud, shrink_to_fit=steps.shrink_to_fit)
            options = network.options()
            with preload_request(wanted, base.device, options, warn=render.warning, progress=progress) as found:
                result = run_preload(
                    base,
                    destination,
                    found.request,
                    fsck=steps.fsck,
                    verify=not steps.no_verify,
                    processes=usable_processors(),
                    progress=progress,
                )
    if not verbosity.quiet:
        report.show_result(result)
        if steps.no_verify:
            render.line(f"not verified (--no-verify); drypoint verify {result.output} checks it")
        if found.first_boot is not None:
            render.line()
            render.line(found.first_boot.report(result.plan.images, result.layer_sizes).rstrip())
