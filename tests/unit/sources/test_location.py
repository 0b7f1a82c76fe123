from __future__ import annotations

from pathlib import Path

import pytest

from drypoint.errors import InvalidReferenceError, UsageError
from drypoint.oci import Platform, parse_reference
from drypoint.samples.images import build_image, build_layer, write_docker_archive, write_oci_archive
from drypoint.samples.layers import LayerBuilder
from drypoint.sources import ArchiveKind, ArchiveLocation, Location, open_archive, parse_location

OCI, DOCKER = ArchiveKind.OCI, ArchiveKind.DOCKER


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("alpine:3.20", parse_reference("alpine:3.20")),
        ("localhost:5000/oci:1", parse_reference("localhost:5000/oci:1")),
        ("oci.example.com/oci", parse_reference("oci.example.com/oci")),
        ("oci:/a/b", ArchiveLocation(OCI, Path("/a/b"))),
        ("oci-archive:b.tar", ArchiveLocation(OCI, Path("b.tar"))),
        ("oci:b:1.0", ArchiveLocation(OCI, Path("b"), "1.0")),
        ("oci:b:localhost:5000/x:1", ArchiveLocation(OCI, Path("b"), "localhost:5000/x:1")),
        ("docker-archive:b.tar:@0", ArchiveLocation(DOCKER, Path("b.tar"), "@0")),
        ("oci:a=b.tar", ArchiveLocation(OCI, Path("a=b.tar"))),
        ("oci=oci:b", ArchiveLocation(OCI, Path("b"), None, parse_reference("oci"))),
        ("x/y:1=oci:a=b", ArchiveLocation(OCI, Path("a=b"), None, parse_reference("x/y:1"))),
        ("app=docker-archive:b.tar:two:2", ArchiveLocation(DOCKER, Path("b.tar"), "two:2", parse_reference("app"))),
        ("localhost:5000/x=oci:b", ArchiveLocation(OCI, Path("b"), None, parse_reference("localhost:5000/x"))),
    ],
)
def test_parse(text: str, location: Location) -> None:
    assert parse_location(text) == location


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("oci:", UsageError, "expected oci:PATH"),
        ("oci:a:", UsageError, "oci:PATH:IMAGE"),
        ("docker-archive:", UsageError, "expected docker-archive:PATH"),
        ("x=alpine", UsageError, "goes only before"),
        ("x=", UsageError, "goes only before"),
        ("=oci:a", InvalidReferenceError, "reference"),
        ("X=oci:a", InvalidReferenceError, "lower-case"),
        ("x@sha256:" + "a" * 64 + "=oci:a", UsageError, "not a digest"),
        ("", InvalidReferenceError, "reference"),
    ],
)
def test_refuses(text: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        parse_location(text)


def test_open(tmp_path: Path) -> None:
    image = build_image([build_layer(LayerBuilder().file("a").finish())])
    write_oci_archive(tmp_path / "oci.tar", {"1": image})
    write_docker_archive(tmp_path / "docker.tar", {"": image})
    for place in ("oci:{}/oci.tar:1", "docker-archive:{}/docker.tar"):
        location = parse_location("my/app:7=" + place.format(tmp_path))
        assert isinstance(location, ArchiveLocation)
        source = open_archive(location)
        (name,) = source.references
        assert str(name) == "my/app:7"
        assert source.resolve(name, Platform("linux", "amd64")).image_id == image.image_id
        source.close()
