"""``drypoint restore``: undoes the changes of a killed run that changed a disk image in place."""

from __future__ import annotations

from pathlib import Path

import click

from .. import restore
from . import render

_EXAMPLES = """\b
Examples:
  drypoint restore balena.img
  drypoint restore /dev/sdX
"""


@click.command("restore", epilog=_EXAMPLES)
@click.argument("base", type=click.Path(path_type=Path))
@render.output_options
def command(base: Path, verbosity: render.Verbosity) -> None:
    """Restore the disk image BASE, a file or block device, after a preload --in-place that was killed.

    A run that fails, or ends on Ctrl-C, does this itself. A file is restored from its copy .NAME.XXXXXXXX.before, a block
    device from a file *.drypoint-undo in TMPDIR or /var/tmp; these are then removed.
    """
    kept = restore(base)
    if not verbosity.quiet:
        render.line(f"{base} is as it was before; {kept} is removed")
