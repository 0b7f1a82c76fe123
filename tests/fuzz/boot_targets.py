"""The boot partition: its allocation table, and the files that a user puts into it."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator

from drypoint.balena.boot_config import check_config, config_application, merge_config, parse_setting
from drypoint.balena.network import read_connection, static_ip_connection
from drypoint.balena.splash import check_png
from drypoint.disk.fat.allocation_table import free_clusters, read_fat_table
from drypoint.disk.fat.chains import check_chains
from drypoint.errors import DiskImageError, UsageError
from tests.support.devices import PatchedDevice

from .material import Material, patch
from .target import PropertyError, Target

_SECTOR = 512
_MIB = 1 << 20
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SEPARATOR = b"\n--\n"
_MOST_EDITS = 12
# Kind, sectors, sectors in a cluster, reserved sectors, root entries, sectors of a table.
_SHAPES = ((12, 4096, 4, 1, 512, 3), (16, 8192, 1, 1, 512, 32), (32, 70_000, 1, 32, 0, 547))


def read_any_table(data: bytes) -> None:
    material = Material(data)
    kind, sectors, per_cluster, reserved, roots, size = material.choice(_SHAPES)
    boot = _boot_sector(kind, sectors, per_cluster, reserved, roots, size)
    table = bytearray(b"\xf8\xff\xff\xff" + bytes(size * _SECTOR - 4))
    table[4:32] = b"\xff" * 28
    root = bytearray(
        _entry(b"FILE", 0x20, 3, 5) + _entry(b"DIR", 0x10, 5, 0) + _entry(b"LABEL", 0x08, 0, 0) + bytes(_SECTOR - 96)
    )
    for _ in range(_MOST_EDITS):
        if not material:
            break
        part = material.choice((boot, table, table, root))
        patch(part, material.number(2) % len(part), material)
    # FAT32's root directory is cluster 2, which begins where the others' root directory does.
    parts = {
        0: boot,
        reserved * _SECTOR: table,
        (reserved + size) * _SECTOR: table,
        (reserved + 2 * size) * _SECTOR: root,
    }
    device = PatchedDevice(sectors * _SECTOR, parts)
    found = read_fat_table(device)
    free = free_clusters(device, found)
    check_chains(device, found)
    if not 0 <= free <= found.clusters or found.clusters * found.cluster_size > device.size:
        raise PropertyError(f"{free} of {found} are free on {device.size} bytes")


def _entry(name: bytes, attributes: int, first: int, size: int) -> bytes:
    return name.ljust(11) + bytes([attributes]) + bytes(14) + struct.pack("<HI", first, size)


def _boot_sector(kind: int, sectors: int, per_cluster: int, reserved: int, roots: int, size: int) -> bytearray:
    boot = bytearray(_SECTOR)
    boot[:3], boot[510:] = b"\xeb\x3c\x90", b"\x55\xaa"
    small = (sectors, 0) if sectors < 1 << 16 else (0, sectors)
    struct.pack_into(
        "<HBHBHHBH", boot, 11, _SECTOR, per_cluster, reserved, 2, roots, small[0], 0xF8, 0 if kind == 32 else size
    )
    struct.pack_into("<II", boot, 32, small[1], size if kind == 32 else 0)
    if kind == 32:
        struct.pack_into("<I", boot, 44, 2)
    return boot


def _tables() -> Iterator[bytes]:
    for shape in range(len(_SHAPES)):
        yield bytes([shape])
        yield bytes([shape, 0, 40, 0, 0, 0x81])


def read_any_png(data: bytes) -> None:
    """Chunks with the right lengths and checksums, so that the checks after those are reached."""
    if not data.startswith(b"\0"):
        check_png(data, "x")
        return
    material = Material(data[1:])
    content = _SIGNATURE
    while material:
        kind = material.choice((b"IHDR", b"IDAT", b"PLTE", b"IEND", b"tEXt", b"ABCD"))
        body = material.text()
        content += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    check_png(content, "x")


def _pngs() -> Iterator[bytes]:
    header = struct.pack(">IIBBBBB", 3, 2, 8, 0, 0, 0, 0)
    rows = b"\0" + bytes(8)
    yield b"\0" + bytes([0, len(header)]) + header + bytes([1, len(rows)]) + rows + bytes([3, 0])
    yield b"\0" + bytes([0, len(header)]) + header + bytes([2, 3]) + b"abc" + bytes([3, 0])
    yield _SIGNATURE + struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))


def merge_any_config(data: bytes) -> None:
    content, _, settings = data.partition(_SEPARATOR)
    config_application(content)
    wanted = [parse_setting(text) for text in settings.decode("utf-8", "surrogateescape").split("\n") if text]
    check_config(content, "x")
    merged = merge_config(content, wanted)
    if wanted:
        before, after = json.loads(content), json.loads(merged)
        named = {setting.key[0] for setting in wanted}
        if {key: value for key, value in before.items() if key not in named} != {
            key: value for key, value in after.items() if key not in named
        }:
            raise PropertyError("a key that is not named has changed")


def _configs() -> Iterator[bytes]:
    config = {"applicationId": 7, "apiKey": "x", "os": {"network": {"a": 1.5}}, "list": [{}, "é", None]}
    for indent in (None, 2):
        yield json.dumps(config, indent=indent).encode() + _SEPARATOR + b'hostname=x\nos.network.b={"c":1}'
    yield b'{"applicationId":"7"}' + _SEPARATOR + rb"a\.b=true"


def read_any_connection(data: bytes) -> None:
    name, _, content = data.partition(b"\n")
    text = name.decode("utf-8", "surrogateescape")
    connection = static_ip_connection(text[1:]) if text.startswith("=") else read_connection(text, content, "x")
    if read_connection(connection.name, connection.content, "x") != connection:
        raise PropertyError("a profile that was taken is not taken again")


def _connections() -> Iterator[bytes]:
    yield b"wifi\n[connection]\nid=x\ntype=wifi\nuuid=1\n# comment\n[wifi]\nssid=y\n"
    yield b"=10.0.0.1/24,10.0.0.254\n"
    yield b"wifi.ignore\n[connection]\nid=x\ntype=wifi\n"


TARGETS: tuple[Target, ...] = (
    Target(
        "fat_table",
        read_any_table,
        _tables,
        ("drypoint.disk.fat.allocation_table", "drypoint.disk.fat.chains", "drypoint.disk.probe"),
        (DiskImageError,),
        longest=256,
    ),
    Target(
        "png",
        read_any_png,
        _pngs,
        ("drypoint.balena.splash",),
        (UsageError,),
        tokens=(b"IHDR", b"IDAT", b"PLTE", b"IEND"),
    ),
    Target(
        "boot_config",
        merge_any_config,
        _configs,
        ("drypoint.balena.boot_config",),
        (UsageError,),
        tokens=(b'"applicationId":', _SEPARATOR, b"=", b"null"),
    ),
    Target(
        "connection",
        read_any_connection,
        _connections,
        ("drypoint.balena.network", "drypoint.disk.fat.files"),
        (UsageError,),
        tokens=(b"[connection]", b"id=", b"type=", b"=10.0.0.1/24"),
    ),
)
