"""``drypoint plan``: what a preload would do."""

from __future__ import annotations

from pathlib import Path

import click

from .. import preloading
from . import render, report
from .options import Inputs, input_options, job

_EXAMPLES = """\b
Examples:
  drypoint plan balena.img --apps-json apps.json
  drypoint plan balena.img --image alpine:3.20 --json
"""


@click.command("plan", epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@input_options
@render.output_options
def command(
    base: Path,
    images: tuple[str, ...],
    apps_json: Path | None,
    replace: bool,
    supervisor_image: str | None,
    supervisor_version: str | None,
    platform: str | None,
    data_partition: str,
    data_root: str,
    additional_space: str,
    insecure_registries: tuple[str, ...],
    certificates: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Say which layers would be fetched, which the disk image BASE has already, and how far it would grow.

    Takes what preload takes, fetches manifests and configs but no layer, and writes nothing.
    """
    render.set_up(verbose)
    inputs = Inputs(
        base,
        images,
        apps_json,
        replace,
        supervisor_image,
        supervisor_version,
        platform,
        data_partition,
        data_root,
        additional_space,
        insecure_registries,
        certificates,
    )
    with render.progress(quiet=quiet) as progress, job(inputs) as wanted:
        plan = preloading.plan(
            base,
            wanted.requests,
            platform=wanted.platform,
            target=wanted.target,
            files=wanted.files,
            replaced=wanted.replaced,
            additional_space=wanted.additional_space,
            timestamp=wanted.timestamp,
            progress=progress,
        )
    if as_json:
        render.json(report.plan_object(plan))
    else:
        report.show_plan(plan)
