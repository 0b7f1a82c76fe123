"""``drypoint inject``: makes a disk image from an archive."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from .. import Destination, Injected, inject, inject_request
from ..errors import UsageError
from . import render
from .job import usable_processors
from .option_group import Command, option_group
from .standard_output import StandardOutput
from .supervisor_option import supervisor_version_option

_EXAMPLES = """\b
Examples:
  drypoint inject app.etch out.img
  drypoint pack balena.img -o - --image alpine:3.20 | drypoint inject - out.img
  tar cf by-hand.tar balena.img inject && drypoint inject by-hand.tar out.img
  curl -s https://example.com/app.etch | drypoint inject - - | gzip > out.img.gz
"""


class OutputInputs(msgspec.Struct, frozen=True):
    """OUT and the options about it, as they were given."""

    out: str
    overwrite: bool
    bmap: Path | None

    def destination(self) -> Destination | StandardOutput:
        if self.out != "-":
            return Destination(Path(self.out), self.overwrite, self.bmap)
        if self.bmap is not None:
            raise UsageError("a block map is for a disk image in a file, not for one that is sent on")
        return StandardOutput("a disk image", "name a file")


def _result_options(function: Command) -> Command:
    options = [
        click.argument("out"),
        click.option("--overwrite", is_flag=True, help="Replace OUT if it exists."),
        click.option(
            "--bmap", type=click.Path(path_type=Path), metavar="FILE",
            help="Also write a block map, with which bmaptool copies only the used blocks of OUT to a device.",
        ),
    ]  # fmt: skip
    return option_group(function, "output", OutputInputs, options)


@click.command("inject", epilog=_EXAMPLES)
@click.argument("archive")
@_result_options
@click.option(
    "--overwrite-files",
    is_flag=True,
    help="Replace files that exist on a partition, and set the metadata of existing directories to that of the archive.",
)
@click.option(
    "--shrink-to-fit",
    is_flag=True,
    help="Give back the space that the growth of partitions left unused, except for the last 4 MiB.",
)
@click.option("--no-verify", is_flag=True, help="Do not read back and check what was written.")
@supervisor_version_option
@render.output_options
def command(
    archive: str,
    output: OutputInputs,
    overwrite_files: bool,
    shrink_to_fit: bool,
    no_verify: bool,
    supervisor_version: str | None,
    verbosity: render.Verbosity,
) -> None:
    """Make the disk image OUT from ARCHIVE, which drypoint pack or tar has made: a disk image, then files in inject/NUMBER/.

    The files in inject/6 go into partition 6, which grows as needed. ARCHIVE may be - (standard input) and is read in one pass.
    OUT is compressed if its name ends in .gz, .xz, .zst or .zip. It may be - (standard output): the disk image is then made in
    TMPDIR or /var/tmp first. What was written is read back and checked. An apps.json that the Supervisor
    of the disk image would pass over is refused.
    """
    destination = output.destination()
    request = inject_request(
        overwrite_files=overwrite_files, shrink_to_fit=shrink_to_fit, supervisor_version=supervisor_version
    )
    with render.progress(quiet=verbosity.quiet) as progress:
        done = inject(
            sys.stdin.buffer if archive == "-" else Path(archive),
            destination,
            request,
            name="standard input" if archive == "-" else None,
            verify=not no_verify,
            processes=usable_processors(),
            progress=progress,
        )
        if output.out == "-":
            for text in _summary(done, no_verify, None):
                progress.note(text)
    if output.out != "-" and not verbosity.quiet:
        for text in _summary(done, no_verify, output.out):
            render.line(text)
        render.line(f"wrote {output.out}")


def _summary(done: Injected, no_verify: bool, out: str | None) -> Iterator[str]:
    for partition in done.partitions:
        growth = (
            f", which grew from {render.size(partition.before)} to {render.size(partition.size)}"
            if partition.size > partition.before
            else ""
        )
        label = f" ({partition.label})" if partition.label else ""
        checked = "; its store is verified" if partition.verified else ""
        yield f"{partition.members} members into partition {partition.number}{label}{growth}{checked}"
    if not done.partitions:
        yield "nothing to inject: OUT is the disk image of the archive, unchanged"
    elif no_verify:
        yield "not verified (--no-verify)" + (f"; drypoint verify {out} checks it" if out is not None else "")
