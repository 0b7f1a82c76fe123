"""``drypoint verify``: checks a finished disk image."""

from __future__ import annotations

from pathlib import Path

import click

from .. import DEFAULT_DATA_ROOT, DEFAULT_PARTITION, verify_balena
from . import render, verified
from .job import data_root_path, usable_processors
from .supervisor_option import supervisor_version_option

_EXAMPLES = """\b
Examples:
  drypoint verify preloaded.img
  drypoint verify preloaded.img --apps-json apps.json
  drypoint verify pios.img --data-partition rootfs --data-root /var/lib/docker --json
"""
_UNSOUND = 60
"""VerificationError's exit status: the command shows all findings instead of raising it with the first."""


@click.command("verify", epilog=_EXAMPLES)
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--apps-json",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A target state: the Supervisor must find all its images. Default: the apps.json in the partition, if there is one.",
)
@click.option(
    "--data-partition",
    default=DEFAULT_PARTITION,
    show_default=True,
    metavar="LABEL|N",
    help="The partition that holds the engine's store.",
)
@click.option(
    "--data-root",
    metavar="PATH",
    help="The engine's data root in that partition. Default: that of the daemon.json on the disk image, else "
    f"{DEFAULT_DATA_ROOT.decode()}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@supervisor_version_option
@render.output_options
def command(
    image: Path,
    apps_json: Path | None,
    data_partition: str,
    data_root: str | None,
    as_json: bool,
    supervisor_version: str | None,
    verbosity: render.Verbosity,
) -> int:
    """Check that the engine will find each image on the disk image IMAGE, byte for byte. Nothing is changed.

    The partition table and all file systems are checked. Every layer's tar is rebuilt from the files in the partition and must
    hash to the layer's diff-id; owners, modes, times, xattrs and links are compared with the tar's. Every name must refer
    to an image that the engine will load, and every service of apps.json to such an image. In a flasher, the disk image that it
    installs is checked too. The exit status is 0 only if there is no error; -v shows every finding in full.
    """
    with render.progress(quiet=verbosity.quiet or as_json) as progress:
        found = verify_balena(
            image,
            partition=data_partition,
            data_root=data_root_path(data_root),
            apps_json=apps_json,
            supervisor_version=supervisor_version,
            processes=usable_processors(),
            progress=progress,
        )
    if as_json:
        render.json(verified.verification_object(found))
    else:
        verified.show_verification(found, verbosity)
    return 0 if found.sound else _UNSOUND
