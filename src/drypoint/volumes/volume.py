"""A file system as a volume: reading, geometry, and checks before it is written."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ..disk import Device, FilesystemInfo, Partition, Window
from ..disk.ext4.read.file_device import Ext4FileDevice, ext4_file
from ..disk.ext4.read.reader import Ext4Reader
from ..disk.ext4.resize.geometry import Geometry, geometry_of
from ..disk.ext4.resize.grow import check_filesystem, check_unmounted
from ..disk.ext4.write.superblock import Superblock, check_writable, load_superblock
from ..disk.tables.tail import pad_missing_tail
from ..errors import FilesystemError

if TYPE_CHECKING:
    from .partitioned_disk import PartitionedDisk

_WAY_OUT = (
    "With --fsck, preload and plan run e2fsck -fp first: automatic repairs only, as a device does when it boots; "
    "where there is an output, the base is not changed"
)


class Volume:
    """The ext2, ext3 or ext4 file system that fills *window*.

    Superblock and directories are read once, so a volume is only valid until something is written to it.

    Args:
        name: the file system's name in messages; default: from the window's name.
    """

    def __init__(self, window: Device, name: str | None = None) -> None:
        self.window = window
        self.name = name or f"the file system on {window.name}"

    def reader(self, *, allow_dirty: bool = False) -> Ext4Reader:
        """The reader of its tree.

        Args:
            allow_dirty: read although the journal must be replayed; changes in the journal are not seen then.

        Raises:
            FilesystemError: it is damaged, has an unsupported feature, or has a journal to be replayed.
            DiskImageError: the device cannot be read.
        """
        reader = self._reader
        if not allow_dirty:
            reader.check_recovered()
        return reader

    @cached_property
    def _reader(self) -> Ext4Reader:
        return Ext4Reader(self.window, allow_dirty=True)

    @cached_property
    def geometry(self) -> Geometry:
        """Its geometry: sizes, free space, and the numbers for growth.

        Raises:
            FilesystemError: they make no sense.
            DiskImageError: the device cannot be read.
        """
        return geometry_of(self._superblock, self.window.name)

    @cached_property
    def _superblock(self) -> Superblock:
        """The superblock in the writer's parser, for checks before writing; the reader has its own."""
        return load_superblock(self.window)

    def check_unmounted(self) -> None:
        """Refuse a file system that was not unmounted cleanly.

        Raises:
            FilesystemError: a journal to replay, or an error on record; or it is damaged.
            DiskImageError: the device cannot be read.
        """
        check_unmounted(self.geometry, self.name)

    def disk_image_file(self, path: bytes, *, allow_dirty: bool = False) -> Ext4FileDevice:
        """The disk image that is the file *path*, padded if zeros are missing at its end. Symbolic links are not followed.

        Raises:
            FilesystemError: there is no such file; or as :meth:`reader`.
            DiskImageError: the device cannot be read.
        """
        file = ext4_file(self.reader(allow_dirty=allow_dirty), self.window, path)
        pad_missing_tail(file)
        return file


class PartitionVolume(Volume):
    """The ext2, ext3 or ext4 file system in a partition of *disk*; *filesystem* is from its superblock."""

    def __init__(self, disk: PartitionedDisk, partition: Partition, filesystem: FilesystemInfo) -> None:
        label = f" ({filesystem.label!r})" if filesystem.label else ""
        super().__init__(
            Window(disk.device, partition.start, partition.size),
            f"{disk.device.name}: the file system of partition {partition.number}{label}",
        )
        self.disk = disk
        self.partition = partition
        self.filesystem = filesystem

    @property
    def number(self) -> int:
        """The partition's number."""
        return self.partition.number

    @property
    def label(self) -> str:
        """The file system's label, else the partition's name in a GPT."""
        return self.filesystem.label or self.partition.name

    def check_usable(self) -> None:
        """Check, before anything is written, that it is writable, undamaged, and can hold an engine's store.

        Raises:
            FilesystemError: it was not unmounted cleanly, is damaged, has its journal on another device, or uses unsupported
                features.
            ToolError: e2fsck is missing or took too long.
            OutputError: no space for the copy that e2fsck needs if the bytes are not contiguous.
        """
        self._check_clean(_WAY_OUT)
        check_writable(self._superblock, self.window, f"partition {self.number} of {self.disk.device.name}")
        if not self._superblock.filetype:
            raise FilesystemError(
                f"{self.name} was made without the feature filetype (d_type), without which the engine refuses to start with "
                "overlay2. Recreate the file system (mkfs.ext4 -O filetype)"
            )
        try:
            self._check_sound()
        except FilesystemError as error:
            raise FilesystemError(f"{error}. {_WAY_OUT}") from error

    def check_writable(self, way_out: str) -> None:
        """Like :meth:`check_usable`, for files other than a store.

        Args:
            way_out: the next step for one that was not unmounted cleanly, for messages.

        Raises:
            FilesystemError, ToolError, OutputError: as :meth:`check_usable`.
        """
        self._check_clean(way_out)
        self._check_sound()

    def _check_clean(self, way_out: str) -> None:
        self.check_journal()
        reason = self._superblock.why_unclean
        if reason is not None:
            raise FilesystemError(f"{self.name} {reason}. {way_out}")

    def needs_repair(self) -> bool:
        """Whether e2fsck has anything to repair.

        Raises:
            FilesystemError: its journal is on another device.
            ToolError, OutputError: as :meth:`check_usable`.
        """
        self.check_journal()
        if self._superblock.why_unclean is not None:
            return True
        try:
            self._check_sound()
        except FilesystemError:
            return True
        return False

    def check_journal(self) -> None:
        """Refuse a file system whose journal is on another device.

        Raises:
            FilesystemError: it is.
            DiskImageError: the device cannot be read.
        """
        journal = self._superblock.external_journal
        if journal is not None:
            raise FilesystemError(
                f"{self.disk.device.name}: partition {self.number} holds {self.filesystem.kind.value}, but its journal is on "
                f"another device (UUID {journal}), which is not in this disk image. Give it an internal journal on a machine "
                "with both devices (tune2fs -O ^has_journal, then tune2fs -j)"
            )

    def _check_sound(self) -> None:
        # e2fsck -fn does not report counts that it corrects silently.
        _ = self.geometry
        check_filesystem(self.disk.device, self.partition.start, where=self.name)
