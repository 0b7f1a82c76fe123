"""Cases of numbers: sizes, owners, modes and times in all spellings."""

from __future__ import annotations

import random

from tests.support.corpus.case import GNU_MAGIC, SECONDS, Case, case, layer, padded, with_records

from drypoint.samples.layers import DEFAULT_MTIME, LayerBuilder, TarFormat, gnu_number, with_checksum
from drypoint.sinks.tar import UstarHeader

_MODE, _UID, _GID, _SIZE, _MTIME = (100, 8), (108, 8), (116, 8), (124, 12), (136, 12)
_MAJOR = (329, 8)


def _with_field(
    field: tuple[int, int], text: bytes, *, name: bytes = b"file", typeflag: bytes = b"0", linkname: bytes = b""
) -> bytes:
    """A GNU header with *text* in one field."""
    start, width = field
    header = UstarHeader(name, typeflag, mode=0o644, seconds=SECONDS, linkname=linkname, magic=GNU_MAGIC).pack()
    return with_checksum(header[:start] + text.ljust(width, b"\0") + header[start + width :])


def _spelled(mode: bytes, uid: bytes, gid: bytes, name: bytes = b"file") -> bytes:
    """A header with exactly these three fields."""
    header = UstarHeader(name, b"0", seconds=SECONDS).pack()
    return with_checksum(header[:100] + mode + uid + gid + header[124:])


def _spellings(count: int) -> bytes:
    """Headers whose fields hold a number of one to eight digits, with blanks before and after it, and bytes after a NUL."""
    chance = random.Random(1)

    def field(largest: int) -> bytes:
        digits = b"%o" % chance.randint(0, largest)
        before = bytes(chance.choices(b" \0", k=chance.choice((0, 0, 0, 8 - len(digits))) and chance.randint(0, 1)))
        zeros = b"0" * chance.randint(0, 8 - len(before) - len(digits))
        text = before + zeros + digits
        behind = bytes(chance.choices(b" \0", k=8 - len(text)))
        if len(behind) > 1 and behind[0] == 0 and chance.random() < 0.5:
            behind = behind[:-1] + b"%d" % chance.randint(0, 7)
        return text + behind

    return b"".join(
        _spelled(field(0o7777), field(0o777777), field(0o777777), b"spelled-%d" % number) for number in range(count)
    )


def _timed(*times: bytes) -> bytes:
    """A file, a directory and a symbolic link for each PAX time."""
    builder = layer()
    for number, time in enumerate(times):
        for typeflag, kind in ((b"0", "file"), (b"5", "directory")):
            builder.raw(with_records({b"mtime": time}, f"{kind}-{number}".encode(), typeflag))
        builder.raw(with_records({b"mtime": time, b"linkpath": b"target"}, f"link-{number}".encode(), b"2"))
        builder.raw(with_records({b"mtime": time}, f"fifo-{number}".encode(), b"6"))
    return builder.finish()


def _nanoseconds(*times: int) -> LayerBuilder:
    builder = LayerBuilder(tar_format=TarFormat.GNU)
    for number, time in enumerate(times):
        builder.file(f"file-{number}", mtime=time).symlink(f"link-{number}", "target", mtime=time)
    return builder


_SECOND = 1_000_000_000

