"""Platforms, and which image of an index serves one.

Format: OCI image-spec, image-index.md; variants as containerd's platforms package normalises them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError

_ARCHITECTURE_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7hf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "rpi": ("arm", "v6"),
}
_DEFAULT_VARIANT = {"arm": "v7", "arm64": "v8"}


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and processor, in the image-spec's words; no variant is the empty string."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def parse_platform(text: str) -> Platform:
    """Read ``linux/arm64``, ``linux/arm/v7`` or a lone architecture, with the common aliases (``aarch64``, ``armv7hf``).

    Raises:
        UsageError: *text* is none of these.
    """
    parts = text.split("/")
    if len(parts) == 1:
        parts = ["linux", *parts]
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise UsageError(f"{text!r} is not a platform: expected OS/ARCHITECTURE[/VARIANT], for example linux/arm64")
    os, architecture, *rest = (part.lower() for part in parts)
    alias = _ARCHITECTURE_ALIASES.get(architecture)
    variant = rest[0] if rest else ""
    if alias:
        architecture = alias[0]
        variant = variant or alias[1]
    return Platform(os, architecture, variant)


def preference(wanted: Platform, offered: Platform) -> int | None:
    """How well *offered* serves *wanted*: 0 is exact, larger is worse, None is not at all.

    A 32-bit ARM machine runs images for older variants; every other architecture takes its own variant, or one not named.
    """
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    default = _DEFAULT_VARIANT.get(wanted.architecture, "")
    want, have = wanted.variant or default, offered.variant or default
    if want == have:
        return 0
    if wanted.architecture != "arm":
        return None
    distance = _arm_generation(want) - _arm_generation(have)
    return distance if distance > 0 else None


def _arm_generation(variant: str) -> int:
    digits = variant.removeprefix("v")
    return int(digits) if digits.isdecimal() and len(digits) <= 2 else 0
