"""An in-process registry on loopback, with faults to plant.

Protocol: OCI distribution-spec 1.1, the pulling half.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..digest import Digest


@dataclass(slots=True)
class RegistryContent:
    """What a registry holds.

    Attributes:
        blobs: layers and configs by digest, in memory or as files.
        manifests: by repository path (``team/app``, no domain) and tag or digest: media type and exact bytes. A manifest that
            is to be had by both has two entries.
    """

    blobs: dict[Digest, bytes | Path] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
