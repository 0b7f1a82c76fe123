"""Cases of extended attributes: every namespace, on every kind of inode.

Format of access lists: Linux, include/uapi/linux/posix_acl_xattr.h.
"""

from __future__ import annotations

import struct

from tests.support.corpus.case import Case, case, layer, padded, with_records

from drypoint.samples.layers import file_capability
from drypoint.sinks.tar import UstarHeader

_CAPABILITY = file_capability(10, 13)
_SELINUX = b"system_u:object_r:bin_t:s0\0"
_ANY = 0xFFFFFFFF


def _acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


_MINIMAL = _acl((1, 7, _ANY), (4, 5, _ANY), (0x20, 5, _ANY))
_FULL = _acl((1, 6, _ANY), (2, 7, 1000), (4, 4, _ANY), (8, 6, 100), (0x10, 7, _ANY), (0x20, 4, _ANY))
_ACCESS, _DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"


def _on_everything(name: bytes, value: bytes) -> bytes:
    """An attribute on every kind of inode except a hard link."""
    xattrs = {name: value}
    return (
        layer()
        .file("file", b"1", xattrs=xattrs)
        .directory("directory", xattrs=xattrs)
        .symlink("link", "file", xattrs=xattrs)
        .fifo("fifo", xattrs=xattrs)
        .char_device("char", 1, 3, xattrs=xattrs)
        .block_device("block", 8, 1, xattrs=xattrs)
        .finish()
    )


def _raw(name: bytes, value: bytes) -> bytes:
    """A file with an attribute of any name."""
    return layer().raw(with_records({b"SCHILY.xattr." + name: value}, b"file")).finish()


def _twice() -> bytes:
    body = b"27 SCHILY.xattr.user.a=one\n27 SCHILY.xattr.user.a=two\n"
    return (
        UstarHeader(b"PaxHeaders/f", b"x", size=len(body)).pack()
        + padded(body)
        + UstarHeader(b"f", b"0", mode=0o644).pack()
    )


