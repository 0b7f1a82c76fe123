"""``drypoint clean``: removes what killed runs left."""

from __future__ import annotations

from pathlib import Path

import click

from .. import clean, device_backups
from . import render

_EXAMPLES = """\b
Examples:
  drypoint clean
  drypoint clean images out.img
"""


@click.command("clean", epilog=_EXAMPLES)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[DIRECTORY or OUT]...")
@render.output_options
def command(paths: tuple[Path, ...], verbosity: render.Verbosity) -> None:
    """Remove unfinished outputs of killed runs: .NAME.XXXXXXXX.part, in DIRECTORY or for OUT.

    Without arguments, in the current directory. Files of running jobs stay. Copies that drypoint restore needs for a disk image
    changed in place are listed, not removed.
    """
    total = 0
    for path in paths or (Path(),):
        found = clean(path)
        total += len(found.unfinished.removed)
        if not verbosity.quiet:
            for left in found.unfinished.removed:
                render.line(f"removed {left.path} ({render.size(left.size)})")
            for part in found.unfinished.under_way:
                render.line(f"kept {part}: a run is writing it now")
            for backup in found.backups:
                render.line(f"kept {backup}: a way back, for drypoint restore; remove it if you do not need it")
    if not verbosity.quiet:
        for log in device_backups():
            render.line(
                f"kept {log}: a way back for a block device, for drypoint restore; remove it if you do not need it"
            )
        if not total:
            render.line("nothing to remove")
