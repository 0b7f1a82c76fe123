from __future__ import annotations

import contextlib
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.digest import Digest, digest_of
from drypoint.errors import ContentError, ImageNotFoundError, ManifestError
from drypoint.oci import (
    Descriptor,
    Index,
    Manifest,
    Platform,
    assemble_layers,
    chain_ids,
    choose_platform,
    parse_config,
    parse_manifest,
)
from drypoint.oci.manifest import MAX_INDEX_ENTRIES, MAX_LAYERS, MAX_MANIFEST_BYTES
from drypoint.samples.images import build_image, build_index, build_layer
from drypoint.samples.layers import LayerBuilder

OCI = "application/vnd.oci.image.manifest.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.oci.image.index.v1+json"
A, B, C = (digest_of(letter) for letter in (b"a", b"b", b"c"))
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": A, "size": 2}


def manifest(**changes: object) -> bytes:
    document: dict[str, object] = {"schemaVersion": 2, "mediaType": OCI, "config": CONFIG, "layers": []}
    return json.dumps({**document, **changes}).encode()


def index(*entries: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()


def entry(digest: Digest, os: str = "linux", architecture: str = "amd64", variant: str = "") -> dict[str, object]:
    platform = {"os": os, "architecture": architecture, "variant": variant}
    return {"mediaType": OCI, "digest": digest, "size": 1, "platform": platform}


def config(**changes: object) -> bytes:
    document: dict[str, object] = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [A, B]},
    }
    return json.dumps({**document, **changes}).encode()


def test_what_the_builders_make_is_read_back() -> None:
    layer = build_layer(LayerBuilder().file("a", b"1").finish())
    for docker in (False, True):
        image = build_image([layer], docker=docker, platform=Platform("linux", "arm", "v7"))
        read = parse_manifest(image.manifest, image.media_type, "x")
        assert isinstance(read, Manifest)
        assert (read.media_type, read.layers) == (image.media_type, (layer.descriptor,))
        assert parse_config(image.config, "x").platform == Platform("linux", "arm", "v7")
        several = build_index([image], docker=docker)
        listed = parse_manifest(several.content, "", "x")
        assert isinstance(listed, Index)
        assert choose_platform(listed, Platform("linux", "arm"), "x").descriptor.digest == image.digest


