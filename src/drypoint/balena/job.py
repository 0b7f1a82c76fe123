"""The conversion of a balena user's request to a :class:`~drypoint.PreloadRequest`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from ..digest import Digest
from ..disk import Device
from ..disk.host.input_files import read_file
from ..disk.host.output import whole_file
from ..errors import OutputError, UsageError
from ..fstree.extra_file import ExtraFile
from ..jobs.pack_base import UnreadBase
from ..jobs.request import CheckImages, ImageRequest, PreloadRequest
from ..oci import Image, Platform, parse_platform
from ..progress import SILENT, Progress
from ..sources.registry import RegistryOptions, RegistrySource
from ..volumes.fat_files import FatFile
from ..volumes.target import DEFAULT_PARTITION, Container, Target
from .apps_json import ANY_VERSION, MAX_BYTES, AppsJson, read_apps_json
from .apps_json_images import AppsJsonImages
from .apps_supervisor import Warn, supervisor_of
from .architecture import NeededArchitecture, check_architecture
from .boot import read_config
from .boot_config import CONFIG_FILE, other_fleet_warning, plain_http_warning
from .boot_request import boot_files
from .cloud_states import CloudStates, cloud_states
from .compatibility import fit
from .device_type import DeviceType, read_device_type
from .effects import effects
from .first_boot import first_boot, pinned_release, pinning_warning
from .flasher import find_flasher, pinning_file
from .previous import previous_images
from .request import DEFAULT_PLATFORM, BalenaRequest
from .running_supervisor import RunningSupervisor
from .wanted_images import AtHand, compose_images, image_requests, named_registries, supervisor_request

_APPS_JSON = b"apps.json"


@dataclass(frozen=True, slots=True)
class FirstBoot:
    """What a balena device runs at first boot: apps.json as its Supervisor reads it.

    Attributes:
        installed: whether a flasher installs it on the device first.
        config: the config.json that the device boots with, if known.
    """

    apps: AppsJson
    supervisor: RunningSupervisor
    installed: bool
    config: bytes | None = field(repr=False)

    @property
    def container_files(self) -> tuple[ExtraFile, ...]:
        """Additional files for a flasher."""
        release = pinned_release(self.apps) if self.installed else None
        return () if release is None else (pinning_file(release),)

    def report(self, images: Sequence[Image], sizes: Mapping[Digest, int] | None = None) -> str:
        """A text on what was preloaded, and how the device will behave at first boot.

        Args:
            images: the requested images, resolved.
            sizes: bytes of layers in the engine's store, by chain-id, as far as known.
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


class BalenaPreload(msgspec.Struct, frozen=True):
    """The result of a :class:`BalenaRequest`.

    Attributes:
        request: for :func:`~drypoint.preload`, :func:`~drypoint.plan` and :func:`~drypoint.pack`.
        first_boot: how the device will behave; None if only images are preloaded.
        unseen: for :func:`~drypoint.pack`: whether the disk image may hold an unknown store.
    """

    request: PreloadRequest
    first_boot: FirstBoot | None
    unseen: bool = False


@contextmanager
def preload_request(
    wanted: BalenaRequest,
    base: Device | UnreadBase,
    options: RegistryOptions | None = None,
    *,
    warn: Warn | None = None,
    progress: Progress = SILENT,
) -> Iterator[BalenaPreload]:
    """Resolve *wanted* for the disk image *base*, with the API server and the archives that it names.

    The sources of the request are valid inside the block.

    Args:
        base: the disk image, which is only read.
        options: of the network, for the API server and the registries.
        warn: gets each warning, a sentence; default: notes of *progress*.

    Raises:
        UsageError: the request contradicts itself or the disk image, or a file or name is malformed.
        SourceError, ContentError: an archive cannot be read, or a server refuses a request.
        DiskImageError: the base is not a disk image, or must not be changed.
        OutputError: the apps.json cannot be saved.
    """
    options = RegistryOptions() if options is None else options
    if warn is None:

        def warn(text: str) -> None:
            progress.note(f"warning: {text}")

    if isinstance(base, UnreadBase):
        device, known, unseen = None, base.store, _is_unseen(wanted, base, warn)
    else:
        device, known, unseen = base, None, False
    with ExitStack() as stack:
        target = Target(wanted.data_partition, wanted.data_root, _container(wanted, device, warn))
        device_type = None if device is None else read_device_type(device)
        platform = _platform(wanted, device_type)
        composed = compose_images(wanted.compose, warn)
        callers = named_registries(wanted, composed)
        states = stack.enter_context(_states(wanted, options, callers, progress, warn))
        check = _architecture_check(device_type, states.needs) if wanted.check_architecture else None
        registry = RegistrySource(replace(options, token_provider=states.token_provider), states.named_from)
        stack.callback(registry.close)
        supervisor = supervisor_request(wanted, registry, platform, stack)
        requests = [] if supervisor is None else [supervisor]
        at_hand = AtHand(() if states.apps is None else states.apps.images, registry, platform)
        requests += image_requests(wanted.images, registry, at_hand, stack)
        requests += [ImageRequest(reference, registry) for reference in composed]
        fat_files = () if device is None else boot_files(wanted.boot, device)
        apps = None
        if states.apps is not None:
            given = wanted.supervisor_version or (None if supervisor is None else supervisor.tags[-1].tag)
            reads = supervisor_of(given, device, target, known, warn, comes=supervisor is not None)
            apps = _first_boot(states.apps, reads, target, _coming_config(device, fat_files), warn)
            requests += [at_hand.request(reference) for reference in apps.apps.images]
        _warn_of_plain_http(device, fat_files, warn, has_apps=apps is not None)
        request = PreloadRequest(
            tuple(dict.fromkeys(requests)),
            platform,
            target=target,
            files=() if apps is None else (ExtraFile(_APPS_JSON, apps.apps.content),),
            container_files=() if apps is None else apps.container_files,
            fat_files=fat_files,
            replaced=previous_images if wanted.replace else None,
            additional_space=wanted.additional_space,
            shrink_to_fit=wanted.shrink_to_fit,
            timestamp=wanted.timestamp,
            index=wanted.index,
            limits=wanted.limits,
            check_images=check,
            required_images=None if apps is None else AppsJsonImages(supervisor=apps.supervisor),
        )
        yield BalenaPreload(request, apps, unseen)


