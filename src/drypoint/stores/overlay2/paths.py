"""The paths and modes of everything in the engine's store, relative to the engine's data root.

Source: the data root of dockerd 20.10.24 after a pull (graph driver overlay2). Everything belongs to root:root.
"""

from __future__ import annotations

from ...digest import Digest, hex_of
from ...fstree import join

REPOSITORIES = b"image/overlay2/repositories.json"
CONFIGS = b"image/overlay2/imagedb/content/sha256"
LAYERS = b"image/overlay2/layerdb/sha256"
LAYERS_TMP = b"image/overlay2/layerdb/tmp"
MOUNTS = b"image/overlay2/layerdb/mounts"
ANNOTATIONS = b"image/overlay2/imagedb/metadata/sha256"
CONTAINERS = b"containers"
DIFF_ID_BY_DIGEST = b"image/overlay2/distribution/diffid-by-digest/sha256"
METADATA_BY_DIFF_ID = b"image/overlay2/distribution/v2metadata-by-diffid/sha256"
CACHE = b"overlay2"
LINKS = b"overlay2/l"

CACHE_DIRECTORY_MODE = 0o710
DIFF_MODE = 0o755
WORK_MODE = 0o700
LAYER_DIRECTORY_MODE = 0o700
FILE_MODE = 0o644
PRIVATE_FILE_MODE = 0o600

BASIC_DIRECTORIES: tuple[tuple[bytes, int], ...] = (
    (b"", 0o710),
    (b"image", 0o700),
    (b"image/overlay2", 0o700),
    (b"image/overlay2/distribution", 0o700),
    (b"image/overlay2/imagedb", 0o700),
    (b"image/overlay2/imagedb/content", 0o700),
    (CONFIGS, 0o700),
    (b"image/overlay2/imagedb/metadata", 0o700),
    (ANNOTATIONS, 0o700),
    (b"image/overlay2/layerdb", 0o700),
    (CACHE, 0o710),
    (LINKS, 0o700),
)
"""The directories that the engine creates when it starts on an empty data root, with their modes, parents first."""

LAYER_DIRECTORIES: tuple[tuple[bytes, int], ...] = ((LAYERS, 0o755), (LAYERS_TMP, 0o755))
"""The directories that the first layer adds, with their modes."""

RECORD_DIRECTORIES: tuple[tuple[bytes, int], ...] = (
    (b"image/overlay2/distribution/diffid-by-digest", 0o755),
    (DIFF_ID_BY_DIGEST, 0o755),
    (b"image/overlay2/distribution/v2metadata-by-diffid", 0o755),
    (METADATA_BY_DIFF_ID, 0o755),
)
"""The directories that the first pull from a registry adds, with their modes."""


def config_path(image_id: Digest) -> bytes:
    return join(CONFIGS, hex_of(image_id).encode("ascii"))


def annotation_path(image_id: Digest) -> bytes:
    """The directory of the engine's notes about an image, which are not in its config."""
    return join(ANNOTATIONS, hex_of(image_id).encode("ascii"))


def last_updated_path(image_id: Digest) -> bytes:
    return join(annotation_path(image_id), b"lastUpdated")


def layer_path(chain_id: Digest) -> bytes:
    return join(LAYERS, hex_of(chain_id).encode("ascii"))


def cache_path(cache_id: str) -> bytes:
    return join(CACHE, cache_id.encode("ascii"))


def link_path(link: str) -> bytes:
    return join(LINKS, link.encode("ascii"))


def link_target(cache_id: str) -> bytes:
    """The target of a layer's symbolic link: its diff directory, relative to ``overlay2/l``."""
    return b"../" + cache_id.encode("ascii") + b"/diff"


def lower_text(links: tuple[str, ...]) -> bytes:
    """The content of a ``lower`` file: the links of the layers below, nearest first."""
    return ":".join(f"l/{link}" for link in links).encode("ascii")


def diff_id_record_path(blob: Digest) -> bytes:
    return join(DIFF_ID_BY_DIGEST, hex_of(blob).encode("ascii"))


def metadata_record_path(diff_id: Digest) -> bytes:
    return join(METADATA_BY_DIFF_ID, hex_of(diff_id).encode("ascii"))
