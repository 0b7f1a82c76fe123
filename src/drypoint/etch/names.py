"""The names of the members of an .etch archive, in the order of the archive."""

from __future__ import annotations

from typing import Final

MANIFEST: Final = b"manifest.json"
"""What the archive says of itself; archives made by hand need none."""
INJECT: Final = b"inject"
"""The directory of what goes into partitions, in a directory of its own for each."""
CHECKSUM: Final = b"manifest.crc64"
"""Ends an archive that drypoint made: the CRC-64 (XZ) of every byte before this member's content, in hexadecimal."""
CHECKSUM_BYTES: Final = 17
"""Sixteen digits and a newline."""
