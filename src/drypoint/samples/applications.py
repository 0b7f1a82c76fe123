"""Two sample applications that share their base: what the demo preloads and the tests run.

Their layers hold every kind of entry that a layer can: whiteouts, an opaque directory, hard links, devices,
a FIFO, a file capability, setuid and sticky bits, large owners, short, long and non-UTF-8 names, short and long symbolic
links, sub-second times, hundreds of small files and one of several MiB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from ..oci import Platform
from .images import LINUX_AMD64, BuiltImage, BuiltLayer, Compression, build_image, build_layer
from .layers import DEFAULT_MTIME, LayerBuilder, file_capability
from .program import static_program

_SMALL_FILES = 400
_BIG_FILE_BYTES = 6 << 20
_CAP_NET_BIND_SERVICE = 10
_CAP_NET_RAW = 13


def sample_images(platform: Platform = LINUX_AMD64, *, zstd: bool = False) -> dict[str, BuiltImage]:
    """The images by ``repository:tag``: ``demo/weather:1.0`` and ``demo/gateway:1.0``.

    Each runs as it is (``docker run demo/weather:1.0``) and prints one line; *platform* is linux/amd64 or linux/arm64. Layers
    are gzip, one of them in several members; with *zstd* one layer is zstd, which engines before 23 cannot pull.
    """
    base = build_layer(_base())
    return {
        "demo/weather:1.0": _application("weather", platform, [base, _weather(), _weather_update()]),
        "demo/gateway:1.0": _application(
            "gateway", platform, [base, _gateway(Compression.ZSTD if zstd else Compression.GZIP)]
        ),
    }


def sample_content(seed: str, size: int) -> bytes:
    """*size* bytes that hardly compress; equal seeds give equal bytes."""
    return b"".join(_blocks(seed, size))[:size]


def _blocks(seed: str, size: int) -> Iterator[bytes]:
    # In pieces of 1 MiB, so that the peak memory stays small.
    for number in range(-(-size // (1 << 20))):
        yield hashlib.shake_128(f"{seed} {number}".encode()).digest(1 << 20)


def _application(name: str, platform: Platform, layers: list[BuiltLayer]) -> BuiltImage:
    program = LayerBuilder()
    program.directory("opt")
    program.file(
        f"opt/{name}", static_program(f"{name}: hello from the preloaded image", platform.architecture), mode=0o755
    )
    return build_image(
        [*layers, build_layer(program.finish())],
        config={"Entrypoint": [f"/opt/{name}"], "Env": ["PATH=/usr/bin:/bin"], "Labels": {"org.example.app": name}},
        platform=platform,
    )


def _base() -> bytes:
    """The base layer, like a distribution's userland."""
    layer = LayerBuilder()
    for name in (
        "bin",
        "dev",
        "etc",
        "lib",
        "root",
        "tmp",
        "usr",
        "usr/bin",
        "usr/share",
        "usr/share/doc",
        "var",
        "var/lib",
    ):
        layer.directory(name, mode={"root": 0o700, "tmp": 0o1777}.get(name, 0o755))
    layer.file("etc/os-release", b'NAME="drypoint sample"\nID=sample\nVERSION_ID=1\n')
    layer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    layer.file("etc/shadow", b"root:*:19000:0:99999:7:::\n", mode=0o640, gid=42)
    layer.file(
        "bin/ping",
        sample_content("ping", 70_000),
        mode=0o755,
        xattrs={b"security.capability": file_capability(_CAP_NET_RAW)},
    )
    layer.file("bin/su", sample_content("su", 60_000), mode=0o4755)
    layer.file("bin/wall", sample_content("wall", 30_000), mode=0o2755, gid=5)
    layer.hardlink(
        "usr/bin/ping", "bin/ping", mode=0o755, xattrs={b"security.capability": file_capability(_CAP_NET_RAW)}
    )
    layer.symlink("bin/sh", "su").symlink("lib/long-link", "../usr/share/" + "very-long-directory-name/" * 8 + "file")
    layer.char_device("dev/null", 1, 3, mode=0o666).block_device("dev/sda300", 259, 300, mode=0o660, gid=6)
    layer.fifo("dev/initctl", mode=0o600)
    for number in range(_SMALL_FILES):
        if number % 100 == 0:
            layer.directory(f"usr/share/doc/{number:04}")
        layer.file(
            f"usr/share/doc/{number - number % 100:04}/file-{number}.txt",
            sample_content(f"small {number}", number * 7),
            mtime=DEFAULT_MTIME + number * 1_000_000_123,
        )
    layer.file("usr/share/firmware.bin", sample_content("firmware", _BIG_FILE_BYTES))
    return layer.finish()


def _weather() -> BuiltLayer:
    layer = LayerBuilder()
    layer.directory("usr").directory("usr/share").directory("usr/share/weather", uid=100_000, gid=70_000)
    layer.file("usr/share/weather/" + "long-name-" * 20 + "end", b"named long\n", uid=100_000, gid=70_000)
    layer.file(b"usr/share/weather/caf\xe9", b"a name in Latin-1\n")
    layer.file("usr/share/weather/größe", b"a name in UTF-8\n", xattrs={b"user.note": b"binary \x00\xff value"})
    layer.file("usr/share/weather/empty").hardlink("usr/share/weather/empty-too", "usr/share/weather/empty")
    layer.directory("var").directory("var/lib").directory("var/lib/weather")
    layer.file("var/lib/weather/cache.db", sample_content("cache", 300_000)).file("var/lib/weather/old.db", b"old\n")
    layer.whiteout("usr/share/doc/0100").whiteout("bin/wall")
    return build_layer(layer.finish(), Compression.GZIP_MEMBERS)


def _weather_update() -> BuiltLayer:
    layer = LayerBuilder()
    layer.directory("var/lib/weather", mode=0o750, uid=1000, gid=1000).opaque("var/lib/weather")
    layer.file("var/lib/weather/fresh.db", sample_content("fresh", 50_000), uid=1000, gid=1000, mode=0o600)
    layer.file("etc/os-release", b'NAME="drypoint sample"\nID=sample\nVERSION_ID=2\n')
    layer.whiteout("usr/share/weather/empty-too")
    return build_layer(layer.finish(), Compression.GZIP)


def _gateway(compression: Compression) -> BuiltLayer:
    layer = LayerBuilder()
    layer.directory("srv", mode=0o2775, gid=1000)
    layer.file(
        "srv/gatewayd",
        sample_content("gatewayd", 900_000),
        mode=0o750,
        uid=1000,
        gid=1000,
        xattrs={b"security.capability": file_capability(_CAP_NET_BIND_SERVICE, _CAP_NET_RAW)},
    )
    layer.file("srv/sparse-looking.img", bytes(2 << 20)).symlink("srv/current", "gatewayd")
    layer.whiteout("usr/share/firmware.bin")
    return build_layer(layer.finish(), compression)