@pytest.mark.parametrize(
    ("content", "media_type", "says"),
    [
        (b"", OCI, "not well formed"),
        (b"[]", OCI, "not well formed"),
        (b"\xff", OCI, "not well formed"),
        (b"[" * 100_000, OCI, "not well formed"),
        (b" " * (MAX_MANIFEST_BYTES + 1), OCI, "more than the"),
        (manifest(schemaVersion=1), OCI, "schema 1"),
        (manifest(), "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        (manifest(schemaVersion=3), OCI, "schemaVersion 3"),
        (manifest(), DOCKER, "calls itself"),
        (manifest(manifests=[]), OCI, "ambiguous"),
        (manifest(mediaType="text/plain"), OCI, "calls itself"),
        (manifest(mediaType="text/plain"), "", "not a container image's media type"),
        (manifest(config=None), OCI, "lacks"),
        (
            manifest(config={**CONFIG, "mediaType": "application/vnd.docker.plugin.v1+json"}),
            OCI,
            "not a container image",
        ),
        (manifest(config={**CONFIG, "size": 9 << 20}), OCI, "more than the"),
        (manifest(config={**CONFIG, "size": -1}), OCI, "impossible size"),
        (manifest(config={**CONFIG, "digest": "sha256:x"}), OCI, "not a digest"),
        (manifest(config={**CONFIG, "size": "2"}), OCI, "not well formed"),
        (manifest(layers=[{**CONFIG, "size": 1 << 50}]), OCI, "impossible size"),
        (manifest(layers=[CONFIG] * (MAX_LAYERS + 1)), OCI, "more than 1024"),
        (manifest(layers=[{**CONFIG, "mediaType": "a.foreign.b", "urls": ["u"]}]), OCI, "foreign layer"),
        (index(*[entry(A)] * (MAX_INDEX_ENTRIES + 1)), INDEX, "more than 4096"),
        (json.dumps({"schemaVersion": 2, "mediaType": INDEX}).encode(), INDEX, "no 'manifests'"),
    ],
)
def test_manifests_refused(content: bytes, media_type: str, says: str) -> None:
    with pytest.raises(ManifestError, match=says) as caught:
        parse_manifest(content, media_type, "the thing")
    assert str(caught.value).startswith("the thing")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("media_type", ["", "application/octet-stream", "text/html", "application/json"])
def test_config_types_of_old_tools_are_taken_as_engines_take_them(media_type: str) -> None:
    assert isinstance(parse_manifest(manifest(config={**CONFIG, "mediaType": media_type}), OCI, "x"), Manifest)


def test_manifests_are_read_as_go_reads_them() -> None:
    wanted = parse_manifest(manifest(), OCI, "x")
    spelled = {key.upper(): value for key, value in json.loads(manifest()).items()}
    assert parse_manifest(json.dumps(spelled).encode(), OCI, "x") == wanted
    assert parse_manifest(manifest(schemaVersion=None, annotations=None, subject=None, other=[{}]), OCI, "x") == wanted
    bare = parse_manifest(manifest(layers=None), OCI, "x")
    assert isinstance(bare, Manifest)
    assert bare.layers == ()
    nulls = {"digest": A, "size": 3, "mediaType": None, "urls": None, "annotations": {"a": None}, "platform": None}
    several = parse_manifest(json.dumps({"schemaVersion": 2, "manifests": [nulls]}).encode(), INDEX, "x")
    assert isinstance(several, Index)
    assert several.manifests[0].descriptor == Descriptor("", A, 3)
    with pytest.raises(ManifestError, match="not a digest"):
        parse_manifest(manifest(config=None).replace(b"null", b"{}", 1), OCI, "x")


def test_the_content_type_may_have_parameters_or_be_missing() -> None:
    assert isinstance(parse_manifest(manifest(), f"{OCI.upper()}; charset=utf-8", "x"), Manifest)
    assert isinstance(parse_manifest(manifest(mediaType=""), "", "x"), Manifest)
    assert isinstance(parse_manifest(json.dumps({"schemaVersion": 2, "manifests": []}).encode(), "", "x"), Index)


KEYS = ["schemaVersion", "config", "layers", "manifests", "rootfs", "diff_ids", "history", "created"]
documents = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner),
)


@given(st.binary(max_size=200) | documents.map(lambda document: json.dumps(document).encode()))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(ContentError):
        parse_manifest(content, "", "x")
    with contextlib.suppress(ContentError):
        parse_config(content, "x")


def test_the_best_platform_wins_whatever_the_order() -> None:
    read = parse_manifest(
        index(entry(A, "linux", "arm", "v5"), entry(B, "linux", "arm", "v6"), entry(C, "unknown", "unknown")),
        INDEX,
        "x",
    )
    assert isinstance(read, Index)
    assert choose_platform(read, Platform("linux", "arm", "v7"), "x").descriptor.digest == B
    with pytest.raises(ImageNotFoundError, match=r"linux/arm64; it offers linux/arm/v5, linux/arm/v6\. Choose"):
        choose_platform(read, Platform("linux", "arm64"), "x")


def test_of_equals_the_first_and_a_lone_entry_needs_no_platform() -> None:
    read = parse_manifest(index(entry(A), entry(B, "linux", "amd64", "v1")), INDEX, "x")
    assert isinstance(read, Index)
    assert choose_platform(read, Platform("linux", "amd64"), "x").descriptor.digest == A
    read = parse_manifest(index({"digest": C, "size": 1}), INDEX, "x")
    assert isinstance(read, Index)
    assert choose_platform(read, Platform("linux", "amd64"), "x").descriptor.digest == C


