from __future__ import annotations

import gzip
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.scripts import ROOT

from drypoint.digest import Digest, digest_of
from drypoint.errors import (
    ContentError,
    ImageNotFoundError,
    InvalidReferenceError,
    ManifestError,
    SourceError,
    UsageError,
)
from drypoint.oci import Platform, parse_reference
from drypoint.samples.images import (
    Compression,
    build_image,
    build_layer,
    write_docker_archive,
    write_oci_layout,
)
from drypoint.samples.layers import LayerBuilder
from drypoint.sources import DockerArchiveSource, ImageSource

SAVED = ROOT / "tests/data" / "docker-save-20.10.24.tar.gz"
"""What ``docker save`` 20.10.24 wrote for three tags on two images that share a layer at different heights."""
AMD64 = Platform("linux", "amd64")
SHARED = build_layer(LayerBuilder().file("shared", b"s" * 2_000_000).finish())
TOP = build_layer(LayerBuilder().file("top").finish(), Compression.ZSTD)
ONE, TWO = build_image([SHARED, TOP]), build_image([SHARED])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "saved.tar"
    path.write_bytes(gzip.decompress(SAVED.read_bytes()))
    return path


def check_layers(source: ImageSource, reference: str) -> None:
    """Every blob hashes to its digest, and every bare tar to its diff-id."""
    image = source.resolve(parse_reference(reference), AMD64)
    for layer in image.layers:
        content = b"".join(source.open_layer(image, layer))
        assert len(content) == layer.blob.size
        assert digest_of(content) == layer.blob.digest
        assert not layer.distributable
        if layer.blob.media_type.endswith(".tar"):
            assert layer.blob.digest == layer.diff_id


def test_what_docker_20_10_saved(saved: Path) -> None:
    source = DockerArchiveSource(saved)
    assert [str(name) for name in source.references] == [
        "localhost:5000/app/a:1",
        "app:latest",
        "localhost:5000/app/a:2",
    ]
    for name in source.references:
        check_layers(source, str(name))
    first, latest, second = (source.resolve(name, AMD64) for name in source.references)
    assert first.references == (source.references[0],)
    assert first.repository is None
    assert (
        first.image_id == latest.image_id == "sha256:d7a8e380d971cf82c7f98197115274c27a7f1946b8885ba0fe7204e0eab98a39"
    )
    assert second.image_id == "sha256:5052cf6334f7421bc1701c128001ae7db1b142d97d0340bc9a697ef7bfb8da30"
    # The upper layer is the same in both; docker saved the second as a symbolic link to the first.
    assert first.layers[1].blob == second.layers[1].blob
    assert first.layers[1].chain_id != second.layers[1].chain_id
    source.close()


def test_an_unpacked_archive_has_links_that_are_not_followed(saved: Path, tmp_path: Path) -> None:
    with tarfile.open(saved) as tar:
        # As an attribute: Debian 12's Python has no argument for it, and later ones warn without one.
        tar.extraction_filter = lambda member, path: member
        tar.extractall(tmp_path / "dir")
    source = DockerArchiveSource(tmp_path / "dir")
    check_layers(source, "app:latest")
    with pytest.raises(SourceError, match="symbolic link"):
        source.resolve(parse_reference("localhost:5000/app/a:2"), AMD64)


@pytest.mark.parametrize("compressed", [False, True])
def test_docker_25_layout_plain_and_compressed(tmp_path: Path, compressed: bool) -> None:
    write_docker_archive(tmp_path / "a.tar", {"demo/one:1": ONE, "two:2": TWO}, compressed=compressed)
    source = DockerArchiveSource(tmp_path / "a.tar")
    check_layers(source, "demo/one:1")
    check_layers(source, "two:2")
    image = source.resolve(parse_reference("demo/one:1"), AMD64)
    expected = [layer.descriptor.digest if compressed else layer.diff_id for layer in ONE.layers]
    assert [layer.blob.digest for layer in image.layers] == expected


def archive(path: Path, items: list[dict[str, object]], members: dict[str, bytes], prefix: str = "") -> Path:
    builder = LayerBuilder()
    for name, content in {**members, "manifest.json": json.dumps(items).encode()}.items():
        builder.file(prefix + name, content)
    path.write_bytes(builder.finish())
    return path


