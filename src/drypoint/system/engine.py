"""The check that the engine on a disk image will use an overlay2 store in one of its partitions.

Sources: moby, daemon/graphdriver/driver.go (scanPriorDrivers), daemon/config, daemon/daemon.go; each rule was observed with
dockerd 20.10.24 (tests/engine/test_base_engine.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from ..errors import DiskImageError
from ..fstree import Directory, Symlink, TreeReader, clean_path, follow_links, join
from ..text import printable
from ..volumes.target import DEFAULT_DATA_ROOT
from ..volumes.volume import PartitionVolume
from .mounts import Mount, covering, read_mounts
from .roots import root_directories
from .settings import EngineSettings, Setting, read_settings

DRIVER = "overlay2"
OTHER_DRIVERS = ("aufs", "btrfs", "devicemapper", "fuse-overlayfs", "overlay", "zfs")
"""Graph drivers with whose directory, if not empty, dockerd does not start next to overlay2's. vfs is not one of them."""
ENGINES_DEFAULT = b"var/lib/docker"
CONTAINERD_FLAG = b".docker-use-containerd-snapshotter"
"""Home Assistant OS: in the root of the data partition, it enables containerd's store and removes overlay2's at boot."""

CONTAINERD_SNAPSHOTS = b"containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots"
"""The images of a containerd that dockerd starts itself."""

_MARKS_OF_A_SYSTEM = (b"etc/os-release", b"usr/lib/os-release", b"etc/fstab", b"etc/docker/daemon.json")
_MOST_ROOTS = 65


class Obstacle(msgspec.Struct, frozen=True):
    """A reason why the engine would not use the store: *code* is that of a finding, *text* and *remedy* are clauses."""

    code: str
    path: bytes
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"


class StorePlace(msgspec.Struct, frozen=True):
    """The place of the store.

    Attributes:
        data_root: a path in the partition, without symbolic links unless an obstacle says that they cannot be followed.
        source: the setting that it comes from; None if it was requested, or is the default.
        obstacles: empty if the engine uses the store.
        warnings: what is unknown, a sentence each.
    """

    data_root: bytes
    source: Setting | None = None
    obstacles: tuple[Obstacle, ...] = ()
    warnings: tuple[str, ...] = ()


class _System(msgspec.Struct, frozen=True):
    """A root file system: the directory *root* in the partition of that number."""

    partition: int
    root: bytes
    settings: EngineSettings
    mounts: tuple[Mount, ...]


def find_store(volume: PartitionVolume, wanted: bytes | None) -> StorePlace:
    """Find the store in *volume*.

    Args:
        wanted: the requested data root, a clean path in the partition; None for the one configured on the disk image, else
            ``docker``.

    Raises:
        DiskImageError: the partition cannot be read.
    """
    reader = volume.reader(allow_dirty=True)
    own = _system(reader, b"", volume)
    systems = [own] if own is not None else list(_other_systems(volume))
    return _Judge(reader, volume.number, own, systems).judge(wanted)


def _other_systems(volume: PartitionVolume) -> Iterator[_System]:
    for other in volume.disk.volumes():
        if other.number == volume.number:
            continue
        try:
            reader = other.reader(allow_dirty=True)
            most = _MOST_ROOTS if "root" in other.filesystem.label.lower() else 1
            roots = tuple(islice(root_directories(reader), most))
            found = (_system(reader, root, other) for root in roots)
            system = next((system for system in found if system is not None), None)
        except DiskImageError:
            # Damage in a partition that is not written is not this job's concern.
            continue
        if system is not None:
            yield system


def _system(reader: TreeReader, root: bytes, volume: PartitionVolume) -> _System | None:
    number, disk = volume.number, volume.disk
    settings = read_settings(reader, root)
    if not any(reader.lookup(join(root, mark)) is not None for mark in _MARKS_OF_A_SYSTEM):
        return None if settings.is_empty else _System(number, root, settings, ())
    return _System(number, root, settings, read_mounts(reader, root, disk.table, disk.partitions))


