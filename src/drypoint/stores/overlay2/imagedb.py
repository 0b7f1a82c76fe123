"""Reading the images of a store.

Format: moby, image/fs.go: one file an image, named by the digest of its content, which is the image's config.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...digest import Digest, digest_of
from ...errors import ManifestError
from ...oci import chain_ids, parse_config
from ...oci.manifest import MAX_CONFIG_BYTES
from ..contents import StoredImage
from . import paths as layout
from .identity import CACHE_ID
from .layerdb import StoredLayer
from .reading import StoreReader


def read_images(
    store: StoreReader, layers: Mapping[Digest, StoredLayer]
) -> tuple[dict[Digest, StoredImage], frozenset[Digest]]:
    """All images, and the ids of damaged configs."""
    images: dict[Digest, StoredImage] = {}
    damaged: set[Digest] = set()
    for name, _ in store.names(layout.CONFIGS):
        path = layout.CONFIGS + b"/" + name.encode("ascii")
        if CACHE_ID.fullmatch(name) is None:
            store.report("unknown-name", path, "expected an image id")
            continue
        image_id = Digest(f"sha256:{name}")
        image = _read_image(store, path, image_id, layers)
        if image is None:
            damaged.add(image_id)
        else:
            images[image_id] = image
    return images, frozenset(damaged)


def _read_image(
    store: StoreReader, path: bytes, image_id: Digest, layers: Mapping[Digest, StoredLayer]
) -> StoredImage | None:
    content = store.content(path, MAX_CONFIG_BYTES)
    if content is None:
        return None
    if (found := digest_of(content)) != image_id:
        store.report("damaged-config", path, f"the image config hashes to {found}; the engine ignores the image")
        return None
    try:
        config = parse_config(content, f"image {image_id}")
    except ManifestError as error:
        store.report("damaged-config", path, str(error))
        return None
    chain = chain_ids(config.diff_ids)
    missing = [chain_id for chain_id in chain if chain_id not in layers or not layers[chain_id].usable]
    if missing:
        store.report("image-without-layer", path, f"image {image_id} lacks the layer {missing[0]}, or it is damaged")
    return StoredImage(image_id, config.diff_ids, chain, not missing)
