"""``drypoint clean``: what runs left that were killed."""

from __future__ import annotations

from pathlib import Path

import click

from ..disk.host.leftovers import all_backups, remove_unfinished
from ..disk.host.undo_log import all_logs
from ..errors import UsageError
from . import render

_EXAMPLES = """\b
Examples:
  drypoint clean
  drypoint clean images out.img
"""


@click.command("clean", epilog=_EXAMPLES)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[DIRECTORY or OUT]...")
@render.output_options
def command(paths: tuple[Path, ...], quiet: bool, verbose: int) -> None:
    """Remove unfinished outputs of killed runs: .NAME.XXXXXXXX.part, in DIRECTORY or for OUT.

    Without arguments, in the current directory. Files of running jobs stay. Copies that drypoint restore needs for a disk image
    changed in place are listed, not removed.
    """
    render.set_up(verbose)
    total = 0
    for path in paths or (Path(),):
        is_directory = path.is_dir()
        directory, name = (path, None) if is_directory else (path.parent, path.name)
        if not directory.is_dir():
            raise UsageError(f"the directory {directory} does not exist")
        found = remove_unfinished(directory, name)
        total += len(found.removed)
        if not quiet:
            for left in found.removed:
                render.line(f"removed {left.path} ({render.size(left.size)})")
            for part in found.under_way:
                render.line(f"kept {part}: a run is writing it now")
            for backup in all_backups(directory) if is_directory else ():
                render.line(f"kept {backup}: a way back, for drypoint restore; remove it if you do not need it")
    if not quiet:
        for log in all_logs():
            render.line(
                f"kept {log}: a way back for a block device, for drypoint restore; remove it if you do not need it"
            )
        if not total:
            render.line("nothing to remove")
