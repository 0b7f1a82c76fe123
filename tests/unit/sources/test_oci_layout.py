from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from drypoint.digest import digest_of, hex_of
from drypoint.errors import (
    ContentError,
    DigestMismatchError,
    ImageNotFoundError,
    ManifestError,
    SourceError,
    UsageError,
)
from drypoint.oci import Platform, parse_reference
from drypoint.oci.manifest import ACCEPTED_MANIFEST_TYPES, MEDIA_TYPE_DOCKER_LIST, MEDIA_TYPE_OCI_INDEX
from drypoint.samples.images import (
    BuiltImage,
    BuiltIndex,
    build_image,
    build_index,
    build_layer,
    write_docker_archive,
    write_oci_archive,
    write_oci_layout,
)
from drypoint.samples.layers import LayerBuilder
from drypoint.sources import ImageSource, OciLayoutSource

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
LAYER = build_layer(LayerBuilder().file("shared", b"s" * 3_000_000).finish())
ONE = build_image([LAYER, build_layer(LayerBuilder().file("one").finish())])
TWO = build_image([LAYER], platform=ARM64)
BOTH = build_index([build_image([LAYER]), TWO])

Write = Callable[[Path, Mapping[str, BuiltImage | BuiltIndex]], None]


@pytest.mark.parametrize("write", [write_oci_layout, write_oci_archive])
def test_images_come_out_as_they_went_in(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "layout", {"example.com/one:1": ONE, "two:2": BOTH})
    layout = OciLayoutSource(tmp_path / "layout")
    source: ImageSource = layout
    one, two = layout.references
    assert [str(one), str(two)] == ["example.com/one:1", "two:2"]
    image = source.resolve(one, AMD64)
    assert image.references == (one, one.with_digest(ONE.digest))
    assert (image.config.content, image.repository) == (ONE.config, None)
    assert [layer.blob for layer in image.layers] == [layer.descriptor for layer in ONE.layers]
    for layer in image.layers:
        content = b"".join(source.open_layer(image, layer))
        assert "sha256:" + hashlib.sha256(content).hexdigest() == layer.blob.digest
    image = source.resolve(two, ARM64)
    assert image.image_id == TWO.image_id
    assert image.references == (two, two.with_digest(BOTH.digest))
    source.close()


def test_a_reference_by_digest_is_found_whatever_its_name(tmp_path: Path) -> None:
    write_oci_layout(tmp_path / "layout", {"": ONE})
    wanted = parse_reference("registry.example.com/v2/abc").with_digest(ONE.digest)
    assert OciLayoutSource(tmp_path / "layout").resolve(wanted, AMD64).references == (wanted,)


@pytest.mark.parametrize("image", [None, "1.0", ONE.digest, "@" + ONE.digest])
def test_a_lone_tag_is_no_name_to_store(tmp_path: Path, image: str | None) -> None:
    write_oci_layout(tmp_path / "layout", {"1.0": ONE})
    with pytest.raises(UsageError, match=r"no full name for its image .*NAME:TAG=oci:"):
        _ = OciLayoutSource(tmp_path / "layout", image).references
    name = parse_reference("my/app:3")
    source = OciLayoutSource(tmp_path / "layout", image, name)
    assert source.references == (name,)
    assert source.resolve(name, AMD64).references == (name, name.with_digest(ONE.digest))


@pytest.mark.parametrize("image", ["example.com/one:1", "1", ONE.digest])
def test_one_of_several(tmp_path: Path, image: str) -> None:
    write_oci_layout(tmp_path / "layout", {"example.com/one:1": ONE, "two:2": BOTH})
    source = OciLayoutSource(tmp_path / "layout", image)
    assert [str(name) for name in source.references] == ["example.com/one:1"]
    with pytest.raises(ImageNotFoundError, match="no image two:2"):
        source.resolve(parse_reference("two:2"), AMD64)


def test_what_does_not_decide(tmp_path: Path) -> None:
    write_oci_layout(tmp_path / "layout", {"a/one:1": ONE, "b/two:1": TWO})
    with pytest.raises(UsageError, match="several images: a/one:1, b/two:1; say which"):
        OciLayoutSource(tmp_path / "layout", "1")
    with pytest.raises(UsageError, match="several images"):
        OciLayoutSource(tmp_path / "layout", name=parse_reference("x"))
    with pytest.raises(ImageNotFoundError, match="no image 'c'; it has a/one:1, b/two:1"):
        OciLayoutSource(tmp_path / "layout", "c")
    # Two names of one manifest are one image.
    write_oci_layout(tmp_path / "same", {"a/one:1": ONE, "b/two:1": ONE})
    assert (
        OciLayoutSource(tmp_path / "same", name=parse_reference("x")).resolve(parse_reference("x"), AMD64).image_id
        == ONE.image_id
    )


