"""A file of more than 8 GiB, whose size does not fit eleven octal digits, in a blob of a few MiB that is made quickly."""

from __future__ import annotations

import zlib

from tests.support.corpus.case import SECONDS

from drypoint.digest import Digest, digest_of
from drypoint.oci import Descriptor
from drypoint.samples.images import BuiltImage, BuiltLayer, build_image
from drypoint.sinks.tar import END_OF_ARCHIVE, UstarHeader, padding, pax_header

_ZEROS = 8 << 30
_MEMBER = 4 << 20
HUGE_BYTES = _ZEROS + 2
"""8 GiB of zeros between a ``<`` and a ``>``."""
_DIFF_ID = Digest("sha256:ff94219d4ab32ec216fff40d29b68b3598fa48f2a01fd6613ae2e46616205bc0")
"""A constant, because hashing the tar takes long; engines and drypoint check it anyway."""


def huge_image() -> BuiltImage:
    """An image with one layer of one file, ``huge``, of HUGE_BYTES.

    The blob is gzip in many members; all but the first and the last are the same 4 MiB of zeros. ``tar`` of the layer is
    empty, because of its size.
    """
    size = {b"size": b"%d" % HUGE_BYTES}
    start = pax_header(size, b"huge") + UstarHeader(b"huge", b"0", mode=0o644, seconds=SECONDS).pack() + b"<"
    end = b">" + padding(HUGE_BYTES) + END_OF_ARCHIVE
    zeros = zlib.compress(bytes(_MEMBER), 9, wbits=31)
    blob = zlib.compress(start, wbits=31) + zeros * (_ZEROS // _MEMBER) + zlib.compress(end, wbits=31)
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    descriptor = Descriptor(media_type, digest_of(blob), len(blob))
    return build_image([BuiltLayer(descriptor, _DIFF_ID, blob, b"")])
