"""The extended attributes that an inode has after the engine has set them, by the rules of the Linux kernel.

Source: dockerd 20.10.24 on ext4, observed. It ignores what the kernel does not permit for the kind of inode, and fails on
what the kernel calls invalid. Names and lengths are checked where the tar is read.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from . import acl

Xattrs: TypeAlias = tuple[tuple[bytes, bytes], ...]
Kind: TypeAlias = Literal["directory", "regular", "symlink", "special"]

CAPABILITY = b"security.capability"
OPAQUE = (b"trusted.overlay.opaque", b"y")
_CAPABILITY_SIZES = {2: 20, 3: 24}
"""Bytes of a file capability, by the version in its highest byte: Linux, include/uapi/linux/capability.h."""


def made(wanted: Xattrs, kind: Kind, mode: int, above: Xattrs) -> Xattrs:
    """The xattrs of a new inode whose header has *wanted* and whose directory has *above*.

    Raises:
        ValueError: one of *wanted* makes the engine fail; the message names it and the reason.
    """
    if not wanted and not above:
        return ()
    return _with_mode(_set(_inherited(above, kind), wanted, kind), mode)


def changed(old: Xattrs, wanted: Xattrs, kind: Kind, mode: int) -> Xattrs:
    """The xattrs of an inode with *old* after the engine applied a header with *wanted* and *mode* to it.

    Setting the owner, which comes first, removes the file capability from anything but a directory.

    Raises:
        ValueError: as :func:`made`.
    """
    if not old and not wanted:
        return ()
    if kind != "directory":
        old = tuple(pair for pair in old if pair[0] != CAPABILITY)
    return _with_mode(_set(old, wanted, kind), mode)


def marked_opaque(old: Xattrs) -> Xattrs:
    return _sorted({**dict(old), OPAQUE[0]: OPAQUE[1]})


def _inherited(above: Xattrs, kind: Kind) -> Xattrs:
    default = dict(above).get(acl.DEFAULT)
    if default is None or kind == "symlink":
        return ()
    return ((acl.ACCESS, default), (acl.DEFAULT, default)) if kind == "directory" else ((acl.ACCESS, default),)


def _set(old: Xattrs, wanted: Xattrs, kind: Kind) -> Xattrs:
    if not wanted:
        return old
    result = dict(old)
    for name, value in wanted:
        if name.startswith(b"user.") and kind not in ("directory", "regular"):
            continue
        if name in (acl.ACCESS, acl.DEFAULT):
            if kind == "symlink":
                continue
            if name == acl.DEFAULT and kind != "directory":
                raise ValueError("a default POSIX access list on an entry that is not a directory")
            normal = acl.normal(value)
            if normal is None:
                result.pop(name, None)
                continue
            value = normal
        if name == CAPABILITY and not _is_capability(value):
            raise ValueError("security.capability is not a file capability of version 2 or 3")
        result[name] = value
    return _sorted(result)


def _with_mode(xattrs: Xattrs, mode: int) -> Xattrs:
    result = dict(xattrs)
    access = result.pop(acl.ACCESS, None)
    if access is None:
        return xattrs
    if (kept := acl.with_mode(access, mode)) is not None:
        result[acl.ACCESS] = kept
    return _sorted(result)


def _sorted(xattrs: dict[bytes, bytes]) -> Xattrs:
    return tuple(sorted(xattrs.items()))


def _is_capability(value: bytes) -> bool:
    return len(value) >= 4 and _CAPABILITY_SIZES.get(value[3]) == len(value)
