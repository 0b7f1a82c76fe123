"""POSIX access control lists as xattrs, and how setting a mode and creating an inode below a directory change them.

Format: Linux, include/uapi/linux/posix_acl_xattr.h; rules: acl(5), as observed with dockerd 20.10.24 on ext4.
"""

from __future__ import annotations

import struct

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_VERSION = 2
_NO_ID = 0xFFFFFFFF
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_MINIMAL_ENTRIES = 3


def normal(value: bytes) -> bytes | None:
    """*value* as the kernel would return it after setting it; None if that leaves no list.

    Raises:
        ValueError: the kernel calls it invalid.
    """
    if len(value) < _HEADER.size:
        raise ValueError("a POSIX access list without its header")
    if _HEADER.unpack_from(value)[0] != _VERSION:
        return None  # Not supported, an error that the engine ignores.
    entries = _entries(value)
    tags = [tag for tag, _, _ in entries]
    if not entries:
        return None
    expected = [tag for tag in (_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER) for _ in range(tags.count(tag))]
    single = all(tags.count(tag) == 1 for tag in (_USER_OBJ, _GROUP_OBJ, _OTHER)) and tags.count(_MASK) <= 1
    needs_mask = _USER in tags or _GROUP in tags
    if tags != expected or not single or (needs_mask and _MASK not in tags):
        raise ValueError("a POSIX access list with invalid entries")
    if any(permissions > 0o7 or (tag in (_USER, _GROUP) and number == _NO_ID) for tag, permissions, number in entries):
        raise ValueError("a POSIX access list with permissions or ids that do not exist")
    return _pack(
        [(tag, permissions, number if tag in (_USER, _GROUP) else _NO_ID) for tag, permissions, number in entries]
    )


def with_mode(value: bytes, mode: int) -> bytes | None:
    """The access list *value*, normalized, after *mode* is set; None if it is equivalent to the mode alone."""
    entries = _entries(value)
    if len(entries) <= _MINIMAL_ENTRIES:
        return None
    group = _MASK if any(tag == _MASK for tag, _, _ in entries) else _GROUP_OBJ
    bits = {_USER_OBJ: mode >> 6 & 7, group: mode >> 3 & 7, _OTHER: mode & 7}
    return _pack([(tag, bits.get(tag, permissions), number) for tag, permissions, number in entries])


def _entries(value: bytes) -> list[tuple[int, int, int]]:
    try:
        return list(_ENTRY.iter_unpack(value[_HEADER.size :]))
    except struct.error as error:
        raise ValueError("a POSIX access list of an odd length") from error


def _pack(entries: list[tuple[int, int, int]]) -> bytes:
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in entries)
