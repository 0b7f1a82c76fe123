"""Formats of disk images: raw, or compressed by gzip, xz, zstd or zip; and block maps."""

from .bmap import write_block_map
from .kinds import ImageFormat, format_of_content, format_of_name, member_name, refuse_packed_again
from .reading import OpenedImage, claim_image, decompressed, opened_image
from .writing import Encoding, write_image

__all__ = [
    "Encoding",
    "ImageFormat",
    "OpenedImage",
    "claim_image",
    "decompressed",
    "format_of_content",
    "format_of_name",
    "member_name",
    "opened_image",
    "refuse_packed_again",
    "write_block_map",
    "write_image",
]
