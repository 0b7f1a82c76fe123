"""The options that say what goes into a disk image, shared by the commands that take them, and what they mean together."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ..balena.apps_json import MAX_BYTES, read_apps_json
from ..balena.device_type import read_device_type
from ..balena.previous import previous_images
from ..balena.supervisor_image import supervisor_tags, version_of
from ..disk import FileDevice
from ..errors import UsageError
from ..fstree import clean_path
from ..oci import Platform, Reference, parse_platform
from ..preloading import DEFAULT_DATA_ROOT, DEFAULT_PARTITION, ExtraFile, FindReplaced, ImageRequest, LayerIndex, Target
from ..preloading.moment import LATEST
from ..sources import ImageSource, open_archive, parse_location
from ..sources.registry import RegistryOptions, RegistrySource
from . import render

_DEFAULT_PLATFORM = "linux/amd64"
_SIZE = re.compile(r"(\d+)([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZE_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True)
class Inputs:
    """The options as they were given."""

    base: Path
    images: tuple[str, ...]
    apps_json: Path | None
    replace: bool
    supervisor_image: str | None
    supervisor_version: str | None
    platform: str | None
    data_partition: str
    data_root: str
    additional_space: str
    insecure_registries: tuple[str, ...]
    certificates: tuple[Path, ...]
    no_index: bool


@dataclass(frozen=True, slots=True)
class Job:
    """What the options mean, ready for :func:`drypoint.preload`."""

    requests: tuple[ImageRequest, ...]
    platform: Platform
    target: Target
    files: tuple[ExtraFile, ...]
    replaced: FindReplaced | None
    additional_space: int
    timestamp: int | None
    index: LayerIndex | None


def input_options(function: Callable[..., object]) -> Callable[..., object]:
    """BASE and the options that go with it, given to *function* together, as ``inputs``."""

    @wraps(function)
    def gathering(**given: Any) -> object:
        inputs = Inputs(**{field.name: given.pop(field.name) for field in fields(Inputs)})
        return function(inputs=inputs, **given)

    decorators = [
        click.argument("base", type=click.Path(path_type=Path)),
        click.option(
            "--image", "images", multiple=True, metavar="REF",
            help="An image: a registry reference, oci:PATH[:IMAGE] or docker-archive:PATH[:IMAGE], the latter two also as "
            "NAME=oci:PATH. May be repeated.",
        ),
        click.option(
            "--apps-json", type=click.Path(path_type=Path), metavar="FILE",
            help="A balena target state (version 3): the images of all its services are preloaded, and the file goes into the "
            "root of the data partition, where the Supervisor looks for it.",
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
            help="The Supervisor's version. Default: what the tag of --supervisor-image, or the image itself, says.",
        ),
        click.option(
            "--platform", metavar="OS/ARCH[/VARIANT]",
            help="Which image of a multi-platform one to take. Default: what the disk image's device type says, else "
            f"{_DEFAULT_PLATFORM}.",
        ),
        click.option(
            "--data-partition", default=DEFAULT_PARTITION, show_default=True, metavar="LABEL|N",
            help="The partition that holds the engine's store.",
        ),
        click.option(
            "--data-root", default=DEFAULT_DATA_ROOT.decode(), show_default=True, metavar="PATH",
            help="The engine's data root in that partition.",
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
    decorated: Callable[..., object] = gathering
    for decorate in reversed(decorators):
        decorated = decorate(decorated)
    return decorated


@contextmanager
def job(inputs: Inputs) -> Iterator[Job]:
    """Open what the options name.

    Raises:
        UsageError: they contradict each other, or a file or name is not what it should be.
        SourceError, ContentError: an archive cannot be read.
        DiskImageError: BASE is no disk image.
    """
    target = Target(inputs.data_partition, data_root_path(inputs.data_root))
    additional_space = _size(inputs.additional_space)
    if not inputs.images and inputs.apps_json is None and inputs.supervisor_image is None:
        raise UsageError("nothing to put in: give --image REF, --apps-json FILE or --supervisor-image REF")
    if inputs.replace and inputs.apps_json is None:
        raise UsageError("--replace replaces one apps.json's images by another's: give --apps-json FILE with it")
    if inputs.supervisor_version is not None and inputs.supervisor_image is None:
        raise UsageError("--supervisor-version says something about --supervisor-image, which is missing")
    with ExitStack() as stack:
        registry = RegistrySource(
            RegistryOptions(insecure_registries=inputs.insecure_registries, ca_files=inputs.certificates)
        )
        stack.callback(registry.close)
        platform = _platform(inputs)
        requests = list(_supervisor_requests(inputs, registry, platform, stack))
        requests += _image_requests(inputs.images, registry, stack)
        files: tuple[ExtraFile, ...] = ()
        if inputs.apps_json is not None:
            apps = read_apps_json(read_file(inputs.apps_json), str(inputs.apps_json))
            if not apps.services:
                render.warning(f"{inputs.apps_json} names no service, so no image is preloaded for it")
            requests += [ImageRequest(reference, registry) for reference in apps.images]
            files = (ExtraFile(b"apps.json", apps.content),)
        yield Job(
            tuple(dict.fromkeys(requests)),
            platform,
            target,
            files,
            previous_images if inputs.replace else None,
            additional_space,
            source_date_epoch(),
            None if inputs.no_index else LayerIndex(_cache_directory()),
        )


def _cache_directory() -> Path:
    """Where the index of layers lies: ``DRYPOINT_CACHE``, else the user's cache directory, as XDG_CACHE_HOME has it."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("DRYPOINT_CACHE")
    return Path(chosen) if chosen else user_cache_path("drypoint")