ATTRIBUTES: tuple[Case, ...] = (
    case(
        "xattr-user",
        "a user attribute on everything: only files and directories take it",
        _on_everything(b"user.note", b"n"),
    ),
    case("xattr-trusted", "a trusted attribute on everything", _on_everything(b"trusted.note", b"t")),
    case("xattr-selinux", "an SELinux label on everything", _on_everything(b"security.selinux", _SELINUX)),
    case(
        "xattr-security-other",
        "security attributes of other modules",
        layer().file("f", xattrs={b"security.SMACK64": b"_", b"security.apparmor": b"x", b"security.anything": b"y"}),
    ),
    case(
        "xattr-ima",
        "integrity attributes: ima and evm",
        layer().file("f", xattrs={b"security.ima": b"\x01" + b"h" * 20}),
    ),
    case(
        "xattr-evm",
        "an evm attribute, which the kernel checks",
        layer().file("f", xattrs={b"security.evm": b"\x02" + b"h" * 20}),
    ),
    case("xattr-capability", "a file capability on everything", _on_everything(b"security.capability", _CAPABILITY)),
    case(
        "xattr-capability-v3",
        "a file capability of version 3, with a root user of its own",
        layer().file("f", xattrs={b"security.capability": struct.pack("<6I", 0x03000001, 1 << 13, 0, 0, 0, 1000)}),
    ),
    case(
        "xattr-capability-v3-root",
        "a file capability of version 3 for the true root",
        layer().file("f", xattrs={b"security.capability": struct.pack("<6I", 0x03000001, 1 << 13, 0, 0, 0, 0)}),
    ),
    case(
        "xattr-capability-v1",
        "a file capability of version 1",
        layer().file("name", xattrs={b"security.capability": struct.pack("<3I", 0x01000001, 1 << 13, 0)}),
        refused="b'name'",
    ),
    case(
        "xattr-capability-short",
        "a file capability of three bytes",
        layer().file("name", xattrs={b"security.capability": b"abc"}),
        refused="b'name'",
    ),
    case(
        "xattr-capability-long",
        "a file capability with a byte too many",
        layer().file("name", xattrs={b"security.capability": _CAPABILITY + b"\0"}),
        refused="b'name'",
    ),
    case(
        "xattr-capability-replaced",
        "a file with a capability, replaced by one without",
        layer().file("f", xattrs={b"security.capability": _CAPABILITY}).file("/f", b"new"),
    ),
    case("xattr-acl", "an access list on everything", _on_everything(_ACCESS, _FULL)),
    case("xattr-acl-minimal", "an access list that says no more than a mode", _on_everything(_ACCESS, _MINIMAL)),
    case(
        "xattr-acl-mode",
        "an access list and a mode that say different things",
        layer().file("f", mode=0o640, xattrs={_ACCESS: _FULL}).directory("d", mode=0o2700, xattrs={_ACCESS: _FULL}),
    ),
    case(
        "xattr-acl-default",
        "a default access list, and what is made below it",
        layer()
        .directory("d", xattrs={_DEFAULT: _FULL})
        .file("d/f", mode=0o600)
        .directory("d/sub")
        .symlink("d/l", "f")
        .fifo("d/p")
        .file("d/unnamed/f")
        .whiteout("d/gone"),
    ),
    case(
        "xattr-acl-default-on-file",
        "a default access list on a file",
        layer().file("name", xattrs={_DEFAULT: _FULL}),
        refused="b'name'",
    ),
    case(
        "xattr-acl-both",
        "both access lists on a directory",
        layer().directory("d", xattrs={_ACCESS: _FULL, _DEFAULT: _MINIMAL}),
    ),
    case("xattr-acl-empty-list", "an access list without entries", layer().file("f", xattrs={_ACCESS: _acl()})),
    case(
        "xattr-acl-short",
        "an access list of two bytes",
        layer().file("name", xattrs={_ACCESS: b"\x02\0"}),
        refused="b'name'",
    ),
    case(
        "xattr-acl-odd",
        "an access list of an odd length",
        layer().file("name", xattrs={_ACCESS: _FULL + b"\0"}),
        refused="b'name'",
    ),
    case("xattr-acl-version", "an access list of version 3", layer().file("f", xattrs={_ACCESS: b"\x03" + _FULL[1:]})),
    case(
        "xattr-acl-disorder",
        "an access list whose entries are in a wrong order",
        layer().file("name", xattrs={_ACCESS: _acl((4, 5, _ANY), (1, 7, _ANY), (0x20, 5, _ANY))}),
        refused="name",
    ),
    case(
        "xattr-acl-no-mask",
        "an access list with a named user and no mask",
        layer().file("name", xattrs={_ACCESS: _acl((1, 7, _ANY), (2, 7, 5), (4, 5, _ANY), (0x20, 5, _ANY))}),
        refused="name",
    ),
    case(
        "xattr-acl-same-user-twice",
        "an access list that names a user twice",
        layer().file(
            "name",
            xattrs={_ACCESS: _acl((1, 7, _ANY), (2, 7, 5), (2, 6, 5), (4, 5, _ANY), (0x10, 7, _ANY), (0x20, 5, _ANY))},
        ),
    ),
    case("xattr-system-other", "a system attribute that is none", _on_everything(b"system.other", b"x")),
    case("xattr-no-namespace", "an attribute without a namespace", _on_everything(b"note", b"x")),
    case("xattr-unknown-namespace", "an attribute of a namespace that nobody knows", _on_everything(b"osx.note", b"x")),
    case(
        "xattr-bare-namespace", "an attribute that is nothing but a namespace", _raw(b"user.", b"x"), refused="b'file'"
    ),
    case("xattr-no-name", "an attribute with a name of no bytes", _raw(b"", b"x"), refused="b'file'"),
    case("xattr-empty-value", "an attribute of no bytes", layer().file("f", xattrs={b"user.empty": b""})),
    case(
        "xattr-binary",
        "names and values that are no text",
        layer().file("f", xattrs={b"user.\xff\xfe": bytes(range(256)), b"user.a b": b"\n="}),
    ),
    case("xattr-equals", "an attribute whose name holds a '=': to PAX, the rest is the value", _raw(b"user.a=b", b"c")),
    case(
        "xattr-long-name",
        "an attribute with a name of 255 bytes",
        layer().file("f", xattrs={b"user." + b"n" * 250: b"x"}),
    ),
    case(
        "xattr-name-256",
        "an attribute with a name of 256 bytes",
        layer().file("name", xattrs={b"user." + b"n" * 251: b"x"}),
        refused="b'name'",
    ),
    case(
        "xattr-1000",
        "an attribute of 1,000 bytes, too long for an inode",
        layer().file("f", xattrs={b"user.big": b"v" * 1000}),
    ),
    case(
        "xattr-4000",
        "an attribute of 4,000 bytes, nearly a block of ext4",
        layer().file("f", xattrs={b"user.big": b"v" * 4000}),
    ),
    case(
        "xattr-many",
        "forty attributes on one file",
        layer().file("f", xattrs={b"user.%d" % number: b"value" for number in range(40)}),
    ),
    case(
        "xattr-65537",
        "an attribute of 65,537 bytes",
        layer().file("name", xattrs={b"user.big": b"v" * 65_537}),
        refused="b'name'",
    ),
    case(
        "xattr-overlay-opaque",
        "the attribute that makes a directory opaque, straight from the tar",
        layer().directory("d", xattrs={b"trusted.overlay.opaque": b"y"}).file("d/f"),
    ),
    case(
        "xattr-overlay-other",
        "attributes of overlayfs, straight from the tar",
        layer()
        .directory("d", xattrs={b"trusted.overlay.redirect": b"/x", b"trusted.overlay.origin": b"\0"})
        .file("d/f"),
    ),
    case(
        "xattr-libarchive",
        "attributes as libarchive and star's ACLs spell them: passed over",
        layer().raw(
            with_records(
                {
                    b"LIBARCHIVE.xattr.user.a": b"eA==",
                    b"SCHILY.acl.access": b"user::rwx",
                    b"RHT.security.selinux": _SELINUX,
                },
                b"file",
            )
        ),
    ),
    case("xattr-twice", "the same attribute twice in one header: the last one holds", layer().raw(_twice())),
    case(
        "xattr-merged-directory",
        "a directory named twice, with other attributes: all are there",
        layer()
        .directory("d", xattrs={b"user.a": b"1", b"user.b": b"1"})
        .directory("/d", xattrs={b"user.b": b"2", b"user.c": b"3"}),
    ),
    case(
        "xattr-on-root",
        "attributes on the root, as ./ and as /",
        layer()
        .directory(".", xattrs={b"user.dot": b"1"})
        .raw(with_records({b"SCHILY.xattr.user.slash": b"2"}, b"/", b"5")),
    ),
    case(
        "xattr-on-whiteout",
        "attributes on a whiteout's entry",
        layer().whiteout("f", xattrs={b"trusted.x": b"1", b"user.y": b"2"}),
    ),
    case(
        "xattr-on-opaque",
        "attributes on an opaque mark's entry",
        layer().directory("d").opaque("d", xattrs={b"user.y": b"2"}),
    ),
    case(
        "xattr-on-global",
        "attributes in a global header: passed over",
        layer().pax_global({b"SCHILY.xattr.user.a": b"1"}).file("f"),
    ),
)
