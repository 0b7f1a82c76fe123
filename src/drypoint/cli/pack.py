"""``drypoint pack``: a disk image and what a preload would put into it, as a stream."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..balena.boot_request import BootRequest
from ..balena.input_files import read_file
from ..balena.job import UnreadBase, preload_request
from ..concurrency.stage import Write
from ..disk import Device, FileDevice, whole_file
from ..disk.formats import ImageFormat, format_of_content
from ..disk.tables.tail import pad_missing_tail
from ..errors import UsageError
from ..etch.base_manifest import MAX_BYTES, parse_base_manifest
from ..jobs.base_stream import BaseStream, read_stream
from ..jobs.base_url import url_stream
from ..jobs.pack import Packed, pack
from ..progress import counted
from . import render
from .boot_options import boot_options
from .cloud_options import CloudInputs, cloud_options
from .job import balena_request, registry_options
from .options import Inputs, input_options

_EXAMPLES = """\b
Examples:
  drypoint pack balena.img -o app.etch --apps-json apps.json
  drypoint pack balena.img -o - --image alpine:3.20 | ssh station drypoint inject - /srv/out.img
  drypoint pack https://example.com/balena.img.gz -o app.etch --image alpine:3.20 --platform linux/arm64 \\
      --base-manifest balena.manifest
"""
_BASE = "drypoint.base"


class _BaseType(click.Path):
    """BASE, also as it was given: a path would not keep an address as it is."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if ctx is not None:
            ctx.meta[_BASE] = value
        return super().convert(value, param, ctx)


@click.command("pack", epilog=_EXAMPLES)
@click.option("-o", "--output", required=True, metavar="OUT", help="The archive to write; - is standard output.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option(
    "--base-manifest",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The manifest of BASE, from drypoint inspect --base-manifest FILE: for a BASE that is compressed, standard "
    "input or an address, and so cannot be read before it is passed on.",
)
@click.option(
    "--base-size", type=click.IntRange(min=0), metavar="BYTES", help="The length of BASE when it is standard input."
)
@click.option(
    "--shrink-to-fit",
    is_flag=True,
    help="Let inject give back the space that the growth of the partition left unused, except for the last 4 MiB.",
)
@input_options
@boot_options
@cloud_options
@render.output_options
@click.pass_context
def command(
    context: click.Context,
    inputs: Inputs,
    boot: BootRequest,
    cloud: CloudInputs,
    output: str,
    overwrite: bool,
    base_manifest: Path | None,
    base_size: int | None,
    shrink_to_fit: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Write an archive of the disk image BASE and what preload would write to it; inject makes a disk image of it.

    One pass, without temporary files. BASE may also be - (standard input) or an http or https address; like a compressed file,
    it is then passed on unchanged. --base-manifest says what it holds; without one, --supervisor-image has to preload the
    Supervisor again.
    """
    render.set_up(verbose)
    given = str(context.meta[_BASE])
    with _opened(given, base_size, inputs) as (base, device), render.progress(quiet=quiet) as progress:
        known = None if base_manifest is None else read_file(base_manifest, MAX_BYTES)
        stored = None if known is None else parse_base_manifest(known, str(base_manifest)).store.contents
        wanted = balena_request(inputs, boot, cloud, shrink_to_fit=shrink_to_fit)
        options = registry_options(inputs)
        looked = UnreadBase(base.name, stored) if device is None else device
        with (
            preload_request(wanted, looked, options, warn=render.warning, progress=progress) as found,
            _written(output, overwrite, inputs.base) as write,
        ):
            packed = pack(
                base,
                write,
                found.request,
                base_manifest=known,
                unseen=found.unseen,
                progress=progress,
            )
        if output == "-":
            progress.note(_summary(packed))
    if output != "-" and not quiet:
        render.line(_summary(packed))
        render.line(f"wrote {output}")
        if found.first_boot is not None:
            render.line()
            render.line(found.first_boot.report(packed.images).rstrip())


next(param for param in command.params if param.name == "base").type = _BaseType()


@contextmanager
def _opened(given: str, size: int | None, inputs: Inputs) -> Iterator[tuple[Path | BaseStream, Device | None]]:
    """BASE: a file, with what can be looked into; or a stream."""
    if given == "-":
        yield read_stream(sys.stdin.buffer, size), None
        return
    if size is not None:
        raise UsageError(
            "--base-size is the length of standard input; that of a file or an address is known: leave it out"
        )
    if given.startswith(("http://", "https://")):
        with url_stream(given, registry_options(inputs)) as stream:
            yield stream, None
        return
    path = Path(given)
    with FileDevice(path) as device:
        # That a killed run left it half changed, the job itself says.
        device.lock(exclusive=False)
        if format_of_content(device) is not ImageFormat.RAW:
            yield path, None
            return
        # The job itself says that it does so.
        pad_missing_tail(device)
        yield path, device


@contextmanager
def _written(output: str, overwrite: bool, base: Path) -> Iterator[Write]:
    """Takes the archive."""
    if output == "-":
        if sys.stdout.isatty():
            raise UsageError(
                "an archive is not written to a terminal: redirect standard output, or give a file with -o"
            )
        sys.stdout.flush()
        yield _writer(sys.stdout.fileno())
        return
    inputs = (base,) if base.exists() else ()
    with whole_file(Path(output), overwrite=overwrite, inputs=inputs) as part:
        with part.path.open("wb", buffering=0) as file:
            yield _writer(file.fileno())


def _writer(fd: int) -> Write:
    def write(data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    return write


def _summary(packed: Packed) -> str:
    store = packed.store
    return (
        f"packed {packed.manifest.image}, {counted(len(packed.images), 'image')} and {counted(len(store.layers), 'layer')} "
        f"({render.size(store.fetch_bytes)} fetched), {len(store.shared)} shared with the store; "
        f"{render.size(packed.archive_bytes)} in all"
    )
