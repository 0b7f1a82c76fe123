"""The names of the members of an .etch archive, in the order of the archive."""

from __future__ import annotations

from typing import Final

MANIFEST: Final = b"manifest.json"
"""The archive's manifest; archives made by hand need none."""
INJECT: Final = b"inject"
"""The directory of the members, with a directory for each partition."""
CHECKSUM: Final = b"manifest.crc64"
"""The last member of drypoint's archives: the CRC-64 (XZ) of every byte before its content, in hexadecimal."""
CHECKSUM_BYTES: Final = 17
"""Sixteen digits and a newline."""
