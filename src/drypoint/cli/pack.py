"""``drypoint pack``: writes a disk image and the files that preload would add, as a stream."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from .. import BootRequest, Packed, Write, archive_file, open_pack_base, pack, preload_request
from ..progress import counted
from . import render
from .boot_options import boot_options
from .cloud_options import CloudInputs, cloud_options
from .job import balena_request
from .network_options import NetworkInputs, network_options
from .option_group import Command, option_group
from .options import Inputs, input_options
from .standard_output import StandardOutput

_EXAMPLES = """\b
Examples:
  drypoint pack balena.img -o app.etch --apps-json apps.json
  drypoint pack balena.img -o - --image alpine:3.20 | ssh station drypoint inject - /srv/out.img
  drypoint pack https://example.com/balena.img.gz -o app.etch --image alpine:3.20 --platform linux/arm64 \\
      --base-manifest balena.manifest
"""


class ArchiveInputs(msgspec.Struct, frozen=True):
    """The options about the archive and its base, as they were given."""

    output: str
    overwrite: bool
    base_manifest: Path | None
    base_size: int | None
    shrink_to_fit: bool


def _archive_options(function: Command) -> Command:
    options = [
        click.option("-o", "--output", required=True, metavar="OUT", help="The archive to write; - is standard output."),
        click.option("--overwrite", is_flag=True, help="Replace OUT if it exists."),
        click.option(
            "--base-manifest", type=click.Path(path_type=Path), metavar="FILE",
            help="The manifest of BASE, from drypoint inspect --base-manifest FILE: for a BASE that is compressed, standard "
            "input or an address, and so cannot be read before it is passed on.",
        ),
        click.option(
            "--base-size", type=click.IntRange(min=0), metavar="BYTES",
            help="The length of BASE when it is standard input.",
        ),
        click.option(
            "--shrink-to-fit", is_flag=True,
            help="Let inject give back the space that the growth of the partition left unused, except for the last 4 MiB.",
        ),
    ]  # fmt: skip
    return option_group(function, "archive", ArchiveInputs, options)


@click.command("pack", epilog=_EXAMPLES)
@_archive_options
@input_options
@network_options
@boot_options
@cloud_options
@render.output_options
def command(
    archive: ArchiveInputs,
    inputs: Inputs,
    network: NetworkInputs,
    boot: BootRequest,
    cloud: CloudInputs,
    verbosity: render.Verbosity,
) -> None:
    """Write an archive of the disk image BASE and what preload would write to it; inject makes a disk image of it.

    One pass, without temporary files. BASE may also be - (standard input) or an http or https address; like a compressed file,
    it is then passed on unchanged. --base-manifest says what it holds; without one, --supervisor-image has to preload the
    Supervisor again.
    """
    options = network.options()
    source = sys.stdin.buffer if inputs.base == "-" else inputs.base
    with (
        open_pack_base(source, size=archive.base_size, manifest=archive.base_manifest, options=options) as base,
        render.progress(quiet=verbosity.quiet) as progress,
    ):
        wanted = balena_request(inputs, boot, cloud, shrink_to_fit=archive.shrink_to_fit)
        with (
            preload_request(wanted, base.known, options, warn=render.warning, progress=progress) as found,
            _written(archive, Path(inputs.base), (*boot.files, *inputs.apps_json)) as write,
        ):
            packed = pack(
                base.source,
                write,
                found.request,
                base_manifest=base.manifest,
                unseen=found.unseen,
                progress=progress,
            )
        if archive.output == "-":
            progress.note(_summary(packed))
    if archive.output != "-" and not verbosity.quiet:
        render.line(_summary(packed))
        render.line(f"wrote {archive.output}")
        if found.first_boot is not None:
            render.line()
            render.line(found.first_boot.report(packed.images).rstrip())


@contextmanager
def _written(archive: ArchiveInputs, base: Path, secrets: tuple[Path, ...]) -> Iterator[Write]:
    if archive.output == "-":
        yield StandardOutput("an archive", "give a file with -o").write
        return
    with archive_file(Path(archive.output), overwrite=archive.overwrite, base=base, secrets=secrets) as write:
        yield write


def _summary(packed: Packed) -> str:
    store = packed.store
    return (
        f"packed {packed.manifest.image}, {counted(len(packed.images), 'image')} and {counted(len(store.layers), 'layer')} "
        f"({render.size(store.fetch_bytes)} fetched), {len(store.shared)} shared with the store; "
        f"{render.size(packed.archive_bytes)} in all"
    )
