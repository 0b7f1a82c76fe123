"""``drypoint inspect``: shows the contents of a disk image."""

from __future__ import annotations

from pathlib import Path

import click

from .. import DEFAULT_DATA_ROOT, DEFAULT_PARTITION, inspect
from . import inspected, render
from .inspected_json import inspection_object
from .job import data_root_path

_EXAMPLES = """\b
Examples:
  drypoint inspect balena.img
  drypoint inspect preloaded.img --svg preloaded.svg
  drypoint inspect balena.img --base-manifest balena.manifest
  drypoint inspect pios.img --data-partition rootfs --data-root /var/lib/docker --json
"""


@click.command("inspect", epilog=_EXAMPLES)
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--data-partition",
    metavar="LABEL|N",
    help=f"The partition that holds the engine's store. Default: {DEFAULT_PARTITION}, if there is one.",
)
@click.option(
    "--data-root",
    metavar="PATH",
    help="The engine's data root in that partition. Default: that of the daemon.json on the disk image, else "
    f"{DEFAULT_DATA_ROOT.decode()}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--svg",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also draw the disk and the layers that images share to FILE, which is replaced if it exists.",
)
@click.option(
    "--base-manifest",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write a manifest of the store to FILE, for drypoint pack of a base that it cannot read first. FILE is "
    "replaced if it exists.",
)
@render.output_options
def command(
    image: Path,
    data_partition: str | None,
    data_root: str | None,
    as_json: bool,
    svg: Path | None,
    base_manifest: Path | None,
    verbosity: render.Verbosity,
) -> None:
    """Show what the disk image IMAGE holds: partitions, the OS, images, layers, preloaded applications.

    IMAGE is only read, and may be compressed (gzip, xz, zstd, zip). No root and no mount is needed. Damage is reported, and
    the rest is shown; verify checks more.
    """
    root = data_root_path(data_root)
    with render.progress(quiet=verbosity.quiet or as_json) as progress:
        found = inspect(image, partition=data_partition, data_root=root, progress=progress)
        if base_manifest is not None:
            from .. import write_base_manifest

            partition = data_partition or DEFAULT_PARTITION
            write_base_manifest(image, base_manifest, partition=partition, data_root=root, progress=progress)
    if svg is not None:
        from ..balena.inspection_picture import write_picture

        write_picture(found, image, svg)
    if as_json:
        render.json(inspection_object(found))
    else:
        inspected.show_inspection(found, verbose=verbosity.is_verbose)
