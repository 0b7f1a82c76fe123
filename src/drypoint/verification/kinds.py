"""Every kind of finding: its severity, its meaning, and the remedy. docs/reference/findings.md is this table."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The engine would drop an image, or a program would see other files than the image holds."""
    WARNING = "warning"
    """Something should not be there, or the engine would repair or remove it."""
    NOTE = "note"
    """A known, harmless difference, or a check that could not be made."""


class Kind(msgspec.Struct, frozen=True):
    """A kind of finding. *meaning* and *remedy* are clauses for readers."""

    severity: Severity
    meaning: str
    remedy: str


_FETCH_AGAIN = "preload the image again, or let the device fetch it"
_REMOVE = "remove it; the engine does not use it"
_LEAVE = "no action needed"
_E2FSCK = "run e2fsck -f on the file system, then verify again"


def _error(meaning: str, remedy: str = _FETCH_AGAIN) -> Kind:
    return Kind(Severity.ERROR, meaning, remedy)


def _warning(meaning: str, remedy: str = _REMOVE) -> Kind:
    return Kind(Severity.WARNING, meaning, remedy)


def _note(meaning: str, remedy: str = _LEAVE) -> Kind:
    return Kind(Severity.NOTE, meaning, remedy)


_DISK: dict[str, Kind] = {
    "damaged-table-copy": _warning(
        "one of the two copies of the GPT is damaged or differs from the other",
        "rewrite the table from the good copy, with sgdisk -e or gdisk's recovery menu",
    ),
    "odd-partition-table": _note("the partition table is unusual (a hybrid MBR, for example), but can be read"),
    "damaged-superblock": _error("an ext file system's superblock is damaged, or has an unknown feature", _E2FSCK),
    "damaged-group-descriptor": _error(
        "an ext file system's group descriptor has a wrong checksum or location", _E2FSCK
    ),
    "journal-needs-recovery": _error(
        "the file system was not unmounted: changes that are only in its journal are not checked",
        "mount and unmount it once, or run e2fsck -f on it, then verify again",
    ),
    "file-system-not-clean": _warning("the file system is marked as mounted, or as one with errors", _E2FSCK),
    "damaged-file-system": _error("e2fsck finds errors in an ext file system", _E2FSCK),
    "damaged-fat": _warning("fsck.vfat finds errors in a FAT file system", "run fsck.vfat -a on the file system"),
    "unfinished-check": _warning(
        "a file system's checker did not end within its time limit",
        "run it by hand to see what takes so long",
    ),
    "file-system-not-checked": _note(
        "a file system's own checker could not be run",
        "install e2fsprogs for e2fsck and dosfstools for fsck.vfat, and verify again",
    ),
}
_STORE: dict[str, Kind] = {
    "no-store": _warning(
        "there is no engine's store at the data root",
        "give the store's location with --data-partition and --data-root, or preload images",
    ),
    "other-graph-driver": _error(
        "the data root has a store of another graph driver, and an engine does not start with two",
        "remove that driver's directory, or name the storage driver in daemon.json",
    ),
    "engine-elsewhere": _error(
        "the system on the disk image configures its engine to use another store than this one",
        "preload into that store, or change the setting",
    ),
    "linked-data-root": _error(
        "the data root is a symbolic link that leads out of the partition, or to nothing",
        "give the partition and the path of the store itself",
    ),
    "unclear-engine-settings": _note("the disk image does not show whether the system's engine uses the store here"),
    "missing-file": _error("a file or directory of the store is missing"),
    "bad-content": _error("a small file of the store has wrong content"),
    "oversized-file": _error("a small file of the store is far too large"),
    "wrong-type": _error("a file or directory of the store is of another type"),
    "unreadable": _error("the file system is damaged at a place that was read", _E2FSCK),
    "unreadable-json": _error(
        "repositories.json, or a record, is not JSON of the expected form; with the former damaged the engine does not start",
        "restore the file, or preload all images again",
    ),
    "damaged-config": _error("an image's config does not hash to the image id: the engine ignores the image"),
    "image-without-layer": _error("a layer of an image is missing or damaged: the engine ignores the image"),
    "reference-without-image": _error(
        "repositories.json names an image that is not there", "preload that image again, or remove the reference"
    ),
    "wrong-chain-id": _error("a layer's diff-id and parent do not give its chain-id"),
    "layer-without-parent": _error("the layer below a layer is not in the store"),
    "shared-cache-id": _error("two layers have the same cache-id, and so the same directory"),
    "wrong-lower": _error("a layer's lower file does not name the layers below it, nearest first"),
    "dangling-link": _error("a symbolic link in overlay2/l is missing or dangling"),
    "missing-committed": _warning(
        "a layer with a child is not marked as committed", "create the file, empty, with mode 0600"
    ),
    "wrong-store-mode": _warning(
        "a file of the store has another mode or owner than engines give", "set those that the finding names"
    ),
    "wrong-layer-size": _warning("the size that layerdb records for a layer is not that of its files", _FETCH_AGAIN),
    "inconsistent-record": _warning(
        "two distribution records contradict each other: a later pull may use the wrong layer",
        "remove both records; the engine writes them again",
    ),
    "placeholder-record": _note(
        "a distribution record names the blob that balenaEngine's deltas carry in place of each unchanged layer"
    ),
    "orphan-link": _warning("a link in overlay2/l leads to a layer whose link file names another one"),
    "orphan-cache-directory": _warning(
        "a directory in overlay2 that no layer and no container names",
        "remove it; balenaEngine does this when it starts",
    ),
    "orphan-metadata": _warning("times or parents of an image that is not there"),
    "half-written-layer": _warning("left over from an interrupted pull"),
    "half-removed-layer": _warning("left over from an interrupted removal"),
    "unknown-name": _warning("a name that engines do not use there"),
    "unused-layer": _note(
        "a layer that no image and no container uses: wasted space, unless a build cache uses it",
        "docker builder prune removes it if it belongs to a build",
    ),
    "unnamed-image": _note(
        "an image without a name in repositories.json, as when its tag moved to another image",
        "docker image prune removes it",
    ),
}
_LAYER: dict[str, Kind] = {
    "damaged-tar-split": _error("tar-split.json.gz cannot be read: saves, pushes and deltas of the layer fail"),
    "wrong-diff-id": _error("the tar rebuilt from the store does not hash to the layer's diff-id"),
    "changed-content": _error("a file's content differs from what was unpacked"),
    "changed-size": _error("a file is longer or shorter than in the layer's tar"),
    "missing-entry": _error("an entry of the layer's tar is missing"),
    "lost-whiteout": _error("a whiteout is missing: what it removes from a lower layer is visible again"),
    "lost-opaque": _error("a directory has lost its opaque mark: what lower layers have in it is visible again"),
    "extra-entry": _error("a file or directory that the layer's tar does not hold"),
    "extra-whiteout": _error("a whiteout hides something of a lower layer that should be visible"),
    "changed-kind": _error("it is a file where the tar has a directory, or similar"),
    "changed-mode": _error("permissions differ from the tar's"),
    "changed-owner": _error("owner or group differ from the tar's"),
    "changed-time": _error("the modification time differs from the tar's"),
    "changed-xattr": _error("an extended attribute has another value than in the tar"),
    "missing-xattr": _error("an extended attribute (a capability, for example) is missing"),
    "extra-xattr": _error("an extended attribute that the tar does not have"),
    "changed-target": _error("a symbolic link has another target than in the tar"),
    "changed-device": _error("a device has other numbers than in the tar"),
    "broken-hard-link": _error("two names that are hard links in the tar are separate files"),
    "extra-hard-link": _error("a file has names that the tar does not give it"),
    "more-findings": _error("there are more findings than are listed", "fix those that are listed, then verify again"),
    "not-rebuildable": _note(
        "engines do not record enough to rebuild this layer's tar (it has sparse files, for example): file contents are "
        "checked by CRC-64 and all metadata is compared, but the diff-id cannot be checked; saves, pushes and deltas of the "
        "layer fail on any engine",
        "if deltas matter, rebuild the image without sparse files in its layers",
    ),
    "cut-off-tar": _note(
        "the layer's tar ends inside the padding of its last entry, which engines do not record: with that padding it hashes "
        "to the diff-id, but saves, pushes and deltas of the layer fail on any engine",
        "if deltas matter, rebuild the image, so that its layer is a complete tar",
    ),
    "shortened-time": _note(
        "times have lost their nanoseconds, or seconds beyond 32 bits, as with mke2fs -d and 128-byte inodes"
    ),
    "overlay-mark": _note(
        "the kernel's own marks (uuid, impure, origin), from when an engine mounted the layer for writing, as for docker save "
        "and deltas"
    ),
}
_DEVICE: dict[str, Kind] = {
    "unresolved-reference": _error(
        "the device will ask for an image by a name that is not in the store",
        "preload that image, or correct the file that names it",
    ),
    "image-does-not-load": _error("the device will ask for an image that the engine cannot load"),
    "other-image": _warning(
        "the Supervisor does not find the exact reference, and uses another image of the same repository",
        "preload the image that apps.json names",
    ),
    "bad-apps-json": _error(
        "the Supervisor of the disk image would silently ignore the whole apps.json",
        "correct the faults listed, or use a balenaOS with the Supervisor that the finding names",
    ),
    "unchecked-apps-json": _warning(
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
