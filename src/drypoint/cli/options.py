"""The options that say what goes into a disk image, shared by the commands that take them."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from ..preloading import DEFAULT_DATA_ROOT, DEFAULT_PARTITION
from .option_group import Command, option_group

DEFAULT_PLATFORM = "linux/amd64"


class Inputs(msgspec.Struct, frozen=True):
    """The options as they were given."""

    base: Path
    images: tuple[str, ...]
    apps_json: tuple[Path, ...]
    replace: bool
    supervisor_image: str | None
    supervisor_version: str | None
    platform: str | None
    data_partition: str
    data_root: str | None
    additional_space: str
    insecure_registries: tuple[str, ...]
    certificates: tuple[Path, ...]
    no_index: bool
    compose: Path | None = None


def input_options(function: Command) -> Command:
    """BASE and the options that go with it, given to *function* together, as ``inputs``."""
    options = [
        click.argument("base", type=click.Path(path_type=Path)),
        click.option(
            "--image", "images", multiple=True, metavar="REF",
            help="An image: a registry reference, oci:PATH[:IMAGE] or docker-archive:PATH[:IMAGE], the latter two also as "
            "NAME=oci:PATH. An OCI layout with images that apps.json names by digest gives those. May be repeated.",
        ),
        click.option(
            "--apps-json", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
            help="A balena target state (version 3, or 2 for a Supervisor before 13): the images of all its services are "
            "preloaded, and the file goes into the root of the data partition, where the Supervisor looks for it. May be "
            "repeated, for one fleet and the blocks and apps beside it.",
        ),
        click.option(
            "--compose", type=click.Path(path_type=Path), metavar="FILE",
            help="A Compose file: the images of its services, those with a profile left out. Its variables are filled from the "
            "environment, and from .env beside it.",
        ),
        click.option(
            "--replace", is_flag=True,
            help="Remove the images that the apps.json on the data partition names (an earlier release's), unless they are "
            "wanted again, have another name or are in use; and the layers that nothing else needs.",
        ),
        click.option(
            "--supervisor-image", metavar="REF",
            help="Put the Supervisor in as well, named as balenaOS names it: for a base without one, or with one that is "
            "damaged. Layers that are there are shared.",
        ),
        click.option(
            "--supervisor-version", metavar="VERSION",
            help="The version of the Supervisor that --supervisor-image brings, or that reads apps.json. Default: what the "
            "image's tag or the image itself says; else that of the Supervisor on the disk image.",
        ),
        click.option(
            "--platform", metavar="OS/ARCH[/VARIANT]",
            help="Which image of a multi-platform one to take. Default: what the disk image's device type says, else "
            f"{DEFAULT_PLATFORM}.",
        ),
        click.option(
            "--data-partition", default=DEFAULT_PARTITION, show_default=True, metavar="LABEL|N",
            help="The partition that holds the engine's store.",
        ),
        click.option(
            "--data-root", metavar="PATH",
            help="The engine's data root in that partition. Default: what the daemon.json on the disk image says, else "
            f"{DEFAULT_DATA_ROOT.decode()}.",
        ),
        click.option(
            "--additional-space", default="0", metavar="SIZE",
            help="Room to leave free beyond what the images take: bytes, or with K, M, G or T.",
        ),
        click.option(
            "--insecure-registry", "insecure_registries", multiple=True, metavar="HOST[:PORT]",
            help="A registry that may be reached by plain http. Registries on this machine always may.",
        ),
        click.option(
            "--add-certificate", "certificates", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
            help="A PEM file of certificate authorities to trust beside the system's.",
        ),
        click.option(
            "--no-index", is_flag=True,
            help="Neither use nor keep what is known of layers that were written before. The disk image then grows alike in "
            "every run, whatever the cache holds.",
        ),
    ]  # fmt: skip
    return option_group(function, "inputs", Inputs, options)