def _is_unseen(wanted: BalenaRequest, base: UnreadBase, warn: Warn) -> bool:
    """Whether the store on *base* is unknown, and its Supervisor is preloaded again.

    Raises:
        UsageError: the request needs a base that can be read.
    """
    if wanted.platform is None:
        raise UsageError(f"{base.name} cannot be read before it is passed on: give --platform OS/ARCH")
    if not wanted.boot.is_empty:
        raise UsageError(
            f"{base.name} cannot be read before it is passed on, so its boot partition cannot be changed: pack a plain "
            "disk image file, or leave out the options for the boot partition"
        )
    if base.store is not None or wanted.supervisor_image is None:
        return False
    warn(
        f"what {base.name} holds is not known: the Supervisor is preloaded again, the layers of an existing one become "
        "orphans, and no layer is shared; --base-manifest FILE avoids that"
    )
    return True


@contextmanager
def _states(
    wanted: BalenaRequest, options: RegistryOptions, callers: Collection[str], progress: Progress, warn: Warn
) -> Iterator[CloudStates]:
    """The requested target states, from files and the server."""
    # Imported late: a job without a fleet does not need the API's client.
    from .cloud import StateRequest

    files = [
        (str(path), read_apps_json(read_file(path, MAX_BYTES), str(path), ANY_VERSION)) for path in wanted.apps_json
    ]
    asked = StateRequest(wanted.fleets, wanted.commit, wanted.device, wanted.pin_device)
    with cloud_states(asked, wanted.server, options, files, callers, progress) as found:
        if found.apps is not None and wanted.save_apps_json is not None:
            _save(wanted.save_apps_json, found.apps.content)
        for note in found.notes:
            progress.note(note)
        if found.apps is not None and not found.apps.services:
            warn("apps.json names no service, so it adds no image")
        yield found


def _first_boot(
    apps: AppsJson, reads: RunningSupervisor, target: Target, config: bytes | None, warn: Warn
) -> FirstBoot:
    """The first boot of *apps*, which is fitted to the Supervisor *reads*."""
    fitting = fit(apps, reads.version, said_by=reads.said_by)
    for effect in effects(fitting, reads.version):
        warn(effect)
    for warning in (other_fleet_warning(config, fitting), pinning_warning(fitting)):
        if warning is not None:
            warn(warning)
    return FirstBoot(fitting, reads, target.container is not None, config)


def _container(wanted: BalenaRequest, base: Device | None, warn: Warn) -> Container | None:
    """The place of the disk image that a flasher installs; None if another partition than the default is requested."""
    if base is None or wanted.data_partition != DEFAULT_PARTITION:
        return None
    flasher = find_flasher(base)
    if flasher is None:
        return None
    if flasher.note is not None:
        warn(flasher.note)
    return flasher.container


def _platform(wanted: BalenaRequest, device_type: DeviceType | None) -> Platform:
    if wanted.platform is not None:
        return wanted.platform
    return device_type.platform if device_type is not None else parse_platform(DEFAULT_PLATFORM)


def _architecture_check(device_type: DeviceType | None, needs: Sequence[NeededArchitecture]) -> CheckImages:
    """Check the fleets' architectures now; the returned check is for the images, once they are known.

    Raises:
        UsageError: the device cannot run the fleets' images.
    """
    check_architecture(device_type, needs)

    def check(images: Sequence[Image]) -> None:
        check_architecture(device_type, (), images)

    return check


def _coming_config(base: Device | None, fat_files: Iterable[FatFile]) -> bytes | None:
    """The config.json that the device will boot with, new or existing; None if there is none, or it is unknown."""
    coming = next((file.content for file in fat_files if file.path == CONFIG_FILE), None)
    return coming if coming is not None or base is None else read_config(base)


def _warn_of_plain_http(base: Device | None, fat_files: Iterable[FatFile], warn: Warn, *, has_apps: bool) -> None:
    """Warn if config.json names the server with plain http: a new one, or the existing one if there are apps."""
    files = tuple(fat_files)
    if not has_apps and not any(file.path == CONFIG_FILE for file in files):
        return
    warning = plain_http_warning(_coming_config(base, files))
    if warning is not None:
        warn(warning)


def _save(path: Path, content: bytes) -> None:
    with whole_file(path, overwrite=True) as part:
        # It may hold variables of the fleet, which only its members may see.
        part.path.chmod(0o600)
        try:
            part.path.write_bytes(content)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
