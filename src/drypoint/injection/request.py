"""What is asked of an injection."""

from __future__ import annotations

import msgspec

from ..verification import RequiredImagesReader
from .file_check import FileCheck


class InjectRequest(msgspec.Struct, frozen=True):
    """How the members of an archive go into the partitions of its disk image.

    Attributes:
        overwrite_files: whether members replace files that are there, and give directories that are there their metadata.
        shrink_to_fit: whether the space that the growth of partitions left unused is given back, even if the manifest does
            not say so.
        required_images: says which images the device will ask for; verification compares that with the store.
        check: checks files before they are written.
    """

    overwrite_files: bool = False
    shrink_to_fit: bool = False
    required_images: RequiredImagesReader | None = None
    check: FileCheck | None = None
