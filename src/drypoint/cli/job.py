"""From options to what is asked for."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..balena.boot_request import BootRequest
from ..balena.request import BalenaRequest
from ..errors import UsageError
from ..fstree import clean_path
from ..jobs.timestamps import LATEST
from ..oci import parse_platform
from ..sizing.layer_index import LayerIndex
from ..sources.registry import RegistryOptions
from .cloud_options import CloudInputs
from .options import Inputs

_SIZE = re.compile(r"(\d+)([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZE_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def balena_request(
    inputs: Inputs, boot: BootRequest, cloud: CloudInputs, *, shrink_to_fit: bool = False
) -> BalenaRequest:
    """What the options ask for.

    Raises:
        UsageError: one of them is not what it should be, or they contradict each other.
    """
    return BalenaRequest(
        fleets=cloud.fleets,
        commit=cloud.commit,
        device=cloud.device,
        pin_device=cloud.pin_device_to_release,
        apps_json=inputs.apps_json,
        images=inputs.images,
        compose=inputs.compose,
        supervisor_image=inputs.supervisor_image,
        supervisor_version=inputs.supervisor_version,
        boot=boot,
        replace=inputs.replace,
        check_architecture=not cloud.dont_check_arch,
        save_apps_json=cloud.save_apps_json,
        server=cloud.server,
        platform=None if inputs.platform is None else parse_platform(inputs.platform),
        data_partition=inputs.data_partition,
        data_root=data_root_path(inputs.data_root),
        additional_space=_size(inputs.additional_space),
        shrink_to_fit=shrink_to_fit,
        timestamp=source_date_epoch(),
        index=None if inputs.no_index else LayerIndex(_cache_directory()),
    )


def registry_options(inputs: Inputs) -> RegistryOptions:
    """How the network is reached."""
    return RegistryOptions(
        insecure_registries=inputs.insecure_registries,
        allowed_hosts=inputs.allowed_hosts,
        ca_files=inputs.certificates,
    )


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
