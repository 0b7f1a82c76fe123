"""What compressed blobs tell of their length, and how sources look at it."""

from __future__ import annotations

import gzip
import random
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.digest import digest_of
from drypoint.errors import SourceError
from drypoint.oci import Descriptor, Image, Layer, Platform, Reference, parse_config
from drypoint.samples.images import (
    Compression,
    build_image,
    build_layer,
    write_docker_archive,
    write_oci_archive,
    write_oci_layout,
)
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.registry import Faults, RegistryContent, TestRegistry, serve_registry
from drypoint.sources import DockerArchiveSource, OciLayoutSource, SizeHints
from drypoint.sources.hints import ZSTD_HEAD_BYTES, blob_hint, gzip_hint, zstd_hint
from drypoint.sources.registry import RegistryOptions, RegistrySource, RetryPolicy, StaticCredentials

GIB = 1 << 30
QUICK = RegistryOptions(
    credentials=StaticCredentials({}),
    certs_directory=Path("/nonexistent"),
    environment={},
    retry=RetryPolicy(attempts=4, first_wait=0.001, longest_wait=0.01),
)
NOISE = random.Random(5).randbytes(1_200_000)
CONTENT = NOISE + bytes(800_000)


def tail(length: int) -> bytes:
    return struct.pack("<I", length % (4 * GIB))


@pytest.mark.parametrize(
    ("length", "compressed", "told"),
    [
        (10_000, 3_000, 10_000),
        (3_000_000, 3_000_500, 3_000_000),  # cannot be compressed
        (5 * GIB, 2 * GIB, 5 * GIB),
        (4 * GIB, GIB, 4 * GIB),
        (9 * GIB, 3 * GIB, 5 * GIB),  # the least that is plausible
        (0, 50_000_000, None),  # the end of a blob that can be read in parts
        (100_000, 50_000_000, None),
        (4_000_000_000, 1_000_000, None),
    ],
)
def test_the_length_field_of_gzip(length: int, compressed: int, told: int | None) -> None:
    assert gzip_hint(tail(length), compressed) == told


@pytest.mark.parametrize("level", ["-1", "-19", "--ultra", "--long=27"])
@pytest.mark.parametrize("size", [1, 255, 256, 65_791, 65_792, 2_000_000])
@pytest.mark.needs("zstd")
def test_the_real_zstd_tells_the_content_size_of_a_file(tmp_path: Path, level: str, size: int) -> None:
    path = tmp_path / "content"
    path.write_bytes(NOISE[: size // 2].ljust(size, b"x"))
    subprocess.run(["zstd", "-q", level, path, "-o", tmp_path / "zst"], check=True)
    blob = (tmp_path / "zst").read_bytes()
    if len(blob) >= ZSTD_HEAD_BYTES:
        assert zstd_hint(blob[:ZSTD_HEAD_BYTES], len(blob)) == size
    # From a pipe it cannot be known.
    piped = subprocess.run(["zstd", "-q", level, "-c"], input=path.read_bytes(), capture_output=True, check=True).stdout
    assert zstd_hint(piped[:ZSTD_HEAD_BYTES], len(piped)) in (None, size)


def test_a_zstd_frame_that_is_one_of_many_is_not_taken_for_the_whole() -> None:
    head = b"\x28\xb5\x2f\xfd\x60" + struct.pack("<H", 10_000 - 256)
    assert zstd_hint(head.ljust(ZSTD_HEAD_BYTES), 4_000) == 10_000
    assert zstd_hint(head.ljust(ZSTD_HEAD_BYTES), 400_000) is None


@given(st.binary(max_size=40), st.integers(0, 1 << 62))
def test_no_bytes_make_more_than_is_plausible(content: bytes, compressed: int) -> None:
    told = blob_hint(compressed, lambda offset, size: content[min(offset, len(content)) :][:size])
    assert told is None or compressed - compressed // 1000 - 64 <= told <= compressed * 1030


@given(st.binary(max_size=5000), st.integers(0, 9))
def test_what_gzip_made_tells_its_length(content: bytes, level: int) -> None:
    blob = gzip.compress(content, level)
    told = blob_hint(len(blob), lambda offset, size: blob[offset : offset + size])
    assert told == len(content)


@pytest.mark.parametrize("kind", ["layout", "archive", "docker"])
def test_archives_are_looked_into(tmp_path: Path, kind: str) -> None:
    tar = LayerBuilder().file("content", CONTENT).finish()
    image = build_image([build_layer(tar), build_layer(tar + bytes(512), Compression.GZIP_MEMBERS)])
    images = {"example.com/app:1": image}
    path = tmp_path / kind
    if kind == "layout":
        path.mkdir()
        write_oci_layout(path, images)
    elif kind == "archive":
        write_oci_archive(path, images)
    else:
        write_docker_archive(path, images, compressed=True)
        assert tarfile.is_tarfile(path)
    source = DockerArchiveSource(path) if kind == "docker" else OciLayoutSource(path)
    assert isinstance(source, SizeHints)
    found = source.resolve(source.references[0], Platform("linux", "amd64"))
    assert [source.uncompressed_hint(found, layer) for layer in found.layers] == [len(tar), None]
    source.close()


def subject(registry: TestRegistry, blob: bytes, media_type: str) -> tuple[Image, Layer]:
    layer = Layer(Descriptor(media_type, digest_of(blob), len(blob)), digest_of(CONTENT), digest_of(CONTENT), None)
    config = parse_config(b'{"rootfs": {"type": "layers", "diff_ids": []}}', "a config")
    return Image((), config, (layer,), Reference(registry.host, "team/app")), layer


def ask(
    blob: bytes, faults: Faults, media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip"
) -> tuple[int | None, list[str | None]]:
    """The hint, and the ranges that were asked for."""
    content = RegistryContent(blobs={digest_of(blob): blob})
    with serve_registry(content, faults=faults) as registry, RegistrySource(QUICK) as source:
        hint = source.uncompressed_hint(*subject(registry, blob, media_type))
        asked = [request.headers.get("range") for request in registry.requests if "/blobs/" in request.path]
    return hint, asked


GZIP = gzip.compress(CONTENT)


def test_a_registry_is_asked_for_the_last_bytes_of_gzip() -> None:
    assert ask(GZIP, Faults()) == (len(CONTENT), [f"bytes={len(GZIP) - 4}-{len(GZIP) - 1}"])


def test_a_registry_is_asked_for_the_first_bytes_of_zstd() -> None:
    blob = b"\x28\xb5\x2f\xfd\x60" + struct.pack("<H", 1) + NOISE
    assert ask(blob, Faults(), "application/vnd.oci.image.layer.v1.tar+zstd") == (None, ["bytes=0-17"])


def test_small_layers_and_other_kinds_are_not_asked_for() -> None:
    assert ask(GZIP[:1_000_000], Faults()) == (None, [])
    assert ask(GZIP, Faults(), "application/vnd.oci.image.layer.v1.tar") == (None, [])


@pytest.mark.parametrize("faults", [Faults(ignore_range=True), Faults(wrong_range=True)], ids=["ignored", "wrong"])
def test_a_registry_without_ranges_costs_the_hint_alone(faults: Faults) -> None:
    assert ask(GZIP, faults) == (None, [f"bytes={len(GZIP) - 4}-{len(GZIP) - 1}"])


def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_told() -> None:
    assert ask(GZIP, Faults(refusals=2))[0] == len(CONTENT)
    with pytest.raises(SourceError):
        ask(GZIP, Faults(refusals=100))
