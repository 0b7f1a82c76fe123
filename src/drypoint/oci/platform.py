"""Platforms, and the choice of an image for one.

Format: OCI image-spec, image-index.md; names are normalised as in containerd's platforms package, which engines use.
"""

from __future__ import annotations

import re

import msgspec

from ..errors import UsageError

_COMPONENT = re.compile(r"[A-Za-z0-9_-]{1,64}")
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
_ARCHITECTURES = frozenset(
    [
        "386",
        "amd64",
        "arm",
        "arm64",
        "loong64",
        "mips",
        "mipsle",
        "mips64",
        "mips64le",
        "ppc64",
        "ppc64le",
        "riscv64",
        "s390x",
    ]
)
_LADDERS = {"arm": (5, 9), "amd64": (1, 4)}
"""Architectures whose machines run images for older variants, with the oldest and newest known variant."""


class Platform(msgspec.Struct, frozen=True):
    """An operating system and architecture, in the image-spec's words; the variant is "" if there is none."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def normalized(self) -> Platform:
        """The same platform in canonical spelling: lower case, aliases resolved, ``arm`` always with a variant, default
        variants (``arm64/v8``, ``amd64/v1``) left out."""
        os, architecture, variant = self.os.lower(), self.architecture.lower(), self.variant.lower()
        alias, alias_variant = _ARCHITECTURE_ALIASES.get(architecture, (architecture, ""))
        variant = alias_variant or variant
        if variant.isdecimal():
            variant = "v" + variant
        match alias, variant:
            case ("arm", ""):
                variant = "v7"
            case ("arm64", "v8") | ("amd64", "v1") | ("386", _):
                variant = ""
        return Platform("darwin" if os == "macos" else os, alias, variant)


def parse_platform(text: str) -> Platform:
    """Parse ``linux/arm64``, ``linux/arm/v7`` or a lone architecture, with the common aliases (``aarch64``, ``armv7hf``).

    Raises:
        UsageError: *text* is not one of these.
    """
    shown = text if len(text) <= 100 else text[:100] + "…"
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(_COMPONENT.fullmatch(part) for part in parts):
        raise UsageError(f"{shown!r} is not a platform: expected OS/ARCHITECTURE[/VARIANT], for example linux/arm64")
    platform = Platform(*(parts if len(parts) > 1 else ["linux", *parts])).normalized()
    if len(parts) == 1 and platform.architecture not in _ARCHITECTURES:
        raise UsageError(
            f"{shown!r} is not a known architecture; give the platform as OS/ARCHITECTURE[/VARIANT], for example linux/arm64"
        )
    return platform


def preference(wanted: Platform, offered: Platform) -> int | None:
    """How well *offered* fits *wanted*: 0 is exact, larger is worse, None is not at all.

    A 32-bit ARM machine runs images for older variants, an amd64 machine those for older levels; the newest is the best.
    In the rest engines differ, and the strictest rule is used: 20.10 takes an arm/v7 image for an arm/v6 machine, on
    which it crashes; 23 and later take arm images for arm64 and 386 images for amd64, which 20.10 refuses to pull.
    """
    wanted, offered = wanted.normalized(), offered.normalized()
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    if wanted.variant == offered.variant:
        return 0
    want, have = _generation(wanted), _generation(offered)
    return want - have if want and have and want > have else None


def runs(machine: Platform, image: Platform) -> bool:
    """Whether *machine* can run images for the platform *image*.

    As :func:`preference`, and a 64-bit processor also runs programs for its 32-bit variant (containerd's platforms package,
    ``compare.go``). An ARM image without a variant may be for any.
    """
    known, other = machine.normalized(), image.normalized()
    nested = (known.architecture, other.architecture) in (("arm64", "arm"), ("amd64", "386"))
    any_arm = known.architecture == "arm" and image.architecture.lower() == "arm" and not image.variant
    return ((nested or any_arm) and known.os == other.os) or preference(known, other) is not None


def _generation(platform: Platform) -> int | None:
    """The rank of the variant within its architecture; None if the variant is unknown."""
    oldest, newest = _LADDERS.get(platform.architecture, (1, 0))
    digits = (platform.variant or "v1").removeprefix("v")
    generation = int(digits) if digits.isdecimal() and len(digits) == 1 else 0
    return generation if oldest <= generation <= newest else None