def edit_index(layout: Path, edit: Callable[[dict[str, list[dict[str, object]]]], object]) -> None:
    document = json.loads((layout / "index.json").read_bytes())
    edit(document)
    (layout / "index.json").write_text(json.dumps(document))


def test_containerds_name_is_preferred(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"1": ONE})
    names = {"io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1"}
    edit_index(layout, lambda document: document["manifests"][0].update(annotations=names))
    assert [str(name) for name in OciLayoutSource(layout).references] == ["app:1"]
    assert [str(name) for name in OciLayoutSource(layout, "1").references] == ["app:1"]
    assert [str(name) for name in OciLayoutSource(layout, "app:1").references] == ["app:1"]


def test_one_name_on_a_manifest_for_each_platform(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"x/y:1": ONE, "two": TWO})

    def flatten(document: dict[str, list[dict[str, object]]]) -> None:
        for entry, architecture in zip(document["manifests"], ("amd64", "arm64"), strict=True):
            entry["annotations"] = {"org.opencontainers.image.ref.name": "x/y:1"}
            entry["platform"] = {"os": "linux", "architecture": architecture}

    edit_index(layout, flatten)
    source = OciLayoutSource(layout, name=parse_reference("z"))
    assert source.resolve(parse_reference("z"), ARM64).image_id == TWO.image_id
    source = OciLayoutSource(layout)
    assert source.resolve(parse_reference("x/y:1"), AMD64).image_id == ONE.image_id
    with pytest.raises(ImageNotFoundError, match="no image for linux/s390x"):
        source.resolve(parse_reference("x/y:1"), Platform("linux", "s390x"))


def without_platforms(built: BuiltIndex) -> BuiltIndex:
    document = json.loads(built.content)
    for entry in document["manifests"]:
        del entry["platform"]
    return BuiltIndex(json.dumps(document).encode(), built.media_type, built.images)


def test_where_no_descriptor_says_the_platform_the_config_does(tmp_path: Path) -> None:
    nested = tmp_path / "nested"
    write_oci_layout(nested, {"x/y:1": without_platforms(BOTH)})
    flat = tmp_path / "flat"
    write_oci_layout(flat, {"x/y:1": TWO, "two": ONE})
    names = {"org.opencontainers.image.ref.name": "x/y:1"}
    edit_index(flat, lambda document: [entry.update(annotations=names) for entry in document["manifests"]])
    unnamed = tmp_path / "unnamed"
    write_oci_layout(unnamed, {"": TWO, "one": ONE})
    edit_index(unnamed, lambda document: [entry.pop("annotations", None) for entry in document["manifests"]])
    name = parse_reference("x/y:1")
    for source in (OciLayoutSource(nested), OciLayoutSource(flat), OciLayoutSource(unnamed, name=name)):
        assert source.resolve(name, ARM64).image_id == TWO.image_id
        assert source.resolve(name, AMD64).config.platform.architecture == "amd64"
        with pytest.raises(ImageNotFoundError, match="offers linux/amd64, linux/arm64"):
            source.resolve(name, Platform("linux", "s390x"))


def test_what_is_not_an_image_or_not_there_has_no_platform(tmp_path: Path) -> None:
    signature = json.dumps(
        {"schemaVersion": 2, "config": {"mediaType": "application/vnd.x", "digest": ONE.digest}}
    ).encode()
    document = json.loads(without_platforms(BOTH).content)
    document["manifests"].insert(0, {"digest": digest_of(signature), "size": len(signature), "mediaType": ""})
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"x/y:1": BuiltIndex(json.dumps(document).encode(), BOTH.media_type, BOTH.images)})
    blob(layout, digest_of(signature)).write_bytes(signature)
    blob(layout, TWO.image_id).unlink()
    source = OciLayoutSource(layout)
    assert source.resolve(parse_reference("x/y:1"), AMD64).config.platform == AMD64
    with pytest.raises(ImageNotFoundError, match="offers linux/amd64"):
        source.resolve(parse_reference("x/y:1"), ARM64)


