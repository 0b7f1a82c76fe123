"""The options for what goes into a disk image, shared by preload, plan and pack."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from .. import DEFAULT_DATA_ROOT, DEFAULT_PARTITION
from ..balena.request import DEFAULT_PLATFORM
from .option_group import Command, Decorator, option_group


class Inputs(msgspec.Struct, frozen=True):
    """The options as they were given.

    Attributes:
        base: a path; for pack also - or an address, which a Path would change.
    """

    base: str
    images: tuple[str, ...]
    apps_json: tuple[Path, ...]
    replace: bool
    supervisor_image: str | None
    supervisor_version: str | None
    platform: str | None
    data_partition: str
    data_root: str | None
    additional_space: str
    no_index: bool
    compose: Path | None = None
    limits: tuple[str, ...] = ()


def input_options(function: Command) -> Command:
    """BASE and its options, given to *function* together, as ``inputs``."""
    base = click.argument("base", type=click.Path())
    return option_group(function, "inputs", Inputs, [base, *_image_options(), *_place_options()])


def _image_options() -> list[Decorator]:
    return [
        click.option(
            "--image", "images", multiple=True, metavar="REF",
            help="An image: a registry reference, oci:PATH[:IMAGE] or docker-archive:PATH[:IMAGE]; NAME=oci:PATH gives "
            "it a name. Of an OCI layout that has images which apps.json names by digest, those are taken. May be repeated.",
        ),
        click.option(
            "--apps-json", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
            help="A balena target state (version 3, or 2 for a Supervisor before 13): the images of all its services are "
            "preloaded, and the file is written to the root of the data partition, where the Supervisor reads it. May be "
            "repeated: one fleet, and further blocks and apps.",
        ),
        click.option(
            "--compose", type=click.Path(path_type=Path), metavar="FILE",
            help="A Compose file: the images of its services are preloaded, except of those with a profile. Variables "
            "come from the environment and from .env in the file's directory.",
        ),
        click.option(
            "--replace", is_flag=True,
            help="Remove the images of the earlier release, as the apps.json on the data partition names them, and the "
            "layers that only they need. Images that are requested again, have another name or are in use stay.",
        ),
        click.option(
            "--supervisor-image", metavar="REF",
            help="Also preload this Supervisor, with the names that balenaOS gives it: for a base without one, or with "
            "a damaged one. Existing layers are shared.",
        ),
        click.option(
            "--supervisor-version", metavar="VERSION",
            help="The version of the Supervisor of --supervisor-image, or of the one that reads apps.json. Default: "
            "that of the image's tag, of its labels, or of the Supervisor on the disk image.",
        ),
        click.option(
            "--platform", metavar="OS/ARCH[/VARIANT]",
            help="Which image of a multi-platform image to take. Default: that of the disk image's device type, else "
            f"{DEFAULT_PLATFORM}.",
        ),
    ]  # fmt: skip


def _place_options() -> list[Decorator]:
    return [
        click.option(
            "--data-partition", default=DEFAULT_PARTITION, show_default=True, metavar="LABEL|N",
            help="The partition that holds the engine's store.",
        ),
        click.option(
            "--data-root", metavar="PATH",
            help="The engine's data root in that partition. Default: that of the daemon.json on the disk image, else "
            f"{DEFAULT_DATA_ROOT.decode()}.",
        ),
        click.option(
            "--additional-space", default="0", metavar="SIZE",
            help="Space to leave free after the images are written: bytes, or a number with K, M, G or T.",
        ),
        click.option(
            "--limit", "limits", multiple=True, metavar="NAME=NUMBER",
            help="Accept larger layers, or only smaller ones: entries, metadata-bytes, tar-bytes and zstd-window are for each "
            "layer, seconds for all. A number may have K, M, G or T. The defaults are beyond any real image. May be repeated.",
        ),
        click.option(
            "--no-index", is_flag=True,
            help="Do not use or update the index of the sizes of layers written before. The disk image then grows by "
            "the same amount in every run, whatever the index holds.",
        ),
    ]  # fmt: skip
