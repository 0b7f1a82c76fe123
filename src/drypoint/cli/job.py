"""Making the request of a job from the options."""

from __future__ import annotations

import os
import re

from .. import BootRequest, LayerIndex, clean_path, index_directory, parse_limits, parse_platform, source_date_epoch
from ..balena.request import BalenaRequest
from ..errors import UsageError
from .cloud_options import CloudInputs
from .options import Inputs

_SIZE = re.compile(r"(\d+)([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZE_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def balena_request(
    inputs: Inputs, boot: BootRequest, cloud: CloudInputs, *, shrink_to_fit: bool = False
) -> BalenaRequest:
    """The request that the options make.

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
        timestamp=source_date_epoch(os.environ),
        index=None if inputs.no_index else LayerIndex(index_directory(os.environ)),
        limits=parse_limits(inputs.limits),
    )


def data_root_path(text: str | None) -> bytes | None:
    """The clean path of ``--data-root``; None if it is not given.

    Raises:
        UsageError: it leads out of the partition.
    """
    if text is None:
        return None
    try:
        return clean_path(os.fsencode(text))
    except ValueError as error:
        raise UsageError(f"--data-root {text!r}: {error}") from error


def usable_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(match[1]) > 18:
        raise UsageError(f"--additional-space {text[:40]!r}: expected a number of bytes, or one with K, M, G or T")
    return int(match[1]) * _SIZE_FACTORS[match[2].lower()]