def tar_of(content: bytes | Path) -> bytes:
    assert isinstance(content, bytes)
    return content


def parts(
    layer_name: str = "abc/layer.tar", compress: Callable[[bytes], bytes] = bytes
) -> tuple[dict[str, object], dict[str, bytes]]:
    members = {"config.json": TWO.config, layer_name: compress(tar_of(SHARED.tar))}
    return {"Config": "config.json", "RepoTags": ["two:2"], "Layers": [layer_name]}, members


@pytest.mark.parametrize("compress", [bytes, lambda tar: gzip.compress(tar, 1)])
@pytest.mark.parametrize("name", ["abc/layer.tar", SHARED.diff_id[7:] + ".tar", SHARED.diff_id[7:] + ".tar.gz"])
def test_compressed_layers_under_any_name_can_be_checked(
    tmp_path: Path, name: str, compress: Callable[[bytes], bytes]
) -> None:
    item, members = parts(name, compress)
    source = DockerArchiveSource(archive(tmp_path / "a.tar", [item], members))
    check_layers(source, "two:2")


def test_a_blob_name_is_believed_only_as_a_claim_to_check(tmp_path: Path) -> None:
    """The reader of the blob finds the difference, since the descriptor carries the claimed digest and not the computed one."""
    item, members = parts(f"blobs/sha256/{'0' * 64}", lambda tar: gzip.compress(tar, 1))
    image = DockerArchiveSource(archive(tmp_path / "a.tar", [item], members)).resolve(parse_reference("two:2"), AMD64)
    assert image.layers[0].blob.digest == Digest("sha256:" + "0" * 64)


def test_choosing_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_docker_archive(path, {"demo/one:1": ONE, "two:2": TWO})
    for image in ("two:2", "docker.io/library/two:2", "@1", TWO.image_id, TWO.image_id[7:]):
        source = DockerArchiveSource(path, image)
        assert [str(name) for name in source.references] == ["two:2"]
    name = parse_reference("other/name:9")
    source = DockerArchiveSource(path, "@0", name)
    assert source.references == (name,)
    assert source.resolve(name, AMD64).image_id == ONE.image_id
    for image in ("three", "@2", "@99999"):
        with pytest.raises(ImageNotFoundError, match="it has demo/one:1, two:2"):
            DockerArchiveSource(path, image)
    with pytest.raises(InvalidReferenceError):
        DockerArchiveSource(path, "NOT a reference")
    with pytest.raises(UsageError, match="several images: demo/one:1, two:2; say which"):
        DockerArchiveSource(path, name=name)
    with pytest.raises(ImageNotFoundError, match="no manifest digests"):
        DockerArchiveSource(path).resolve(parse_reference("two").with_digest(TWO.digest), AMD64)


def test_an_image_without_a_name_needs_one(tmp_path: Path) -> None:
    write_docker_archive(tmp_path / "a.tar", {"": TWO})
    with pytest.raises(UsageError, match="NAME:TAG=docker-archive:"):
        _ = DockerArchiveSource(tmp_path / "a.tar").references
    name = parse_reference("x:1")
    assert DockerArchiveSource(tmp_path / "a.tar", name=name).resolve(name, AMD64).image_id == TWO.image_id