class _Judge:
    """The checks for one partition."""

    def __init__(self, reader: TreeReader, number: int, own: _System | None, systems: Sequence[_System]) -> None:
        self._reader = reader
        self._number = number
        self._own = own
        self._systems = systems
        self._obstacles: list[Obstacle] = []
        self._warnings: list[str] = []

    def judge(self, wanted: bytes | None) -> StorePlace:
        data_root, source = wanted, None
        for system in self._systems:
            setting = system.settings.data_root
            said = self._mounted(system, wanted) if setting is None else self._said(system, setting, wanted)
            if data_root is None and said is not None:
                data_root, source = said, setting or Setting("/" + _shown(ENGINES_DEFAULT), "etc/fstab")
        data_root = self._followed(DEFAULT_DATA_ROOT if data_root is None else data_root)
        for system in self._systems:
            self._check_settings(system)
        self._check_flag()
        self._check_drivers(data_root)
        self._check_containerd(data_root)
        return StorePlace(data_root, source, tuple(self._obstacles), tuple(self._warnings))

    def _mounted(self, system: _System, wanted: bytes | None) -> bytes | None:
        """The path of the engine's default data root in this partition; None if *system* does not mount it there."""
        mount = covering(system.mounts, ENGINES_DEFAULT)
        if mount is None or mount.partition != self._number:
            return None
        inside = ENGINES_DEFAULT[len(mount.point) :].lstrip(b"/")
        if wanted is not None and not self._same(wanted, inside):
            self._warnings.append(
                f"etc/fstab in partition {system.partition} mounts partition {self._number} at '/{_shown(mount.point)}', where "
                f"an engine looks for its data root at '/{_shown(inside)}' in it, and not at {_shown(wanted)!r}"
            )
        return inside

    def _said(self, system: _System, setting: Setting, wanted: bytes | None) -> bytes | None:
        """The data root in this partition by the settings of *system*; None if it is elsewhere, or cannot be used."""
        where = f"{setting.source} in partition {system.partition} sends the engine to {setting.value!r}"
        if not setting.value.startswith("/"):
            self._warnings.append(f"{where}, which is not an absolute path; nothing is known of where that is")
            return None
        path = clean_path(setting.value.encode("utf-8", "replace"))
        mount = covering(system.mounts, path)
        if mount is None and system is self._own:
            partition, inside = system.partition, path
        elif mount is not None and mount.partition is not None:
            partition, inside = mount.partition, path[len(mount.point) :].lstrip(b"/")
        else:
            asked = DEFAULT_DATA_ROOT if wanted is None else wanted
            if mount is not None or not (b"/" + path).endswith(b"/" + asked):
                on = f", where it mounts {mount.source}" if mount is not None else ""
                self._warnings.append(
                    f"{where}{on}; whether that is {_shown(asked)!r} in partition {self._number} is not known: make sure "
                    "that it is"
                )
            return None
        if partition == self._number and (wanted is None or self._same(wanted, inside)):
            return inside
        self._add(
            "engine-elsewhere",
            inside,
            f"{where}, which is {_shown(inside)!r} in partition {partition}",
            f"use --data-partition {partition} --data-root /{_shown(inside)}, or change {setting.source}",
        )
        return None

    def _same(self, one: bytes, other: bytes) -> bool:
        return follow_links(self._reader, one).path == follow_links(self._reader, other).path

    def _followed(self, path: bytes) -> bytes:
        """*path* without symbolic links, or unchanged if they lead out of the partition."""
        followed = follow_links(self._reader, path)
        found = path if followed.path is None else followed.path
        mount = covering(self._own.mounts, found) if self._own is not None else None
        if followed.link is not None:
            link = f"the data root {_shown(path)!r} leads through the symbolic link {_shown(followed.link.path)!r} to "
            link += repr(_shown(followed.link.target))
            if followed.path is None:
                self._add("linked-data-root", path, f"{link}, and round in a circle", "remove the link")
            elif followed.leaves and self._own is None:
                self._add(
                    "linked-data-root",
                    path,
                    f"{link}, which is a path of the running device and not of partition {self._number}",
                    "name the partition and the path that the store is at, with --data-partition and --data-root",
                )
            elif mount is None and self._dangles(path, found):
                self._add(
                    "linked-data-root",
                    path,
                    f"{link}, where nothing is, and the engine does not start on that",
                    "make that directory, or name the partition and the path that the store is at, with --data-partition "
                    "and --data-root",
                )
        if mount is not None:
            inside = found[len(mount.point) :].lstrip(b"/")
            self._add(
                "engine-elsewhere",
                path,
                f"the system in partition {self._number} mounts {mount.source} at '/{_shown(mount.point)}', over the data "
                f"root {_shown(path)!r}",
                f"use --data-partition {mount.partition} --data-root /{_shown(inside)}"
                if mount.partition not in (None, self._number)
                else "name the partition that is mounted there, with --data-partition",
            )
        return path if self._obstacles else found

    def _dangles(self, path: bytes, found: bytes) -> bool:
        """Whether a link on *path*, which leads to *found*, is dangling, so that mkdir -p fails."""
        if self._reader.lookup(found) is not None:
            return False
        parent, _, name = path.rpartition(b"/")
        above = follow_links(self._reader, parent).path or b""
        last = self._reader.lookup(join(above, name))
        if last is not None and isinstance(last.entry, Symlink):
            return True
        return self._reader.lookup(above) is None

    def _check_settings(self, system: _System) -> None:
        settings = system.settings
        for unreadable in settings.unreadable:
            self._warnings.append(f"partition {system.partition}: {unreadable}")
        driver = settings.storage_driver
        if driver is not None and driver.value != DRIVER:
            self._elsewhere(system, driver, f"sets the storage driver {driver.value!r}, and drypoint writes {DRIVER}")
        remap = settings.userns_remap
        if remap is not None:
            self._elsewhere(
                system, remap, f"sets userns-remap to {remap.value!r}: the engine then has another store for that user"
            )
        containerd = settings.containerd_store
        if containerd is not None and containerd.value == "true":
            self._elsewhere(system, containerd, "turns the containerd image store on, which drypoint does not write")

    def _elsewhere(self, system: _System, setting: Setting, text: str) -> None:
        path = join(system.root, setting.source.encode("utf-8", "replace"))
        self._add(
            "engine-elsewhere",
            path,
            f"{setting.source} in partition {system.partition} {text}",
            f"use a disk image whose engine has the {DRIVER} store, or change that setting",
        )

    def _check_flag(self) -> None:
        if self._reader.lookup(CONTAINERD_FLAG) is not None:
            self._add(
                "engine-elsewhere",
                CONTAINERD_FLAG,
                f"{_shown(CONTAINERD_FLAG)!r} in partition {self._number} makes Home Assistant OS use the containerd image "
                f"store, and remove {DRIVER}'s when it boots",
                "use a disk image without that file; drypoint does not write containerd's store",
            )

    def _check_drivers(self, data_root: bytes) -> None:
        chosen = any(one.settings.storage_driver is not None for one in self._systems)
        for driver in OTHER_DRIVERS:
            name = driver.encode()
            path = join(data_root, name)
            if chosen:
                continue
            if self._is_in_use(path):
                self._add(
                    "other-graph-driver",
                    path,
                    f"the data root {_shown(data_root)!r} holds a store of the graph driver {driver}, and an engine that finds "
                    f"it next to {DRIVER}'s does not start (several valid graphdrivers)",
                    f"remove {_shown(path)!r} from the disk image, or have its daemon.json say "
                    f'"storage-driver": "{DRIVER}"; what that store holds is not seen then',
                )
            elif self._reader.lookup(join(data_root, b"image", name)) is not None:
                self._warnings.append(
                    f"{_shown(join(data_root, b'image', name))!r} has records of the graph driver {driver}, whose layers are "
                    f"gone; an engine with {DRIVER} does not read them"
                )

    def _check_containerd(self, data_root: bytes) -> None:
        if self._is_in_use(join(data_root, CONTAINERD_SNAPSHOTS)):
            self._warnings.append(
                f"{_shown(join(data_root, CONTAINERD_SNAPSHOTS))!r} holds images in containerd's store; Docker 29 does not see "
                f"them any more once there is a store of {DRIVER}"
            )

    def _is_in_use(self, path: bytes) -> bool:
        """Whether there is anything but an empty directory at *path*: then dockerd counts it as a driver's."""
        stat = self._reader.lookup(path)
        if stat is None:
            return False
        return not isinstance(stat.entry, Directory) or next(iter(self._reader.children(stat.entry)), None) is not None

    def _add(self, code: str, path: bytes, text: str, remedy: str) -> None:
        self._obstacles.append(Obstacle(code, path, text, remedy))


def _shown(path: bytes) -> str:
    return printable(path.decode("utf-8", "backslashreplace"))
