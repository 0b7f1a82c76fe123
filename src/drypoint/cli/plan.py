"""``drypoint plan``: shows what preload would do."""

from __future__ import annotations

from pathlib import Path

import click

from .. import BootRequest, opened_image, preload_request
from .. import plan as make_plan
from . import render, report
from .boot_options import boot_options
from .cloud_options import CloudInputs, cloud_options
from .job import balena_request
from .network_options import NetworkInputs, network_options
from .options import Inputs, input_options

_EXAMPLES = """\b
Examples:
  drypoint plan balena.img --apps-json apps.json
  drypoint plan balena.img --image alpine:3.20 --json
"""


@click.command("plan", epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--fsck",
    is_flag=True,
    help="As for preload: if the data partition was not unmounted cleanly or is damaged, run e2fsck -fp on a copy and plan for "
    "the result.",
)
@input_options
@network_options
@boot_options
@cloud_options
@render.output_options
def command(
    inputs: Inputs,
    network: NetworkInputs,
    boot: BootRequest,
    cloud: CloudInputs,
    as_json: bool,
    fsck: bool,
    verbosity: render.Verbosity,
) -> None:
    """Show which layers would be fetched, which the disk image BASE already has, and how far it would grow.

    Takes the options of preload. Manifests and configs are fetched, layers are not; nothing is written.
    """
    with render.progress(quiet=verbosity.quiet) as progress, opened_image(Path(inputs.base), progress=progress) as base:
        wanted, options = balena_request(inputs, boot, cloud), network.options()
        with preload_request(wanted, base.device, options, warn=render.warning, progress=progress) as found:
            plan = make_plan(base, found.request, fsck=fsck, progress=progress)
    if as_json:
        render.json(report.plan_object(plan))
    else:
        report.show_plan(plan)