def test_of_two_images_with_one_name_the_last_wins_as_in_docker_load(tmp_path: Path) -> None:
    item, members = parts()
    members["other.json"] = ONE.config
    members["top.tar"] = tar_of(TOP.tar)
    other: dict[str, object] = {"Config": "other.json", "RepoTags": ["two:2"], "Layers": ["abc/layer.tar", "top.tar"]}
    path = archive(tmp_path / "a.tar", [item, other], members)
    assert DockerArchiveSource(path).resolve(parse_reference("two:2"), AMD64).image_id == ONE.image_id
    assert DockerArchiveSource(path, "two:2").resolve(parse_reference("two:2"), AMD64).image_id == ONE.image_id


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"Config": "absent.json"}, SourceError, "has no file absent.json"),
        ({"Config": "../config.json"}, ContentError, "leads out of the archive"),
        ({"Config": "abc/layer.tar"}, ManifestError, "not well formed"),
        ({"Layers": []}, ManifestError, "has 0 layers but its config has 1"),
        ({"Layers": ["a"] * 2000}, ManifestError, "more than 1024"),
        ({"RepoTags": ["A B"]}, ManifestError, "RepoTags"),
        ({"RepoTags": [None]}, ManifestError, "RepoTags"),
        ({"RepoTags": ["two@sha256:" + "1" * 64]}, ManifestError, "by digest and not by tag"),
        ({"Config": None}, ManifestError, "names no Config"),
        ({"Layers": None}, ManifestError, "has 0 layers but its config has 1"),
        ({"Config": 7}, ManifestError, "not well formed"),
    ],
)
def test_broken_archives(tmp_path: Path, change: dict[str, object], error: type[Exception], says: str) -> None:
    item, members = parts()
    with pytest.raises(error, match=says):
        DockerArchiveSource(archive(tmp_path / "a.tar", [{**item, **change}], members))


def test_a_missing_layer(tmp_path: Path) -> None:
    item, members = parts()
    del members["abc/layer.tar"]
    source = DockerArchiveSource(archive(tmp_path / "a.tar", [item], members))
    with pytest.raises(SourceError, match=r"lacks the layer abc/layer\.tar"):
        source.resolve(parse_reference("two:2"), AMD64)


@pytest.mark.parametrize(
    "name", [f"{'a' * 64}.json", f"blobs/sha256/{'a' * 64}", f"sha256:{'a' * 64}", "config.json", "c"]
)
def test_a_config_may_have_any_name(tmp_path: Path, name: str) -> None:
    # As for docker load: the image id is the digest of its content.
    item, members = parts()
    source = DockerArchiveSource(archive(tmp_path / "a.tar", [{**item, "Config": name}], {**members, name: TWO.config}))
    assert source.resolve(parse_reference("two:2"), AMD64).image_id == digest_of(TWO.config)


@pytest.mark.parametrize("prefix", ["/", "./", "//", "x/../", "/./"])
@pytest.mark.parametrize("in_manifest", [True, False])
def test_names_with_a_slash_or_a_dot_before_them(tmp_path: Path, prefix: str, in_manifest: bool) -> None:
    item, members = parts()
    if in_manifest:
        config, layers = str(item["Config"]), ["abc/layer.tar"]
        item = {**item, "Config": prefix + config, "Layers": [prefix + name for name in layers]}
        path = archive(tmp_path / "a.tar", [item], members)
    else:
        path = archive(tmp_path / "a.tar", [item], members, prefix)
    check_layers(DockerArchiveSource(path), "two:2")


@pytest.mark.parametrize(
    "keys", [("config", "repoTags", "layers"), ("CONFIG", "REPOTAGS", "LAYERS"), ("Config", "repotags", "lAYERS")]
)
def test_keys_in_any_case(tmp_path: Path, keys: tuple[str, str, str]) -> None:
    item, members = parts()
    names = dict(zip(("Config", "RepoTags", "Layers"), keys, strict=True))
    path = archive(tmp_path / "a.tar", [{names[key]: value for key, value in item.items()}], members)
    check_layers(DockerArchiveSource(path), "two:2")


def test_other_things(tmp_path: Path) -> None:
    write_oci_layout(tmp_path / "layout", {"a/b:1": ONE})
    with pytest.raises(SourceError, match="use oci:"):
        DockerArchiveSource(tmp_path / "layout")
    with pytest.raises(ImageNotFoundError, match="holds no image"):
        DockerArchiveSource(archive(tmp_path / "a.tar", [], {}))
    with pytest.raises(ManifestError, match="more than 1024"):
        DockerArchiveSource(archive(tmp_path / "a.tar", [parts()[0]] * 1025, {}))
    with pytest.raises(ContentError, match="compressed with gzip"):
        DockerArchiveSource(SAVED)


def test_nothing_stays_open_after_an_error(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", [], {})
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        with pytest.raises(ImageNotFoundError):
            DockerArchiveSource(path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
