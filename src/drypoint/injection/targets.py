"""The partitions of a disk image as targets of an archive's members, one partition after the other."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from ..disk import Device, GrowableDevice, ProbedPartition
from ..errors import ContentError, DiskImageError, StoreError, VerificationError
from ..etch import EtchReader, Injection, Member, PackedStore
from ..fstree import Content, Directory, Regular, TreeReader
from ..oci import Reference, parse_reference
from ..progress import Progress
from ..sizing.space import Space, spare_space
from ..stores import Severity, Store, detect
from ..system import find_store
from ..verification import LayerProcesses, check_file_system, missing_images
from ..verification.written import WrittenStore, verify_written
from ..volumes.partitioned_disk import PartitionedDisk
from ..volumes.target import DEFAULT_DATA_ROOT
from ..volumes.volume import PartitionVolume
from ..volumes.writable_volume import WritableVolume
from .fat_members import FatInjector
from .file_check import checked
from .request import InjectRequest
from .sessions import Ext4Session, FatSession, Known, Session, SessionOptions

_WAY_OUT = "Repair that file system in the disk image (e2fsck -fp), and pack it again"


class InjectedPartition(msgspec.Struct, frozen=True):
    """A partition with injected members.

    Attributes:
        members: their number.
        before: its size in bytes in the archive's disk image.
        size: its size afterwards.
        verified: whether a store in it was read back and verified.
    """

    number: int
    label: str
    members: int
    before: int
    size: int
    verified: bool = False


class Partitions:
    """Writes each member to its partition. At most one is open at a time, because one that grows may move others."""

    def __init__(
        self,
        disk: GrowableDevice,
        reader: EtchReader,
        scratch: Path,
        request: InjectRequest,
        progress: Progress,
        *,
        verify: bool,
        processes: int,
    ) -> None:
        """Prepare the partitions that the manifest names.

        The checks of *request* are those for the disk image *disk*.

        Raises:
            DiskImageError: the disk image, or a partition that the manifest names, is unsuitable.
        """
        self._disk = disk
        self._reader = reader
        self._options = SessionOptions(
            scratch,
            request.overwrite_files,
            max(reader.timestamp, 1),
            reader.manifest is None or reader.manifest.format is None,
            progress,
        )
        self._least_disk_size = disk.size
        self._shrink_to_fit = request.shrink_to_fit
        self._verify = verify
        self._required_images = request.required_images
        self._check = request.check
        self._processes = processes
        self._known: dict[int, Known] = {}
        self._open: tuple[bytes, Session] | None = None
        self._injections = {} if reader.manifest is None else {one.directory: one for one in reader.manifest.injections}
        self._done: dict[int, InjectedPartition] = {}
        self._writable: WritableVolume | None = None
        PartitionedDisk(disk)
        for injection in self._injections.values():
            self._prepare(injection)

    def take(self, member: Member, content: Content | None) -> None:
        """Write *member* to its partition.

        Raises:
            DrypointError: as :func:`~drypoint.inject`.
        """
        if self._open is None or self._open[0] != member.directory:
            self._leave()
            self._open = member.directory, self._enter(member)
        session = self._open[1]
        session.take(member, checked(self._check, _label(session.found), member, content))

    def finish(self) -> tuple[InjectedPartition, ...]:
        """Close the open partition, make the space that must be free at the end, and verify what was written."""
        self._leave()
        for injection in self._injections.values():
            if injection.additional_space or injection.shrink:
                self._fit(injection)
        if self._shrink_to_fit:
            self._shrink()
        if self._verify:
            for number in self._done:
                self._prove(number)
        return tuple(self._done.values())

    def close(self) -> None:
        """Release everything, finished or not. Idempotent."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _prepare(self, injection: Injection) -> None:
        disk, found = self._find(injection.directory, injection)
        self._note_known(disk, found, injection)
        if not injection.remove and injection.space is None:
            return
        volume = self._volume(disk, found)
        if injection.remove:
            with volume.sink(self._options.now, grows=False) as sink:
                for path in injection.remove:
                    sink.remove(path)
                sink.finish()
        if injection.space is not None:
            volume.make_space(Space(-(-injection.space.size // volume.block_size), injection.space.inodes))
        self._note_done(found, volume.partition.size, 0)

    def _fit(self, injection: Injection) -> None:
        """Grow or shrink to the free space of the manifest: the estimate may have been too low or too high."""
        disk, found = self._find(injection.directory, injection)
        volume = self._volume(disk, found)
        if injection.additional_space:
            volume.make_space(spare_space(volume.block_size, injection.additional_space))
        if injection.shrink:
            done = self._done.get(found.partition.number)
            volume.shrink_to_fit(injection.additional_space, found.partition.size if done is None else done.before)
        self._note_done(found, volume.partition.size, 0)

    def _shrink(self) -> None:
        """Shrink all partitions that grew, whatever the manifest says."""
        wanted = {self._find(one.directory, one)[1].partition.number: one for one in self._injections.values()}
        for number, done in list(self._done.items()):
            if done.size > done.before:
                disk = PartitionedDisk(self._disk)
                found = disk.find(number)
                volume = self._volume(disk, found)
                volume.shrink_to_fit(wanted[number].additional_space if number in wanted else 0, done.before)
                self._note_done(found, volume.partition.size, 0)

    def _enter(self, member: Member) -> Session:
        injection = self._injections.get(member.directory)
        disk, found = self._find(member.directory, injection)
        where = f"partition {found.partition.number} of {self._disk.name}"
        kind = None if found.filesystem is None else found.filesystem.kind
        if kind is not None and kind.is_fat:
            volume = disk.fat_volume_in(found, where)
            return FatSession(
                found, FatInjector(volume, where, injection, self._options.now, overwrite=self._options.overwrite)
            )
        if kind is None or not kind.is_ext:
            shown = member.directory.decode("utf-8", "backslashreplace")
            raise disk.wrong_kind(found, f"inject/{shown} can only go into ext2, ext3, ext4 or FAT")
        self._note_known(disk, found, injection)
        return Ext4Session(
            found, self._volume(disk, found), self._options, where, injection, self._known[found.partition.number]
        )

    def _leave(self) -> None:
        if self._open is None:
            return
        session = self._open[1]
        size = session.finish()
        self._open = None
        self._note_done(session.found, size, session.members)

    def _volume(self, disk: PartitionedDisk, found: ProbedPartition) -> WritableVolume:
        volume = disk.volume_in(found, "the archive's manifest")
        volume.check_unmounted()
        # Another partition may have grown, and moved this one.
        if self._writable is None or self._writable.partition != found.partition:
            self._writable = WritableVolume(
                self._disk,
                volume,
                self._options.scratch,
                self._options.progress,
                sound=self._verify,
                least_disk_size=self._least_disk_size,
            )
        return self._writable

    def _find(self, directory: bytes, injection: Injection | None) -> tuple[PartitionedDisk, ProbedPartition]:
        """The current partition of ``inject/<directory>``, and the current disk image."""
        disk = PartitionedDisk(self._disk)
        shown = directory.decode("utf-8", "backslashreplace")
        if injection is None:
            if not (directory.isdigit() and len(directory) < 10):
                raise ContentError(
                    f"inject/{shown} is not a partition: below inject/, directories are named by a partition's number, "
                    "unless a manifest.json says otherwise"
                )
            return disk, disk.find(int(directory))
        if injection.partition is None:
            return disk, disk.find(injection.label)
        found = disk.find(injection.partition)
        names = {found.partition.name, "" if found.filesystem is None else found.filesystem.label}
        if injection.label and injection.label not in names:
            actual = " or ".join(repr(name) for name in sorted(names - {""})) or "nothing"
            raise DiskImageError(
                f"the archive's manifest says that partition {injection.partition} is called {injection.label!r}, but in the "
                f"disk image it is called {actual}: is the manifest of another disk image?"
            )
        return disk, found

    def _note_known(self, disk: PartitionedDisk, found: ProbedPartition, injection: Injection | None) -> None:
        """Read and check the partition before anything is written to it."""
        number = found.partition.number
        if number in self._known or found.filesystem is None or not found.filesystem.kind.is_ext:
            return
        volume = disk.volume_in(found)
        # Before anything is written, so that a fault of the disk image is not taken for one of drypoint.
        volume.check_writable(_WAY_OUT)
        reader = volume.reader()
        packed = None if injection is None else injection.store
        data_root = DEFAULT_DATA_ROOT if packed is None else packed.data_root
        findings: frozenset[tuple[str, bytes]] = frozenset()
        stat = reader.lookup(data_root)
        if packed is not None:
            self._check_place(volume, data_root)
        store = detect(data_root)
        if stat is not None and isinstance(stat.entry, Directory):
            stored = store.read(reader).contents
            found_before: set[tuple[str, bytes]] = {(one.code, one.path) for one in stored.findings}
            if self._required_images is not None:
                found_before |= {
                    (one.code, one.path) for one in missing_images(self._required_images(reader, stored.names), stored)
                }
            findings = frozenset(found_before)
        merge = () if injection is None else injection.merge
        self._known[number] = Known(
            {path: _content(reader, path, store) for path in sorted(merge)}, findings, store, packed
        )

    def _check_place(self, volume: PartitionVolume, data_root: bytes) -> None:
        """Check that the engine will use the store: pack may not have read the base."""
        place = find_store(volume, data_root)
        if place.obstacles:
            raise StoreError(f"{self._disk.name}: " + ". ".join(map(str, place.obstacles)))
        if place.data_root != data_root:
            raise StoreError(
                f"{self._disk.name}: the data root {_shown(data_root)!r} leads through a symbolic link to "
                f"{_shown(place.data_root)!r}, and the archive was packed without reading the disk image; pack it with "
                f"--data-root /{_shown(place.data_root)}"
            )
        for warning in place.warnings:
            self._options.progress.note(f"warning: {warning}")

    def _note_done(self, found: ProbedPartition, size: int, members: int) -> None:
        number = found.partition.number
        label = _label(found)
        done = self._done.get(number) or InjectedPartition(number, label, 0, found.partition.size, size)
        self._done[number] = replace(done, size=size, members=done.members + members)

    def _prove(self, number: int) -> None:
        known = self._known.get(number)
        if known is None:
            return
        volume = PartitionedDisk(self._disk).volume(number)
        if known.packed is None and volume.reader().lookup(known.store.names_path) is None:
            _check(volume.window, self._options.progress)
            return
        verify_written(
            volume,
            WrittenStore(
                known.store.root,
                () if known.packed is None else _references(known.packed),
                None if known.packed is None else frozenset(known.packed.layers),
                known.findings,
            ),
            required_images=self._required_images,
            processes=LayerProcesses.on(volume.window, self._processes),
            progress=self._options.progress,
        )
        self._done[number] = replace(self._done[number], verified=True)


def _label(found: ProbedPartition) -> str:
    return found.partition.name if found.filesystem is None else found.filesystem.label or found.partition.name


def _content(reader: TreeReader, path: bytes, store: Store) -> bytes:
    stat = reader.lookup(path)
    if stat is None or not isinstance(stat.entry, Regular):
        return b""
    if stat.entry.size > store.merge_limit:
        name = store.names_path.rpartition(b"/")[2].decode("utf-8", "backslashreplace")
        raise StoreError(f"{path!r} has {stat.entry.size} bytes, too many for a {name}")
    return b"".join(bytes(piece) for piece in reader.read(stat))


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _references(store: PackedStore) -> tuple[Reference, ...]:
    return tuple(parse_reference(text) for image in store.images for text in image.references)


def _check(window: Device, progress: Progress) -> None:
    """Check only the file system."""
    step = progress.begin("checking the file system")
    faults = [finding for finding in check_file_system(window) if finding.severity is Severity.ERROR]
    step.end()
    if faults:
        raise VerificationError(
            f"after injecting, {window.name} is damaged: {faults[0].text}. No output was made. If e2fsck -fn finds "
            "nothing wrong with the disk image in the archive, please report this"
        )
