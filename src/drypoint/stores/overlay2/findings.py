"""The kinds of findings about a store of overlay2."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ..finding_kinds import E2FSCK, FETCH_AGAIN, Kind, error, note, warning

FindingCode: TypeAlias = Literal[
    "missing-file",
    "bad-content",
    "oversized-file",
    "wrong-type",
    "unreadable",
    "unreadable-json",
    "damaged-config",
    "image-without-layer",
    "reference-without-image",
    "wrong-chain-id",
    "layer-without-parent",
    "shared-cache-id",
    "wrong-lower",
    "missing-committed",
    "dangling-link",
    "orphan-link",
    "orphan-cache-directory",
    "half-written-layer",
    "half-removed-layer",
    "unknown-name",
    "wrong-store-mode",
    "inconsistent-record",
    "placeholder-record",
    "orphan-metadata",
    "unused-layer",
    "unnamed-image",
]
"""The stable names of findings that reading and checking a store can make."""

KINDS: dict[str, Kind] = {
    "missing-file": error("a file or directory of the store is missing"),
    "bad-content": error("a small file of the store has wrong content"),
    "oversized-file": error("a small file of the store is far too large"),
    "wrong-type": error("a file or directory of the store is of another type"),
    "unreadable": error("the file system is damaged at a place that was read", E2FSCK),
    "unreadable-json": error(
        "repositories.json, or a record, is not JSON of the expected form; with the former damaged the engine does not start",
        "restore the file, or preload all images again",
    ),
    "damaged-config": error("an image's config does not hash to the image id: the engine ignores the image"),
    "image-without-layer": error("a layer of an image is missing or damaged: the engine ignores the image"),
    "reference-without-image": error(
        "repositories.json names an image that is not there", "preload that image again, or remove the reference"
    ),
    "wrong-chain-id": error("a layer's diff-id and parent do not give its chain-id"),
    "layer-without-parent": error("the layer below a layer is not in the store"),
    "shared-cache-id": error("two layers have the same cache-id, and so the same directory"),
    "wrong-lower": error("a layer's lower file does not name the layers below it, nearest first"),
    "dangling-link": error("a symbolic link in overlay2/l is missing or dangling"),
    "missing-committed": warning(
        "a layer with a child is not marked as committed", "create the file, empty, with mode 0600"
    ),
    "wrong-store-mode": warning(
        "a file of the store has another mode or owner than engines give", "set those that the finding names"
    ),
    "wrong-layer-size": warning("the size that layerdb records for a layer is not that of its files", FETCH_AGAIN),
    "inconsistent-record": warning(
        "two distribution records contradict each other: a later pull may use the wrong layer",
        "remove both records; the engine writes them again",
    ),
    "placeholder-record": note(
        "a distribution record names the blob that balenaEngine's deltas carry in place of each unchanged layer"
    ),
    "orphan-link": warning("a link in overlay2/l leads to a layer whose link file names another one"),
    "orphan-cache-directory": warning(
        "a directory in overlay2 that no layer and no container names",
        "remove it; balenaEngine does this when it starts",
    ),
    "orphan-metadata": warning("times or parents of an image that is not there"),
    "half-written-layer": warning("left over from an interrupted pull"),
    "half-removed-layer": warning("left over from an interrupted removal"),
    "unknown-name": warning("a name that engines do not use there"),
    "unused-layer": note(
        "a layer that no image and no container uses: wasted space, unless a build cache uses it",
        "docker builder prune removes it if it belongs to a build",
    ),
    "unnamed-image": note(
        "an image without a name in repositories.json, as when its tag moved to another image",
        "docker image prune removes it",
    ),
}
"""All kinds of findings about the store's own files, in the order of the documentation."""
