"""From options to the arguments of a preload."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from ..balena.apps_json import AppsJson
from ..balena.compatibility import fit
from ..balena.demand import AppsJsonDemand
from ..balena.device_type import DeviceType, read_device_type
from ..balena.effects import effects
from ..balena.first_boot import first_boot, pinned_release
from ..balena.flasher import find_flasher, pinning_file
from ..balena.previous import previous_images
from ..balena.running_supervisor import RunningSupervisor
from ..balena.supervisor_image import supervisor_tags, version_of
from ..digest import Digest
from ..disk import Device
from ..errors import ImageNotFoundError, UsageError
from ..fstree import clean_path
from ..fstree.extra_file import ExtraFile
from ..jobs.request import ImageRequest, PreloadRequest
from ..jobs.timestamps import LATEST
from ..oci import Image, Platform, Reference, parse_platform
from ..progress import Progress
from ..sizing.layer_index import LayerIndex
from ..sources import ImageSource, OciLayoutSource, open_archive, parse_location
from ..sources.compose import MAX_BYTES as MAX_COMPOSE_BYTES
from ..sources.compose import read_compose
from ..sources.dotenv import MAX_ENVIRONMENT_BYTES, read_environment
from ..sources.registry import RegistryOptions, RegistrySource
from ..stores.overlay2 import StoreState
from ..volumes.target import DEFAULT_PARTITION, Container, Target
from . import render
from .apps import architecture_check, coming_config, supervisor_of, wanted_apps, warn_of_first_boot, warn_of_plain_http
from .boot_options import BootInputs, boot_files
from .cloud_options import CloudInputs
from .files import read_file
from .options import DEFAULT_PLATFORM, Inputs

_SIZE = re.compile(r"(\d+)([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZE_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True)
class App:
    """What a balena device will run: apps.json as its Supervisor reads it.

    Attributes:
        installed: whether a flasher puts it onto the device first.
        config: the config.json that the device boots with, if it is known.
    """

    apps: AppsJson
    supervisor: RunningSupervisor
    installed: bool
    config: bytes | None = field(repr=False)

    @property
    def container_files(self) -> tuple[ExtraFile, ...]:
        """What a flasher is given in addition."""
        release = pinned_release(self.apps) if self.installed else None
        return () if release is None else (pinning_file(release),)

    def outlook(self, images: Sequence[Image], sizes: Mapping[Digest, int] | None = None) -> str:
        """What was preloaded, and how the device will behave on first boot.

        Args:
            images: what was asked for, resolved.
            sizes: bytes that layers take in the engine's store, by chain-id, as far as they are known.
        """
        known = {reference: image for image in images for reference in image.references}
        return first_boot(
            self.apps,
            self.supervisor.version,
            installs=self.installed,
            config=self.config,
            images=known,
            sizes=sizes,
        )


class Job(msgspec.Struct, frozen=True):
    """What the options stand for."""

    request: PreloadRequest
    app: App | None


@contextmanager
def job(
    inputs: Inputs,
    base: Device | None,
    boot: BootInputs,
    cloud: CloudInputs,
    progress: Progress,
    known: StoreState | None = None,
    *,
    shrink_to_fit: bool = False,
) -> Iterator[Job]:
    """Open what the options name.

    Args:
        base: the disk image; None if it cannot be looked into, and ``--platform`` is given.
        known: the store on such a disk image, if it is known already.

    Raises:
        UsageError: they contradict each other, or a file or name is not what it should be.
        SourceError, ContentError: an archive cannot be read, or a server does not give what it is asked for.
        DiskImageError: the base is not a disk image, or one that must not be changed.
    """
    _check(inputs, boot, cloud)
    additional_space = _size(inputs.additional_space)
    options = RegistryOptions(insecure_registries=inputs.insecure_registries, ca_files=inputs.certificates)
    with ExitStack() as stack:
        target = Target(inputs.data_partition, data_root_path(inputs.data_root), _container(inputs, base))
        device_type = None if base is None else read_device_type(base)
        platform = _platform(inputs, device_type)
        wanted = stack.enter_context(wanted_apps(inputs.apps_json, cloud, options, progress))
        check = None if cloud.dont_check_arch else architecture_check(device_type, wanted.needs)
        registry = RegistrySource(replace(options, token_provider=wanted.token_provider))
        stack.callback(registry.close)
        supervisor = supervisor_request(inputs, registry, platform, stack)
        requests = [] if supervisor is None else [supervisor]
        at_hand = _AtHand(() if wanted.apps is None else wanted.apps.images, registry, platform)
        requests += _image_requests(inputs.images, registry, at_hand, stack)
        requests += [ImageRequest(reference, registry) for reference in _compose_images(inputs)]
        fat_files = () if base is None else boot_files(boot, base)
        apps = None
        if wanted.apps is not None:
            given = inputs.supervisor_version or (None if supervisor is None else _tagged_version(supervisor))
            reads = supervisor_of(given, base, target, known, comes=supervisor is not None)
            config = coming_config(base, fat_files)
            fitting = fit(wanted.apps, reads.version, said_by=reads.said_by)
            apps = App(fitting, reads, target.container is not None, config)
            for effect in effects(fitting, reads.version):
                render.warning(effect)
            requests += [at_hand.request(reference) for reference in apps.apps.images]
            warn_of_first_boot(apps.apps, config)
        warn_of_plain_http(base, fat_files, has_apps=apps is not None)
        request = PreloadRequest(
            tuple(dict.fromkeys(requests)),
            platform,
            target=target,
            files=() if apps is None else (ExtraFile(b"apps.json", apps.apps.content),),
            container_files=() if apps is None else apps.container_files,
            fat_files=fat_files,
            replaced=previous_images if inputs.replace else None,
            additional_space=additional_space,
            shrink_to_fit=shrink_to_fit,
            timestamp=source_date_epoch(),
            index=None if inputs.no_index else LayerIndex(_cache_directory()),
            check_images=check,
            demand=None if apps is None else AppsJsonDemand(supervisor=apps.supervisor),
        )
        yield Job(request, apps)


def _check(inputs: Inputs, boot: BootInputs, cloud: CloudInputs) -> None:
    has_apps = bool(inputs.apps_json) or cloud.names_apps
    if not (has_apps or inputs.images or inputs.compose or inputs.supervisor_image or not boot.is_empty):
        raise UsageError(
            "nothing to preload: give --fleet ORG/FLEET, --apps-json FILE, --image REF, --compose FILE or "
            "--supervisor-image REF"
        )
    if inputs.replace and not has_apps:
        raise UsageError("--replace needs the new release: give --apps-json FILE or --fleet ORG/FLEET with it")
    if inputs.supervisor_version is not None and inputs.supervisor_image is None and not has_apps:
        raise UsageError("--supervisor-version needs --supervisor-image REF, --apps-json FILE or --fleet ORG/FLEET")


def _container(inputs: Inputs, base: Device | None) -> Container | None:
    """Where in a flasher the disk image is that it installs; None if another partition than the default is named."""
    if base is None or inputs.data_partition != DEFAULT_PARTITION:
        return None
    flasher = find_flasher(base)
    if flasher is None:
        return None
    if flasher.note is not None:
        render.warning(flasher.note)
    return flasher.container


def _tagged_version(supervisor: ImageRequest) -> str | None:
    return supervisor.tags[-1].tag


def _compose_images(inputs: Inputs) -> tuple[Reference, ...]:
    if inputs.compose is None:
        return ()
    beside = inputs.compose.parent / ".env"
    environment: dict[str, str] = {}
    if beside.is_file():
        environment = read_environment(read_file(beside, MAX_ENVIRONMENT_BYTES), str(beside), os.environ)
    found = read_compose(
        read_file(inputs.compose, MAX_COMPOSE_BYTES), str(inputs.compose), {**environment, **os.environ}
    )
    if found.left_out:
        render.warning(
            f"{inputs.compose}: not preloaded, because these services have a profile: {', '.join(found.left_out)}"
        )
    return found.images


def _cache_directory() -> Path:
    """The directory of the layer index: ``DRYPOINT_CACHE``, else the user's cache directory, as XDG_CACHE_HOME has it."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("DRYPOINT_CACHE")
    return Path(chosen) if chosen else user_cache_path("drypoint")