def source_date_epoch() -> int | None:
    """The environment's ``SOURCE_DATE_EPOCH`` in seconds, see reproducible-builds.org/specs/source-date-epoch.

    Raises:
        UsageError: it is set to no number of seconds, or one that ext4 cannot note.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= LATEST):
        raise UsageError(f"SOURCE_DATE_EPOCH is {text[:40]!r}, expected whole seconds since 1970, at most {LATEST}")
    return int(text)


def _image_requests(images: Sequence[str], registry: ImageSource, stack: ExitStack) -> Iterator[ImageRequest]:
    for text in images:
        location = parse_location(text)
        if isinstance(location, Reference):
            yield ImageRequest(location, registry)
            continue
        archive = open_archive(location)
        stack.callback(archive.close)
        for reference in archive.references:
            yield ImageRequest(reference, archive)


def _supervisor_requests(
    inputs: Inputs, registry: ImageSource, platform: Platform, stack: ExitStack
) -> Iterator[ImageRequest]:
    if inputs.supervisor_image is None:
        return
    found = list(_image_requests([inputs.supervisor_image], registry, stack))
    if len(found) != 1:
        raise UsageError(f"--supervisor-image {inputs.supervisor_image} names {len(found)} images; it has to be one")
    request = found[0]
    version = inputs.supervisor_version or version_of(
        request.reference, request.source.resolve(request.reference, platform)
    )
    if version is None:
        raise UsageError(
            f"neither the tag of {request.reference} nor the image says the Supervisor's version; give --supervisor-version"
        )
    yield ImageRequest(request.reference, request.source, supervisor_tags(request.reference, version))


def _platform(inputs: Inputs) -> Platform:
    if inputs.platform is not None:
        return parse_platform(inputs.platform)
    with FileDevice(inputs.base) as device:
        device_type = read_device_type(device)
    return device_type.platform if device_type is not None else parse_platform(_DEFAULT_PLATFORM)


def data_root_path(text: str) -> bytes:
    """The clean path that ``--data-root`` means.

    Raises:
        UsageError: it leads out of the partition.
    """
    try:
        return clean_path(os.fsencode(text))
    except ValueError as error:
        raise UsageError(f"--data-root {text!r}: {error}") from error


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(match[1]) > 18:
        raise UsageError(f"--additional-space {text[:40]!r}: expected a number of bytes, or one with K, M, G or T")
    return int(match[1]) * _SIZE_FACTORS[match[2].lower()]


def read_file(path: Path) -> bytes:
    """A small file that an option names, with one byte more than is taken at most, so that its reader sees it is too large.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
