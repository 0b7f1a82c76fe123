"""Which of a tar entry's extended attributes end up on the disk.

The engine sets each one and continues if the kernel answers that it is not supported or not permitted; any other error fails
the layer. Source of the kernel's answers: xattr(7), fs/xattr.c, fs/posix_acl.c, security/commoncap.c.
"""

from __future__ import annotations

_MAX_NAME = 255
_MAX_VALUE = 64 << 10
_USER, _TRUSTED, _SECURITY = b"user.", b"trusted.", b"security."
_CAPABILITY = b"security.capability"
_CAPABILITY_LENGTHS = {2: 20, 3: 24}
_ACL_ACCESS, _ACL_DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
_ACL_VERSION = 2
_ACL_HEADER, _ACL_ENTRY = 4, 8


def lands(name: bytes, value: bytes, *, is_directory: bool, is_symlink: bool, has_user_namespace: bool) -> bool:
    """Whether the attribute is there after the engine has set it.

    Args:
        has_user_namespace: the inode is a regular file or a directory; others cannot have ``user.`` attributes.

    Raises:
        ValueError: the kernel's error fails the layer; the message says why.
    """
    if len(name) > _MAX_NAME or len(value) > _MAX_VALUE:
        raise ValueError(f"the extended attribute {name[:100]!r} is longer than Linux allows")
    if name in (b"", _USER, _TRUSTED, _SECURITY):
        raise ValueError(f"the extended attribute {name!r} has no name, or none after its namespace")
    if name == _CAPABILITY and len(value) != _CAPABILITY_LENGTHS.get(value[3] if len(value) > 3 else 0):
        raise ValueError(f"security.capability with {len(value)} bytes is malformed")
    if name.startswith(_USER):
        return has_user_namespace
    if name in (_ACL_ACCESS, _ACL_DEFAULT):
        return _acl_lands(name, value, is_directory=is_directory, is_symlink=is_symlink)
    return name.startswith((_TRUSTED, _SECURITY))


def _acl_lands(name: bytes, value: bytes, *, is_directory: bool, is_symlink: bool) -> bool:
    if len(value) < _ACL_HEADER:
        raise ValueError(f"{name.decode()} with {len(value)} bytes is malformed")
    if int.from_bytes(value[:_ACL_HEADER], "little") != _ACL_VERSION:
        return False
    if (len(value) - _ACL_HEADER) % _ACL_ENTRY:
        raise ValueError(f"{name.decode()} with {len(value)} bytes is malformed")
    if len(value) == _ACL_HEADER or is_symlink:
        return False
    if name == _ACL_DEFAULT and not is_directory:
        raise ValueError(f"{name.decode()} on an entry that is not a directory")
    return True