def source_date_epoch() -> int | None:
    """The environment's ``SOURCE_DATE_EPOCH`` in seconds, see reproducible-builds.org/specs/source-date-epoch.

    Raises:
        UsageError: it is not a number of seconds, or more than ext4 can store.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= LATEST):
        raise UsageError(f"SOURCE_DATE_EPOCH is {text[:40]!r}, expected whole seconds since 1970, at most {LATEST}")
    return int(text)


class _AtHand:
    """Which images of apps.json are in OCI layouts on this machine, by their digest; the others are the registry's to give."""

    def __init__(self, wanted: Sequence[Reference], registry: ImageSource, platform: Platform) -> None:
        self._wanted = wanted
        self._registry = registry
        self._platform = platform
        self._found: dict[Reference, ImageSource] = {}

    def look_in(self, layout: OciLayoutSource) -> bool:
        """Whether *layout* has any of them."""
        found = False
        for reference in self._wanted:
            if reference.digest is None:
                continue
            try:
                layout.resolve(reference, self._platform)
            except ImageNotFoundError:
                continue
            self._found.setdefault(reference, layout)
            found = True
        return found

    def request(self, reference: Reference) -> ImageRequest:
        return ImageRequest(reference, self._found.get(reference, self._registry))


def _image_requests(
    images: Sequence[str], registry: ImageSource, at_hand: _AtHand, stack: ExitStack
) -> Iterator[ImageRequest]:
    for text in images:
        location = parse_location(text)
        if isinstance(location, Reference):
            yield ImageRequest(location, registry)
            continue
        archive = open_archive(location)
        stack.callback(archive.close)
        if location.name is None and isinstance(archive, OciLayoutSource) and at_hand.look_in(archive):
            # What else is in it was not asked for.
            continue
        for reference in archive.references:
            yield ImageRequest(reference, archive)


