"""What the options mean together."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..balena.apps_json import MAX_BYTES, read_apps_json
from ..balena.device_type import read_device_type
from ..balena.flasher import find_flasher
from ..balena.previous import previous_images
from ..balena.supervisor_image import supervisor_tags, version_of
from ..disk import Device
from ..errors import UsageError
from ..fstree import clean_path
from ..oci import Platform, Reference, parse_platform
from ..preloading import DEFAULT_PARTITION, ExtraFile, FindReplaced, ImageRequest, LayerIndex, Target
from ..preloading.moment import LATEST
from ..preloading.request import Container, FatFile
from ..sources import ImageSource, open_archive, parse_location
from ..sources.compose import read_compose, read_environment
from ..sources.registry import RegistryOptions, RegistrySource
from . import render
from .boot_options import BootInputs, boot_files
from .options import DEFAULT_PLATFORM, Inputs

_SIZE = re.compile(r"(\d+)([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZE_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True)
class Job:
    """What the options mean, ready for :func:`drypoint.preload`."""

    requests: tuple[ImageRequest, ...]
    platform: Platform
    target: Target
    files: tuple[ExtraFile, ...]
    fat_files: tuple[FatFile, ...]
    replaced: FindReplaced | None
    additional_space: int
    timestamp: int | None
    index: LayerIndex | None


@contextmanager
def job(inputs: Inputs, base: Device | None, boot: BootInputs | None = None) -> Iterator[Job]:
    """Open what the options name.

    Args:
        base: the disk image; None if it cannot be looked into, and ``--platform`` is given.

    Raises:
        UsageError: they contradict each other, or a file or name is not what it should be.
        SourceError, ContentError: an archive cannot be read.
        DiskImageError: the base is no disk image, or one that must not be changed.
    """
    _check(inputs, boot)
    data_root, additional_space = data_root_path(inputs.data_root), _size(inputs.additional_space)
    with ExitStack() as stack:
        registry = RegistrySource(
            RegistryOptions(insecure_registries=inputs.insecure_registries, ca_files=inputs.certificates)
        )
        stack.callback(registry.close)
        platform = _platform(inputs, base)
        requests = list(_supervisor_requests(inputs, registry, platform, stack))
        requests += _image_requests(inputs.images, registry, stack)
        requests += [ImageRequest(reference, registry) for reference in _compose_images(inputs)]
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
            Target(inputs.data_partition, data_root, _container(inputs, base)),
            files,
            () if boot is None or base is None else boot_files(boot, base),
            previous_images if inputs.replace else None,
            additional_space,
            source_date_epoch(),
            None if inputs.no_index else LayerIndex(_cache_directory()),
        )


def _check(inputs: Inputs, boot: BootInputs | None) -> None:
    wanted = (inputs.images, inputs.apps_json, inputs.compose, inputs.supervisor_image)
    if not any(wanted) and (boot is None or boot.is_empty):
        raise UsageError(
            "nothing to put in: give --image REF, --apps-json FILE, --compose FILE or --supervisor-image REF"
        )
    if inputs.replace and inputs.apps_json is None:
        raise UsageError("--replace replaces one apps.json's images by another's: give --apps-json FILE with it")
    if inputs.supervisor_version is not None and inputs.supervisor_image is None:
        raise UsageError("--supervisor-version says something about --supervisor-image, which is missing")


def _container(inputs: Inputs, base: Device | None) -> Container | None:
    """Where in a flasher the disk image lies that it installs. Whoever names another partition means the disk image itself."""
    if base is None or inputs.data_partition != DEFAULT_PARTITION:
        return None
    flasher = find_flasher(base)
    if flasher is None:
        return None
    if flasher.note is not None:
        render.warning(flasher.note)
    return flasher.container


def _compose_images(inputs: Inputs) -> tuple[Reference, ...]:
    if inputs.compose is None:
        return ()
    beside = inputs.compose.parent / ".env"
    environment = read_environment(read_file(beside), str(beside)) if beside.is_file() else {}
    found = read_compose(read_file(inputs.compose), str(inputs.compose), {**environment, **os.environ})
    if found.left_out:
        render.warning(f"{inputs.compose}: left out, since they start only with a profile: {', '.join(found.left_out)}")
    return found.images


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


def _platform(inputs: Inputs, base: Device | None) -> Platform:
    if inputs.platform is not None:
        return parse_platform(inputs.platform)
    device_type = None if base is None else read_device_type(base)
    return device_type.platform if device_type is not None else parse_platform(DEFAULT_PLATFORM)


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