NUMBERS: tuple[Case, ...] = (
    case(
        "pax-size",
        "a size by PAX; the header says 0",
        layer().raw(with_records({b"size": b"700"}, b"file", content=b"s" * 700)).file("next", b"1"),
    ),
    case(
        "pax-size-leading-zeros",
        "a PAX size with leading zeros and a plus sign",
        layer().raw(with_records({b"size": b"+007"}, b"file", content=b"1234567")).file("next", b"1"),
    ),
    case(
        "pax-size-negative", "a PAX size below 0", layer().raw(with_records({b"size": b"-1"}, b"file")), refused="size"
    ),
    case(
        "pax-size-none",
        "a PAX size that is no number",
        layer().raw(with_records({b"size": b"many"}, b"file")),
        refused="many",
    ),
    case(
        "pax-size-empty",
        "a PAX size of no bytes: the header's holds",
        layer().raw(with_records({b"size": b""}, b"file")),
    ),
    case(
        "pax-size-of-directory",
        "a directory with a size, which counts for nothing",
        layer().raw(with_records({b"size": b"512"}, b"d/", b"5")).file("d/f"),
    ),
    case(
        "header-size-of-symlink",
        "a symbolic link with a size, which counts for nothing",
        layer().raw(_with_field(_SIZE, b"00000001000\0", typeflag=b"2", linkname=b"t")).file("next"),
    ),
    case(
        "pax-owners",
        "uid and gid by PAX, up to 32 bits",
        layer()
        .file("a", uid=2_097_152, gid=4_000_000_000)
        .directory("d", uid=4_294_967_294, gid=65_536)
        .symlink("l", "a", uid=3_000_000_000, gid=3_000_000_001),
    ),
    case(
        "pax-owner-minus-one",
        "uid and gid of 2**32-1, which to chown means: as it is",
        layer().file("a", uid=4_294_967_295, gid=4_294_967_295).file("b", uid=7, gid=4_294_967_295),
    ),
    case("pax-owner-33-bits", "uid and gid over 32 bits", layer().file("a", uid=4_294_967_301, gid=1 << 40)),
    case(
        "pax-owner-negative",
        "a negative uid by PAX",
        layer().raw(with_records({b"uid": b"-5", b"gid": b"-1"}, b"file")),
    ),
    case(
        "pax-owner-none",
        "a uid that is no number",
        layer().raw(with_records({b"uid": b"root"}, b"file")),
        refused="root",
    ),
    case(
        "pax-owner-64-bits",
        "a uid over 64 bits",
        layer().raw(with_records({b"uid": b"9" * 25}, b"file")),
        refused="999",
    ),
    case(
        "base256-owners",
        "owners in base 256",
        layer()
        .raw(_with_field(_UID, gnu_number(1 << 30, 8)))
        .raw(_with_field(_GID, gnu_number(1 << 31, 8), name=b"other")),
    ),
    case(
        "base256-small",
        "small numbers in base 256",
        layer().raw(_with_field(_SIZE, b"\x80" + bytes(9) + b"\x02\xbc") + padded(b"s" * 700)).file("next", b"1"),
    ),
    case("base256-mode", "a mode in base 256", layer().raw(_with_field(_MODE, b"\x80" + bytes(5) + b"\x0f\xff"))),
    case(
        "base256-mtime",
        "a time in base 256: after 2242, where octal ends",
        _nanoseconds(8_589_934_592 * _SECOND, 9_000_000_000 * _SECOND),
    ),
    case("base256-mtime-negative", "a time before 1970 in base 256", _nanoseconds(-1 * _SECOND, -86_400 * _SECOND)),
    case("base256-uid-negative", "a negative uid in base 256", layer().raw(_with_field(_UID, b"\xff" * 7 + b"\xfb"))),
    case(
        "base256-size-negative",
        "a negative size in base 256",
        layer().raw(_with_field(_SIZE, b"\xff" * 12)),
        refused="size",
    ),
    case(
        "base256-too-big",
        "a size in base 256 of more than 64 bits",
        layer().raw(_with_field(_SIZE, b"\x80\xff" + b"\xff" * 10)),
        refused="64 bits",
    ),
    case("octal-spaces", "octal numbers among spaces", layer().raw(_with_field(_MODE, b"   755 \0")).file("next")),
    case("octal-empty", "number fields of NULs only: 0", layer().raw(_with_field(_MODE, bytes(8))).file("next")),
    case(
        "octal-tails",
        "digits behind the NUL that ends a field, which belong to no field",
        layer()
        .raw(_spelled(b"000644\0" + b"0", b"000000\0" + b"1", b"000000\0\0", b"mode-and-uid"))
        .raw(_spelled(b"0000644\0", b"000000\0" + b"1", b"000000\0\0", b"uid"))
        .raw(_spelled(b"00000644", b"00001750", b"00001751", b"eight-digits")),
    ),
    case("octal-spellings", "mode, uid and gid in many spellings", _spellings(400)),
    case("octal-bad", "a digit 9 in an octal number", layer().raw(_with_field(_MODE, b"0000799\0")), refused="octal"),
    case(
        "octal-minus", "a minus sign in an octal number", layer().raw(_with_field(_UID, b"-000001\0")), refused="octal"
    ),
    case(
        "checksum-wrong",
        "a header whose checksum is wrong",
        layer().raw(_with_field(_MODE, b"0000644\0").replace(b"file", b"fill", 1)),
        refused="checksum",
    ),
    case(
        "modes",
        "all the special bits of modes",
        layer()
        .file("setuid", mode=0o4755)
        .file("setgid", mode=0o2755)
        .directory("sticky", mode=0o1777)
        .directory("all", mode=0o7777)
        .file("none", mode=0)
        .fifo("fifo", mode=0o6000)
        .char_device("dev", 1, 3, mode=0o4666),
    ),
    case(
        "mode-with-type",
        "modes that hold a file type too, as old writers put it there, one of a socket",
        layer()
        .raw(_with_field(_MODE, b"0100644\0"))
        .raw(_with_field(_MODE, b"0140777\0", name=b"socket"))
        .raw(_with_field(_MODE, b"0040755\0", name=b"directory"))
        .raw(_with_field(_MODE, b"0120777\0", name=b"link")),
    ),
    case(
        "setgid-directory",
        "what a set-group-ID directory holds keeps its own group",
        layer().directory("d", mode=0o2775, gid=50).file("d/f").directory("d/sub").file("d/unnamed/f"),
    ),
    case(
        "setuid-with-owner",
        "set-user-ID on a file of another owner: chown comes before chmod",
        layer().file("f", b"1", mode=0o6755, uid=1000, gid=1000).hardlink("g", "f", mode=0o6755, uid=1001, gid=1001),
    ),
    case(
        "mtime-fractions",
        "PAX times with fractions of one to twelve digits",
        _timed(b"1.5", b"1700000000.1", b"1700000000.000000001", b"1700000000.999999999999", b"1700000000."),
    ),
    case("mtime-negative", "PAX times before 1970", _timed(b"-1", b"-0.5", b"-1.5", b"-86400.25")),
    case(
        "mtime-very-negative",
        "PAX times before 1901, where ext4 begins",
        _timed(b"-2147483648", b"-2147483649", b"-3000000000.5"),
    ),
    case("mtime-zero-time", "the time that Go calls zero, year 1", _timed(b"-62135596800")),
    case(
        "mtime-2038",
        "PAX times around 2038 and 2106",
        _timed(b"2147483647", b"2147483648", b"4294967295", b"4294967296"),
    ),
    case(
        "mtime-2262",
        "PAX times around 2262, where 64 bits of nanoseconds end",
        _timed(b"9223372036", b"9223372036.854775807", b"9223372036.854775808", b"9223372037"),
    ),
    case("mtime-2446", "PAX times around 2446, where ext4 ends", _timed(b"15032385535", b"15032385536")),
    case("mtime-huge", "PAX times of 63 bits of seconds", _timed(b"9223372036854775807", b"-9223372036854775808")),
    case(
        "mtime-too-huge", "a PAX time of over 64 bits", _timed(b"99999999999999999999"), refused="99999999999999999999"
    ),
    case("mtime-none", "a PAX time that is none", _timed(b"yesterday"), refused="yesterday"),
    case("mtime-exponent", "a PAX time with an exponent", _timed(b"1e9"), refused="1e9"),
    case(
        "mtime-hard-link",
        "a hard link whose time differs from its target's",
        layer().file("a", mtime=DEFAULT_MTIME).hardlink("b", "a", mtime=DEFAULT_MTIME + 5 * _SECOND),
    ),
    case(
        "mtime-of-parents",
        "directories keep their times whatever is put into them later",
        layer()
        .directory("d", mtime=_SECOND)
        .file("d/a")
        .directory("d/e", mtime=2 * _SECOND)
        .file("d/e/b")
        .whiteout("d/c"),
    ),
    case(
        "atime-bad",
        "a PAX access time that is none, which nobody wants",
        layer().raw(with_records({b"atime": b"x"}, b"file")),
        refused="'x'",
    ),
    case(
        "devices",
        "devices of all sizes of numbers",
        layer()
        .char_device("zero", 1, 5)
        .char_device("whiteout-like", 0, 0)
        .block_device("big", 4095, 1_048_575)
        .char_device("minor", 5, 256),
    ),
    case(
        "device-too-big",
        "device numbers over 12 and 20 bits",
        layer().char_device("a", 4096, 1).char_device("b", 1, 1_048_576),
    ),
    case(
        "device-base256",
        "a device number in base 256",
        layer().raw(_with_field(_MAJOR, b"\x80" + bytes(5) + b"\x01\x03", typeflag=b"3")),
    ),
)
