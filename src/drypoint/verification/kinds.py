"""Every kind of finding: its severity, its meaning, and the remedy. docs/reference/findings.md is this table."""

from __future__ import annotations

from ..stores import FINDING_KINDS
from ..stores.finding_kinds import E2FSCK, Kind, error, note, warning

_DISK: dict[str, Kind] = {
    "damaged-table-copy": warning(
        "one of the two copies of the GPT is damaged or differs from the other",
        "rewrite the table from the good copy, with sgdisk -e or gdisk's recovery menu",
    ),
    "odd-partition-table": note("the partition table is unusual (a hybrid MBR, for example), but can be read"),
    "damaged-superblock": error("an ext file system's superblock is damaged, or has an unknown feature", E2FSCK),
    "damaged-group-descriptor": error("an ext file system's group descriptor has a wrong checksum or location", E2FSCK),
    "journal-needs-recovery": error(
        "the file system was not unmounted: changes that are only in its journal are not checked",
        "mount and unmount it once, or run e2fsck -f on it, then verify again",
    ),
    "file-system-not-clean": warning("the file system is marked as mounted, or as one with errors", E2FSCK),
    "damaged-file-system": error("e2fsck finds errors in an ext file system", E2FSCK),
    "damaged-fat": warning("fsck.vfat finds errors in a FAT file system", "run fsck.vfat -a on the file system"),
    "unfinished-check": warning(
        "a file system's checker did not end within its time limit",
        "run it by hand to see what takes so long",
    ),
    "file-system-not-checked": note(
        "a file system's own checker could not be run",
        "install e2fsprogs for e2fsck and dosfstools for fsck.vfat, and verify again",
    ),
}
_STORE: dict[str, Kind] = {
    "no-store": warning(
        "there is no engine's store at the data root",
        "give the store's location with --data-partition and --data-root, or preload images",
    ),
    "other-graph-driver": error(
        "the data root has a store of another graph driver, and an engine does not start with two",
        "remove that driver's directory, or name the storage driver in daemon.json",
    ),
    "engine-elsewhere": error(
        "the system on the disk image configures its engine to use another store than this one",
        "preload into that store, or change the setting",
    ),
    "linked-data-root": error(
        "the data root is a symbolic link that leads out of the partition, or to nothing",
        "give the partition and the path of the store itself",
    ),
    "unclear-engine-settings": note("the disk image does not show whether the system's engine uses the store here"),
    **FINDING_KINDS,
}
_LAYER: dict[str, Kind] = {
    "damaged-tar-split": error("tar-split.json.gz cannot be read: saves, pushes and deltas of the layer fail"),
    "wrong-diff-id": error("the tar rebuilt from the store does not hash to the layer's diff-id"),
    "changed-content": error("a file's content differs from what was unpacked"),
    "changed-size": error("a file is longer or shorter than in the layer's tar"),
    "missing-entry": error("an entry of the layer's tar is missing"),
    "lost-whiteout": error("a whiteout is missing: what it removes from a lower layer is visible again"),
    "lost-opaque": error("a directory has lost its opaque mark: what lower layers have in it is visible again"),
    "extra-entry": error("a file or directory that the layer's tar does not hold"),
    "extra-whiteout": error("a whiteout hides something of a lower layer that should be visible"),
    "changed-kind": error("it is a file where the tar has a directory, or similar"),
    "changed-mode": error("permissions differ from the tar's"),
    "changed-owner": error("owner or group differ from the tar's"),
    "changed-time": error("the modification time differs from the tar's"),
    "changed-xattr": error("an extended attribute has another value than in the tar"),
    "missing-xattr": error("an extended attribute (a capability, for example) is missing"),
    "extra-xattr": error("an extended attribute that the tar does not have"),
    "changed-target": error("a symbolic link has another target than in the tar"),
    "changed-device": error("a device has other numbers than in the tar"),
    "broken-hard-link": error("two names that are hard links in the tar are separate files"),
    "extra-hard-link": error("a file has names that the tar does not give it"),
    "more-findings": error("there are more findings than are listed", "fix those that are listed, then verify again"),
    "not-rebuildable": note(
        "engines do not record enough to rebuild this layer's tar (it has sparse files, for example): file contents are "
        "checked by CRC-64 and all metadata is compared, but the diff-id cannot be checked; saves, pushes and deltas of the "
        "layer fail on any engine",
        "if deltas matter, rebuild the image without sparse files in its layers",
    ),
    "cut-off-tar": note(
        "the layer's tar ends inside the padding of its last entry, which engines do not record: with that padding it hashes "
        "to the diff-id, but saves, pushes and deltas of the layer fail on any engine",
        "if deltas matter, rebuild the image, so that its layer is a complete tar",
    ),
    "shortened-time": note(
        "times have lost their nanoseconds, or seconds beyond 32 bits, as with mke2fs -d and 128-byte inodes"
    ),
    "overlay-mark": note(
        "the kernel's own marks (uuid, impure, origin), from when an engine mounted the layer for writing, as for docker save "
        "and deltas"
    ),
}
_DEVICE: dict[str, Kind] = {
    "unresolved-reference": error(
        "the device will ask for an image by a name that is not in the store",
        "preload that image, or correct the file that names it",
    ),
    "image-does-not-load": error("the device will ask for an image that the engine cannot load"),
    "other-image": warning(
        "the Supervisor does not find the exact reference, and uses another image of the same repository",
        "preload the image that apps.json names",
    ),
    "bad-apps-json": error(
        "the Supervisor of the disk image would silently ignore the whole apps.json",
        "correct the faults listed, or use a balenaOS with the Supervisor that the finding names",
    ),
    "unchecked-apps-json": warning(
        "apps.json is of version 1, which Supervisors before 7 read, and which is not checked",
        "use version 2 with Supervisors from 7 to 12, version 3 with later ones",
    ),
}
SECTIONS: dict[str, dict[str, Kind]] = {
    "The disk image": _DISK,
    "The engine's store": _STORE,
    "A layer and its files": _LAYER,
    "What the device will ask for": _DEVICE,
}
"""All kinds by heading and code, in the order of the documentation."""
KINDS: dict[str, Kind] = {code: kind for kinds in SECTIONS.values() for code, kind in kinds.items()}
"""By code. Codes are stable: programs may rely on them."""
