"""``drypoint inject``: a disk image from an archive."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ..balena.apps_json_images import AppsJsonImages
from ..balena.apps_supervisor import given_supervisor
from ..balena.injected import AppsJsonCheck
from ..disk.host.workspace import Destination
from ..errors import UsageError
from ..injection.request import InjectRequest
from ..jobs.inject import Injected, inject
from . import render
from .supervisor_option import supervisor_version_option

_EXAMPLES = """\b
Examples:
  drypoint inject app.etch out.img
  drypoint pack balena.img -o - --image alpine:3.20 | drypoint inject - out.img
  tar cf by-hand.tar balena.img inject && drypoint inject by-hand.tar out.img
  curl -s https://example.com/app.etch | drypoint inject - - | gzip > out.img.gz
"""


@click.command("inject", epilog=_EXAMPLES)
@click.argument("archive")
@click.argument("out")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option(
    "--overwrite-files",
    is_flag=True,
    help="Replace files that exist on a partition, and set the metadata of existing directories to that of the archive.",
)
@click.option(
    "--bmap",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write a block map, with which bmaptool copies only the used blocks of OUT to a device.",
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
    out: str,
    overwrite: bool,
    overwrite_files: bool,
    bmap: Path | None,
    shrink_to_fit: bool,
    no_verify: bool,
    supervisor_version: str | None,
    quiet: bool,
    verbose: int,
) -> None:
    """Make the disk image OUT from ARCHIVE, which drypoint pack or tar has made: a disk image, then files in inject/NUMBER/.

    The files in inject/6 go into partition 6, which grows as needed. ARCHIVE may be - (standard input) and is read in one pass.
    OUT is compressed if its name ends in .gz, .xz, .zst or .zip. It may be - (standard output): the disk image is then made in
    TMPDIR or /var/tmp first. What was written is read back and checked. An apps.json that the Supervisor
    of the disk image would pass over is refused.
    """
    render.set_up(verbose)
    if out == "-" and bmap is not None:
        raise UsageError("a block map is for a disk image in a file, not for one that is sent on")
    supervisor = given_supervisor(supervisor_version)
    with render.progress(quiet=quiet) as progress:
        done = inject(
            sys.stdin.buffer if archive == "-" else Path(archive),
            _standard_output() if out == "-" else Destination(Path(out), overwrite, bmap),
            InjectRequest(
                overwrite_files=overwrite_files,
                shrink_to_fit=shrink_to_fit,
                required_images=AppsJsonImages(supervisor=supervisor),
                check=AppsJsonCheck(supervisor),
            ),
            name="standard input" if archive == "-" else None,
            verify=not no_verify,
            processes=len(os.sched_getaffinity(0)),
            progress=progress,
        )
        if out == "-":
            for text in _summary(done, no_verify, None):
                progress.note(text)
    if out != "-" and not quiet:
        for text in _summary(done, no_verify, out):
            render.line(text)
        render.line(f"wrote {out}")


class _StandardOutput:
    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(sys.stdout.fileno(), view) :]


def _standard_output() -> _StandardOutput:
    if sys.stdout.isatty():
        raise UsageError("a disk image is not written to a terminal: redirect standard output, or name a file")
    sys.stdout.flush()
    return _StandardOutput()


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