@pytest.mark.parametrize("media_type", [*ACCEPTED_MANIFEST_TYPES, "", "application/json"])
@pytest.mark.parametrize("built", [ONE, BOTH], ids=["manifest", "index"])
def test_a_media_type_unlike_the_descriptors(tmp_path: Path, media_type: str, built: BuiltImage | BuiltIndex) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"x/y:1": built})
    edit_index(layout, lambda document: document["manifests"][0].update(mediaType=media_type))
    source = OciLayoutSource(layout)
    is_index = media_type in (MEDIA_TYPE_OCI_INDEX, MEDIA_TYPE_DOCKER_LIST)
    if media_type in ACCEPTED_MANIFEST_TYPES and is_index != (built is BOTH):
        with pytest.raises(ManifestError, match="the manifest calls itself"):
            source.resolve(parse_reference("x/y:1"), AMD64)
    else:
        assert source.resolve(parse_reference("x/y:1"), AMD64).config.platform == AMD64


def test_an_index_in_an_index_is_followed_once(tmp_path: Path) -> None:
    nested = BuiltIndex(
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": BOTH.media_type,
                "manifests": [
                    {
                        "mediaType": BOTH.media_type,
                        "digest": BOTH.digest,
                        "size": len(BOTH.content),
                        "platform": {"os": "linux", "architecture": "amd64"},
                    }
                ],
            }
        ).encode(),
        BOTH.media_type,
        BOTH.images,
    )
    write_oci_layout(tmp_path / "layout", {"a/b:1": nested, "a/b:2": BOTH})
    with pytest.raises(ManifestError, match="the index names another index"):
        OciLayoutSource(tmp_path / "layout").resolve(parse_reference("a/b:1"), AMD64)


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


@pytest.mark.parametrize("digest", [ONE.digest, ONE.image_id])
def test_damaged_manifests_and_configs(tmp_path: Path, digest: str) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"a/b:1": ONE})
    content = bytearray(blob(layout, digest).read_bytes())
    content[50] ^= 1
    blob(layout, digest).write_bytes(content)
    with pytest.raises(DigestMismatchError, match=f"expected {digest}, found sha256:"):
        OciLayoutSource(layout).resolve(parse_reference("a/b:1"), AMD64)
    blob(layout, digest).write_bytes(bytes(9 << 20))
    with pytest.raises(ContentError, match="more than the"):
        OciLayoutSource(layout).resolve(parse_reference("a/b:1"), AMD64)
    blob(layout, digest).unlink()
    with pytest.raises(SourceError, match=f"has no file blobs/sha256/{digest[7:]}"):
        OciLayoutSource(layout).resolve(parse_reference("a/b:1"), AMD64)


def test_a_wrong_size_in_a_descriptor(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"a/b:1": ONE})
    edit_index(layout, lambda document: document["manifests"][0].update(size=5))
    with pytest.raises(ContentError, match="its descriptor says 5"):
        OciLayoutSource(layout).resolve(parse_reference("a/b:1"), AMD64)


def test_a_blob_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"a/b:1": ONE})
    blob(layout, LAYER.descriptor.digest).rename(tmp_path / "blob")
    blob(layout, LAYER.descriptor.digest).symlink_to(tmp_path / "blob")
    source = OciLayoutSource(layout)
    image = source.resolve(parse_reference("a/b:1"), AMD64)
    with pytest.raises(SourceError, match="symbolic link"):
        source.open_layer(image, image.layers[0])
    blob(layout, LAYER.descriptor.digest).unlink()
    with pytest.raises(SourceError, match=f"lacks the layer sha256:{hex_of(LAYER.descriptor.digest)} of a/b:1"):
        source.open_layer(image, image.layers[0])


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("oci-layout", None, SourceError, "is not an OCI image layout"),
        ("index.json", None, SourceError, "is not an OCI image layout"),
        ("oci-layout", b"{", ManifestError, "not well formed"),
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}', ManifestError, "version '2.0.0', expected 1.0.0"),
        ("oci-layout", b" " * 5000, ContentError, "more than the 4096"),
        ("index.json", b"{}", ManifestError, "no 'manifests'"),
        ("index.json", ONE.manifest, ManifestError, "calls itself"),
        ("index.json", b'{"schemaVersion":2,"manifests":[]}', ImageNotFoundError, "holds no image"),
    ],
)
def test_broken_layouts(tmp_path: Path, name: str, content: bytes | None, error: type[Exception], says: str) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"a/b:1": ONE})
    if content is None:
        (layout / name).unlink()
    else:
        (layout / name).write_bytes(content)
    with pytest.raises(error, match=says):
        OciLayoutSource(layout)


def test_a_docker_archive_is_told_apart(tmp_path: Path) -> None:
    write_docker_archive(tmp_path / "a.tar", {"a:1": ONE})
    with pytest.raises(SourceError, match="docker-archive:"):
        OciLayoutSource(tmp_path / "a.tar")
