"""Every target by its name."""

from __future__ import annotations

from . import (
    boot_targets,
    change_targets,
    cloud_targets,
    disk_targets,
    etch_targets,
    file_targets,
    format_targets,
    image_targets,
    layer_targets,
    registry_targets,
    size_targets,
    store_targets,
)
from .planted import PLANTED
from .target import Target

ALL: tuple[Target, ...] = (
    *layer_targets.TARGETS,
    *change_targets.TARGETS,
    *image_targets.TARGETS,
    *registry_targets.TARGETS,
    *cloud_targets.TARGETS,
    *size_targets.TARGETS,
    *store_targets.TARGETS,
    *disk_targets.TARGETS,
    *etch_targets.TARGETS,
    *file_targets.TARGETS,
    *format_targets.TARGETS,
    *boot_targets.TARGETS,
)
TARGETS = {target.name: target for target in (*ALL, PLANTED)}