def test_the_list_of_platforms_in_an_error_is_bounded() -> None:
    read = parse_manifest(index(*(entry(A, "linux", f"{number:0500}") for number in range(1000))), INDEX, "x")
    assert isinstance(read, Index)
    with pytest.raises(ImageNotFoundError) as caught:
        choose_platform(read, Platform("linux", "amd64"), "x")
    assert len(str(caught.value)) < 2000


def test_annotations_name_images() -> None:
    named = {**entry(A), "annotations": {"org.opencontainers.image.ref.name": "1", "io.containerd.image.name": "x/y:1"}}
    read = parse_manifest(index(named), INDEX, "x")
    assert isinstance(read, Index)
    assert (read.manifests[0].reference_name, read.manifests[0].image_name) == ("1", "x/y:1")


def test_config_is_kept_byte_for_byte() -> None:
    content = b" " + config(created="2024-02-03T04:05:06.789+01:00", history=[{"created_by": "x", "empty_layer": True}])
    read = parse_config(content, "x")
    assert read.content == content
    assert read.image_id == "sha256:" + hashlib.sha256(content).hexdigest()
    assert read.diff_ids == (A, B)
    assert read.created == "2024-02-03T04:05:06.789+01:00"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"null", "no rootfs"),
        (b" " * (9 << 20), "more than the"),
        (config(rootfs=None), "no rootfs"),
        (config(rootfs={"type": "layers+base", "diff_ids": []}), "no rootfs"),
        (config(rootfs={"type": "layers", "diff_ids": ["x"]}), "rootfs.diff_ids: 'x' is not a digest"),
        (config(rootfs={"type": "layers", "diff_ids": [A] * (MAX_LAYERS + 1)}), "more than 1024"),
        (config(history=[{}, {}, {}]), "history has 3 layers, but there are 2"),
        (config(created="yesterday"), "RFC 3339"),
        (config(created=""), "RFC 3339"),
        (config(history=[{"created": "2024-13-01T00:00:00Z"}]), "RFC 3339"),
        (config(os="windows"), "'windows'"),
        (config(config={"Env": "A=1"}), "not well formed"),
        (config(config={"Labels": {"a": 1}}), "not well formed"),
        (config(config=[]), "not well formed"),
        (config(architecture=7), "not well formed"),
        (config(container_config={"Cmd": 1}), "not well formed"),
        (config(Size=1.5), "not well formed"),
        (config(config={"Healthcheck": {"Interval": 3e10}}), "not well formed"),
        (config(config={"ExposedPorts": {"80/tcp": ""}}), "not well formed"),
    ],
)
def test_configs_refused(content: bytes, says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        parse_config(content, "x")


def test_null_stands_for_nothing_as_in_go() -> None:
    container: dict[str, object] = {
        "Env": None,
        "Cmd": None,
        "Entrypoint": "/bin/sh",
        "Labels": None,
        "Volumes": {"/v": {}},
        "User": None,
    }
    read = parse_config(config(os=None, variant=None, created=None, history=None, config=container), "x")
    assert read.platform == Platform("", "amd64")


def test_chain_ids() -> None:
    first = "sha256:" + hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    assert chain_ids([A, B, C]) == (A, first, "sha256:" + hashlib.sha256(f"{first} {C}".encode()).hexdigest())
    assert chain_ids([]) == ()


def test_layers_are_paired_with_diff_ids() -> None:
    read = parse_config(config(), "x")
    blobs = (Descriptor("t", A, 1), Descriptor("t", C, 2))
    first, second = assemble_layers(read, blobs, "x")
    assert (first.parent, second.parent) == (None, first.chain_id)
    assert (first.blob, second.diff_id, second.distributable) == (blobs[0], B, True)
    with pytest.raises(ManifestError, match="1 layers but the config has 2"):
        assemble_layers(read, blobs[:1], "x")
    nothing = parse_config(config(rootfs={"type": "layers"}), "x")
    assert assemble_layers(nothing, (), "x") == ()
