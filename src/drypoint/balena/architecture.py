"""The check that the disk image's device can run the preloaded images.

Source: balena-sdk, src/models/os.ts (``isArchitectureCompatibleWith``): a 64-bit ARM device runs programs for 32-bit ARM, an
ARMv7 device those for ARMv6; and an amd64 processor runs i386 programs.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..errors import UsageError
from ..oci import Image, Platform
from .device_type import DeviceType

_ALSO_RUNS = {
    "aarch64": frozenset(("armv7hf", "rpi")),
    "amd64": frozenset(("i386", "i386-nlp")),
    "armv7hf": frozenset(("rpi",)),
    "i386": frozenset(("i386-nlp",)),
}
_NAMES = {"arm64": "aarch64", "amd64": "amd64", "386": "i386"}
_ARM_NAMES = {"v8": "armv7hf", "v7": "armv7hf", "v6": "rpi", "v5": "rpi"}
_WAY_OUT = "If that is what you want, say --dont-check-arch"
_SHOWN = 10


class NeededArchitecture(msgspec.Struct, frozen=True):
    """The architecture of a fleet: its name, its device type's slug, and the processor of that in balena's words."""

    fleet: str
    device_type: str
    arch: str


def runs_on(device: str, program: str) -> bool:
    """Whether a device of architecture *device* runs programs built for *program*; both in balena's words."""
    return device == program or program in _ALSO_RUNS.get(device, frozenset())


def check_architecture(
    device_type: DeviceType | None, fleets: Sequence[NeededArchitecture] = (), images: Sequence[Image] = ()
) -> None:
    """Check that the device runs the fleets' releases and the images.

    Unknown architectures are not checked: a disk image or a fleet without a device type, an image that names no processor, or
    an ARM image without a variant.

    Raises:
        UsageError: it does not; everything that does not fit is named.
    """
    if device_type is None:
        return
    device = device_type.arch
    faults = [
        f"the fleet {need.fleet[:100]} is for {need.device_type[:80]} ({need.arch[:40]})"
        for need in fleets
        if need.arch and not runs_on(device, need.arch)
    ]
    faults += [
        f"the image {image.references[0] if image.references else image.image_id} is for {image.config.platform}"
        for image in images
        if not _image_runs_on(device, image.config.platform)
    ]
    if faults:
        shown = "\n".join(f"  {text}" for text in faults[:_SHOWN])
        rest = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise UsageError(
            f"the disk image is for {device_type.slug[:80]} ({device[:40]}), which does not run everything:\n{shown}{rest}\n"
            f"{_WAY_OUT}"
        )


def _image_runs_on(device: str, platform: Platform) -> bool:
    if device not in _ALSO_RUNS and device not in ("rpi", "i386-nlp"):
        return True
    if not platform.architecture:
        return True
    if platform.architecture == "arm" and not platform.variant:
        return device in ("aarch64", "armv7hf", "rpi")
    known = platform.normalized()
    name = _ARM_NAMES.get(known.variant) if known.architecture == "arm" else _NAMES.get(known.architecture)
    return name is not None and runs_on(device, name)
