"""A finished disk image, proved: its table, its file system, and the store in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..disk import FileDevice, Window, find_partition, read_table
from ..disk.ext4.reader import Ext4Reader
from ..errors import FilesystemError
from ..oci import Reference
from .filesystem import check_file_system
from .finding import Report, by_weight
from .store import verify_store


def verify(image: Path, *, partition: str | int, data_root: bytes, references: Iterable[Reference] = ()) -> Report:
    """Prove what the disk image *image* holds in *partition*. Nothing is changed, and neither root nor a mount is needed.

    Args:
        partition: file-system label, GPT name, or number.
        data_root: the engine's data root, a clean path in the partition.
        references: names that must lead to an image that loads, such as those in an apps.json.

    Raises:
        DiskImageError: the disk image has no such partition, its table is damaged, or no ext4 file system can be read there.
        StoreError: what is at the data root is no store at all.
        ToolError: e2fsck hangs.
    """
    with FileDevice(image) as device:
        found = find_partition(device, read_table(device), partition)
        if found.filesystem is None or not found.filesystem.kind.is_ext:
            kind = found.filesystem.kind.value if found.filesystem else "no known file system"
            raise FilesystemError(f"{image}: partition {found.partition.number} holds {kind}, expected ext4")
        window = Window(device, found.partition.start, found.partition.size)
        report = verify_store(Ext4Reader(window), data_root, references=references)
        findings = (*check_file_system(window), *report.findings)
    return replace(report, findings=tuple(sorted(findings, key=by_weight)))
