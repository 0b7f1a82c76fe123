"""Every kind of finding: how bad it is, what it means, and how to mend it. docs/reference/findings.md is this table."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """The engine would lose an image over it, or a program would meet other files than the image holds."""
    WARNING = "warning"
    """Something is there that should not be, or the engine would mend or remove it."""
    NOTE = "note"
    """A difference that is known and harmless, or a check that could not be made."""


class Kind(msgspec.Struct, frozen=True):
    """A kind of finding. *meaning* and *remedy* are clauses for people."""

    severity: Severity
    meaning: str
    remedy: str


_FETCH_AGAIN = "preload the image again, or let the device fetch it"
_REMOVE = "remove it; the engine does not use it"
_LEAVE = "nothing needs doing"
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
        "write the table anew from the good copy, with sgdisk -e or gdisk's recovery menu",
    ),
    "odd-partition-table": _note("the partition table is unusual, a hybrid MBR say, but can be read"),
    "damaged-superblock": _error(
        "an ext file system's superblock is damaged, or has a feature that is not known", _E2FSCK
    ),
    "damaged-group-descriptor": _error("an ext file system's group descriptor has a wrong checksum or place", _E2FSCK),
    "journal-needs-recovery": _error(
        "the file system was not unmounted: changes that are only in its journal are not seen here",
        "mount and unmount it once, or run e2fsck -f on it, then verify again",
    ),
    "file-system-not-clean": _warning(
        "the file system is marked as mounted, or as one in which errors were met", _E2FSCK
    ),
    "damaged-file-system": _error("e2fsck finds errors in an ext file system", _E2FSCK),
    "damaged-fat": _warning("fsck.vfat finds errors in a FAT file system", "run fsck.vfat -a on the file system"),
    "unfinished-check": _warning(
        "the checker of a file system did not end in the time it was given",
        "run it by hand and see what it is at",
    ),
    "file-system-not-checked": _note(
        "a file system's own checker could not be run",
        "install e2fsprogs for e2fsck and dosfstools for fsck.vfat, and verify again",
    ),
}
_STORE: dict[str, Kind] = {
    "no-store": _warning(
        "there is no engine's store at the data root",
        "name another place with --data-partition and --data-root, or preload images",
    ),
    "other-graph-driver": _error(
        "the data root has a store of another graph driver, and an engine does not start on two",
        "remove that driver's directory, or name the storage driver in daemon.json",
    ),
    "engine-elsewhere": _error(
        "the system on the disk image sends its engine to another store than this one",
        "preload into that store, or change the setting",
    ),
    "linked-data-root": _error(
        "the data root is a symbolic link that leads out of the partition, or to nothing",
        "name the partition and the path that the store is at",
    ),
    "unclear-engine-settings": _note(
        "whether the system's engine looks for its store here cannot be told from the disk image"
    ),
    "missing-file": _error("a file or directory of the store is missing"),
    "bad-content": _error("a small file of the store holds something else than it should"),
    "oversized-file": _error("a small file of the store is far too large"),
    "wrong-type": _error("there is something else where the store has a file or a directory"),
    "unreadable": _error("the file system is damaged where it was read", _E2FSCK),
    "unreadable-json": _error(
        "repositories.json, or a record, is no JSON of the expected form: on the former the engine does not start",
        "put back the file from before, or preload all images again",
    ),
    "damaged-config": _error("an image's config does not hash to the image id: the engine passes the image over"),
    "image-without-layer": _error("a layer of an image is missing or damaged: the engine passes the image over"),
    "reference-without-image": _error(
        "repositories.json names an image that is not there", "preload that image again, or remove the reference"
    ),
    "wrong-chain-id": _error("a layer's diff-id and parent do not make its chain-id"),
    "layer-without-parent": _error("the layer below a layer is not in the store"),
    "shared-cache-id": _error("two layers claim the same directory"),
    "wrong-lower": _error("a layer's lower file does not name the layers below it, nearest first"),
    "dangling-link": _error("a symbolic link in overlay2/l is missing, or leads nowhere"),
    "missing-committed": _warning(
        "a layer with a child is not marked as committed", "create the file, empty, with mode 0600"
    ),
    "wrong-store-mode": _warning(
        "a file of the store has another mode or owner than engines give", "give it those named"
    ),
    "wrong-layer-size": _warning("the size that layerdb notes for a layer is not what its files come to", _FETCH_AGAIN),
    "inconsistent-record": _warning(
        "two distribution records contradict each other: a later pull may take the wrong layer for one it has",
        "remove both records; the engine makes them again",
    ),
    "placeholder-record": _note(
        "a distribution record says that the layer came as the blob that balenaEngine's deltas carry in place of each layer "
        "that they leave as it is"
    ),
    "orphan-link": _warning("a link in overlay2/l leads to a layer that calls itself by another one"),
    "orphan-cache-directory": _warning(
        "a directory in overlay2 that no layer and no container names",
        "remove it; balenaEngine does so when it starts",
    ),
    "orphan-metadata": _warning("times or parents of an image that is not there"),
    "half-written-layer": _warning("what a pull that did not end has left"),
    "half-removed-layer": _warning("what a removal that did not end has left"),
    "unknown-name": _warning("a name that no engine would give there"),
    "unused-layer": _note(
        "a layer that no image and no container uses: room lost, unless a build's cache wants it",
        "docker builder prune removes it if it belongs to a build",
    ),
    "unnamed-image": _note(
        "an image that repositories.json has no name for, as a tag that moved on leaves it",
        "docker image prune removes it",
    ),
}
_LAYER: dict[str, Kind] = {
    "damaged-tar-split": _error("tar-split.json.gz cannot be read: saves, pushes and deltas of the layer fail"),
    "wrong-diff-id": _error("the tar rebuilt from the store does not hash to the layer's diff-id"),
    "changed-content": _error("a file's content is not what was unpacked"),
    "changed-size": _error("a file is longer or shorter than in the layer's tar"),
    "missing-entry": _error("something that the layer's tar holds is not there"),
    "lost-whiteout": _error("the mark that removes something of a lower layer is not there: it shows again"),
    "lost-opaque": _error("a directory that hides what lower layers have in it has lost that mark"),
    "extra-entry": _error("there is something that the layer's tar does not hold"),
    "extra-whiteout": _error("a mark removes something of a lower layer that should show"),
    "changed-kind": _error("it is a file where the tar has a directory, or the like"),
    "changed-mode": _error("permissions differ from the tar's"),
    "changed-owner": _error("owner or group differ from the tar's"),
    "changed-time": _error("the modification time differs from the tar's"),
    "changed-xattr": _error("an extended attribute has another value than in the tar"),
    "missing-xattr": _error("an extended attribute, a capability say, is lost"),
    "extra-xattr": _error("there is an extended attribute that the tar does not have"),
    "changed-target": _error("a symbolic link points elsewhere than in the tar"),
    "changed-device": _error("a device has other numbers than in the tar"),
    "broken-hard-link": _error("two names of one file in the tar are two files"),
    "extra-hard-link": _error("a file has names that the tar does not give it"),
    "more-findings": _error("there is more than is told", "mend what is named first, then verify again"),
    "not-rebuildable": _note(
        "engines do not record what it takes to rebuild this layer's tar (it has sparse files, say): each content is "
        "checked by its CRC-64 and all metadata compared, but the diff-id cannot be; saves, pushes and deltas of the layer "
        "fail on any engine",
        "if deltas matter, build the image anew without sparse files in its layers",
    ),
    "cut-off-tar": _note(
        "the layer's tar ends inside the padding of its last entry, which engines do not record: with that padding it hashes "
        "to the diff-id, but saves, pushes and deltas of the layer fail on any engine",
        "if deltas matter, build the image anew, so that its layer is a whole tar",
    ),
    "shortened-time": _note(
        "times have lost their nanoseconds, or what is above 32 bits of seconds, as mke2fs -d and 128-byte inodes lose them"
    ),
    "overlay-mark": _note(
        "the kernel has noted something for itself (uuid, impure, origin) where an engine had the layer mounted to be written "
        "to, as for docker save and deltas"
    ),
}
_DEVICE: dict[str, Kind] = {
    "unresolved-reference": _error(
        "something on the device will ask for an image by a name that the store does not have",
        "preload that image, or correct the file that names it",
    ),
    "image-does-not-load": _error("something on the device will ask for an image that the engine cannot load"),
    "other-image": _warning(
        "the Supervisor does not find the exact reference, and takes another image of the same repository",
        "preload the image that apps.json names",
    ),
    "bad-apps-json": _error(
        "the Supervisor that the disk image starts would pass over apps.json as a whole, in silence",
        "correct it, every fault is named; or use a balenaOS with the Supervisor that is named",
    ),
    "unchecked-apps-json": _warning(
        "apps.json is of version 1 or 2, which only old Supervisors read as it is, and which is not checked here",
        "use version 3 with Supervisor 13 and later",
    ),
}
SECTIONS: dict[str, dict[str, Kind]] = {
    "The disk image": _DISK,
    "The engine's store": _STORE,
    "A layer and its files": _LAYER,
    "What the device will ask for": _DEVICE,
}
"""All kinds by heading and code, in the order in which people read of them."""
KINDS: dict[str, Kind] = {code: kind for kinds in SECTIONS.values() for code, kind in kinds.items()}
"""By code. Codes are stable: programs may rely on them."""