def supervisor_request(
    inputs: Inputs, registry: ImageSource, platform: Platform, stack: ExitStack
) -> ImageRequest | None:
    """The Supervisor's image that is to be put in, with the names that balenaOS gives it; None if none is."""
    if inputs.supervisor_image is None:
        return None
    found = list(_image_requests([inputs.supervisor_image], registry, _AtHand((), registry, platform), stack))
    if len(found) != 1:
        raise UsageError(f"--supervisor-image {inputs.supervisor_image} names {len(found)} images; expected one")
    request = found[0]
    version = inputs.supervisor_version or version_of(
        request.reference, request.source.resolve(request.reference, platform)
    )
    if version is None:
        raise UsageError(
            f"neither the tag of {request.reference} nor the image says the Supervisor's version; give --supervisor-version"
        )
    return ImageRequest(request.reference, request.source, supervisor_tags(request.reference, version))


def _platform(inputs: Inputs, device_type: DeviceType | None) -> Platform:
    if inputs.platform is not None:
        return parse_platform(inputs.platform)
    return device_type.platform if device_type is not None else parse_platform(DEFAULT_PLATFORM)


def data_root_path(text: str | None) -> bytes | None:
    """The clean path that ``--data-root`` means; None where it is not given.

    Raises:
        UsageError: it leads out of the partition.
    """
    if text is None:
        return None
    try:
        return clean_path(os.fsencode(text))
    except ValueError as error:
        raise UsageError(f"--data-root {text!r}: {error}") from error


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(match[1]) > 18:
        raise UsageError(f"--additional-space {text[:40]!r}: expected a number of bytes, or one with K, M, G or T")
    return int(match[1]) * _SIZE_FACTORS[match[2].lower()]
