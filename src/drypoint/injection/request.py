"""The request for an injection."""

from __future__ import annotations

import msgspec

from ..verification import RequiredImagesReader
from .file_check import FileCheck


class InjectRequest(msgspec.Struct, frozen=True):
    """Options for writing the members of an archive to the partitions of its disk image.

    Attributes:
        overwrite_files: whether members replace existing files, and give existing directories their metadata.
        shrink_to_fit: whether unused space from the growth of partitions is given back, even if the manifest does not say so.
        required_images: the images that the device will ask for; verification looks them up in the store.
        check: checks files before they are written.
    """

    overwrite_files: bool = False
    shrink_to_fit: bool = False
    required_images: RequiredImagesReader | None = None
    check: FileCheck | None = None
