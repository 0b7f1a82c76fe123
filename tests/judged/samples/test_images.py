from __future__ import annotations

import gzip
import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.oci import Platform
from drypoint.samples.applications import sample_images
from drypoint.samples.images import Compression, build_image, build_index, build_layer, registry_content
from drypoint.samples.layers import LayerBuilder, TarFormat, file_capability, gnu_number, with_checksum
from drypoint.samples.program import static_program

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TAR = LayerBuilder().file("a", b"1" * 200_000).directory("d").finish()


@pytest.mark.parametrize("tar_format", TarFormat)
def test_both_formats_are_read_by_python_and_gnu_tar(tar_format: TarFormat) -> None:
    builder = LayerBuilder(tar_format=tar_format)
    builder.directory("d", mode=0o1777, uid=5_000_000, gid=6).file("d/" + "n" * 200, b"content", mtime=-1_000_000_000)
    builder.symlink("s", "t" * 200).hardlink("h", "d/" + "n" * 200).char_device("c", 1, 3).block_device("b", 8, 1).fifo(
        "p"
    )
    builder.whiteout("d/gone").opaque("d").file("pieces", iter([b"ab", b"c"]), size=3)
    content = builder.finish()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = {member.name: member for member in tar}
    assert (found["d"].mode, found["d"].uid, found["d"].gid) == (0o1777, 5_000_000, 6)
    assert found["d/" + "n" * 200].size == 7
    assert float(found["d/" + "n" * 200].mtime) == -1
    assert (found["s"].linkname, found["h"].linkname) == ("t" * 200, "d/" + "n" * 200)
    assert found["b"].devmajor == 8
    assert {"d/.wh.gone", "d/.wh..wh..opq", "pieces", "c", "p"} < set(found)
    listed = subprocess.run(["tar", "-tf", "-"], input=content, capture_output=True, check=True, text=False).stdout
    assert len(listed.splitlines()) == len(found)


def test_extended_attributes_and_global_headers() -> None:
    content = (
        LayerBuilder()
        .pax_global({b"comment": b"x"})
        .file("f", xattrs={b"security.capability": file_capability(13)}, mtime=1_500_000_000)
        .finish()
    )
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        headers = tar.getmembers()[0].pax_headers
    assert headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == file_capability(13)
    assert (headers["mtime"], headers["comment"]) == ("1.5", "x")


@pytest.mark.needs(root=True)
def test_a_capability_is_what_the_kernel_understands(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"")
    os.setxattr(file, "security.capability", file_capability(10, 13))
    getcap = Path("/usr/sbin/getcap")
    if getcap.exists():
        shown = subprocess.run([getcap, file], capture_output=True, text=True, check=True).stdout
        assert "cap_net_bind_service,cap_net_raw=ep" in shown
    assert os.getxattr(file, "security.capability") == file_capability(10, 13)


def test_wrong_sizes_are_told() -> None:
    with pytest.raises(ValueError, match="expected 2 bytes"):
        LayerBuilder().file("f", iter([b"abc"]), size=2)
    with pytest.raises(ValueError, match="must be given"):
        LayerBuilder().file("f", iter([b"abc"]))


@given(st.integers(-(1 << 80), 1 << 80))
def test_gnu_numbers(number: int) -> None:
    header = bytearray(LayerBuilder(tar_format=TarFormat.GNU).fifo("f").finish()[:512])
    header[136:148] = gnu_number(number, 12)
    assert tarfile.TarInfo.frombuf(with_checksum(bytes(header)), "utf-8", "strict").mtime == number


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("from_file", [False, True])
def test_layers_are_compressed(tmp_path: Path, compression: Compression, from_file: bool) -> None:
    (tmp_path / "tar").write_bytes(TAR)
    layer = build_layer(tmp_path / "tar" if from_file else TAR, compression, store=tmp_path / "blob")
    content = layer.content if isinstance(layer.content, bytes) else layer.content.read_bytes()
    assert layer.descriptor.digest == "sha256:" + hashlib.sha256(content).hexdigest()
    assert layer.descriptor.size == len(content)
    assert layer.diff_id == "sha256:" + hashlib.sha256(TAR).hexdigest()
    readers: dict[Compression, Callable[[bytes], bytes]] = {
        Compression.NONE: bytes,
        Compression.GZIP: gzip.decompress,
        Compression.GZIP_MEMBERS: gzip.decompress,
        Compression.ZSTD: zstd.decompress,
    }
    assert readers[compression](content) == TAR
    if compression is Compression.GZIP_MEMBERS:
        first = zlib.decompressobj(wbits=31)
        assert len(first.decompress(content)) < len(TAR)
        assert first.unused_data


def test_registry_content_has_every_manifest_by_digest_and_tag() -> None:
    layer = build_layer(TAR)
    images = [build_image([layer], platform=Platform("linux", name)) for name in ("amd64", "arm64")]
    index = build_index(images)
    content = registry_content({"team/app:1": index, "localhost:5000/app": images[0]})
    assert content.manifests["team/app", "1"] == content.manifests["team/app", index.digest]
    assert content.manifests["team/app", images[1].digest] == (images[1].media_type, images[1].manifest)
    assert content.manifests["app", "latest"][1] == images[0].manifest
    assert set(content.blobs) == {layer.descriptor.digest, images[0].image_id, images[1].image_id}


def test_samples_are_the_same_each_time_and_share_their_base() -> None:
    first, second = sample_images(), sample_images()
    assert first == second
    weather, gateway = first["demo/weather:1.0"], first["demo/gateway:1.0"]
    assert weather.layers[0] == gateway.layers[0]
    assert not {layer.diff_id for layer in weather.layers[1:]} & {layer.diff_id for layer in gateway.layers[1:]}
    assert sample_images(zstd=True)["demo/gateway:1.0"].layers[1].descriptor.media_type.endswith("+zstd")
    assert sample_images(Platform("linux", "arm64"))["demo/weather:1.0"].platform.architecture == "arm64"


def test_the_program_runs(tmp_path: Path) -> None:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    program = tmp_path / "hello"
    program.write_bytes(static_program("größe", architecture))
    program.chmod(0o755)
    result = subprocess.run([program], capture_output=True, check=True)
    assert result.stdout == "größe\n".encode()


def test_the_program_is_small_and_says_what_it_cannot_be() -> None:
    assert len(static_program("x", "arm64")) < 256
    with pytest.raises(ValueError, match="amd64 and arm64"):
        static_program("x", "s390x")
    with pytest.raises(ValueError, match="too long"):
        static_program("x" * 5000)
