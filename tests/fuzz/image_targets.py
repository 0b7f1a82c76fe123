"""Images: manifests, configs, references, and the archives that hold them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from drypoint.balena.apps_json import read_apps_json
from drypoint.balena.device_type import parse_device_type
from drypoint.digest import digest_of
from drypoint.errors import DrypointError, InvalidReferenceError, UsageError
from drypoint.oci import (
    Image,
    Index,
    Platform,
    assemble_layers,
    choose_platform,
    parse_config,
    parse_manifest,
    parse_platform,
    parse_reference,
)
from drypoint.oci.manifest import MEDIA_TYPE_OCI_INDEX, MEDIA_TYPE_OCI_MANIFEST
from drypoint.oci.reference import DEFAULT_DOMAIN
from drypoint.samples.layers import LayerBuilder
from drypoint.sources import DockerArchiveSource, OciLayoutSource, parse_location

from .material import as_file, with_checksums
from .target import PropertyError, Target

_DIGEST = "sha256:" + "ab" * 32
_MEDIA_TYPES = ("", MEDIA_TYPE_OCI_INDEX, MEDIA_TYPE_OCI_MANIFEST + "; charset=utf-8", "text/html")
_ARM = Platform("linux", "arm", "v7")
_TOKENS = (b'"digest":', b'"mediaType":', b'"size":', b'"platform":', b'"annotations":', _DIGEST.encode(), b"null")
_SEPARATOR = b"\n--\n"
_CHUNKS_READ = 4


def read_any_manifest(data: bytes) -> None:
    head = data[0] if data else 0
    manifest = parse_manifest(data[1:], _MEDIA_TYPES[head % len(_MEDIA_TYPES)], "image")
    if isinstance(manifest, Index):
        choose_platform(manifest, _ARM, "image")


def _manifests() -> Iterator[bytes]:
    blob = {"mediaType": "application/x", "digest": _DIGEST, "size": 7}
    config = {**blob, "mediaType": "application/vnd.oci.image.config.v1+json"}
    manifest = {"schemaVersion": 2, "config": config, "layers": [blob, blob]}
    platforms: list[dict[str, object]] = [{"os": "linux", "architecture": "arm", "variant": "v6"}, {"os": "unknown"}]
    names = {"org.opencontainers.image.ref.name": "latest", "io.containerd.image.name": "docker.io/library/a:1"}
    index = {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE_OCI_INDEX,
        "manifests": [{**blob, "platform": platform, "annotations": names} for platform in platforms],
    }
    for document in (manifest, index, {"schemaVersion": 1}, {**manifest, "manifests": []}):
        yield b"\0" + _json(document)
    yield b"\1" + _json(index)


def read_any_config(data: bytes) -> None:
    config = parse_config(data, "image")
    if config.image_id != digest_of(data):
        raise PropertyError("the image id is not the config's digest")
    assemble_layers(config, (), "image")


def _config(*diff_ids: str) -> bytes:
    history = [{"created": "2024-01-01T00:00:00.123Z", "created_by": "sh"}, {"empty_layer": True}]
    container = {"Env": ["A=b"], "Cmd": ["sh"], "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"}, "StopTimeout": 5}
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    return _json(
        {
            "os": "linux",
            "architecture": "arm64",
            "created": "2024-01-01T00:00:00+01:00",
            "config": container,
            "history": history[2 - len(diff_ids) :],
            "rootfs": rootfs,
        }
    )


def _configs() -> Iterator[bytes]:
    yield _config()
    yield _config(_DIGEST)
    yield _config(_DIGEST, _DIGEST)


def read_any_name(data: bytes) -> None:
    """References, platforms and places, as arguments of the command line: any bytes but NUL."""
    head, text = data[:1], data[1:].decode("utf-8", "surrogateescape")
    if head == b"P":
        platform = parse_platform(text)
        if parse_platform(str(platform)) != platform:
            raise PropertyError(f"{platform} reads back as another platform")
    elif head == b"L":
        parse_location(text)
    else:
        reference = parse_reference(text)
        canonical = reference.name + str(reference).removeprefix(reference.familiar_name)
        if parse_reference(canonical) != reference:
            raise PropertyError(f"{canonical} reads back as another reference")
        # Docker Hub's familiar names are ambiguous, to engines too, where the path begins like a domain.
        first, slash, _ = reference.familiar_name.partition("/")
        is_clear = reference.domain != DEFAULT_DOMAIN or not slash or ("." not in first and first != "localhost")
        if is_clear and parse_reference(str(reference)) != reference:
            raise PropertyError(f"{reference} reads back as another reference")


def _names() -> Iterator[bytes]:
    for name in (
        "alpine",
        "a/b:1.2",
        "localhost:5000/a/b/c_d",
        "[::1]:80/x",
        f"Host.example/a@{_DIGEST}",
        "docker.io/a",
    ):
        yield b"R" + name.encode()
    for platform in ("linux/arm/v7", "aarch64", "amd64", "linux/386", "windows/amd64", "armv7hf"):
        yield b"P" + platform.encode()
    for place in ("oci:/a/b:tag", "docker-archive:x.tar:@0", "name:1=oci:dir", "alpine"):
        yield b"L" + place.encode()


def read_any_docker_archive(data: bytes) -> None:
    head, tar = data[:1], data[1:]
    with as_file(with_checksums(tar) if head and head[0] & 1 else tar) as path:
        with closing(DockerArchiveSource(path, "@0" if head and head[0] & 2 else None)) as source:
            for reference in source.references[:4]:
                image = source.resolve(reference, _ARM)
                _read_layers(source, image, len(tar))


def _read_layers(source: DockerArchiveSource | OciLayoutSource, image: Image, longest: int) -> None:
    """The layers' bytes, at most *longest*, as many as the archive has; whoever takes them checks sizes and digests."""
    for layer in image.layers[:4]:
        size = sum(len(chunk) for chunk in islice(source.open_layer(image, layer), _CHUNKS_READ))
        if size > longest:
            raise PropertyError(f"a layer of {size} bytes from an archive of {longest}")


def _docker_archives() -> Iterator[bytes]:
    for layer in (b"not really a tar", b"\x1f\x8b\x08 nor gzip"):
        items = [{"Config": "c.json", "RepoTags": ["a/b:1", "c"], "Layers": ["l/layer.tar", "m"]}]
        tar = LayerBuilder().file("c.json", _config(_DIGEST, _DIGEST)).file("l/layer.tar", layer)
        tar.symlink("m", "./l/layer.tar").hardlink("h", "m").file("n" * 120, b"")
        yield b"\1" + tar.file("manifest.json", _json(items)).finish()
        yield b"\3" + tar.file("manifest.json", _json([*items, {"Config": "c.json"}])).finish()


def read_any_oci_layout(data: bytes) -> None:
    """A tar as it is, or a layout made of the input's parts, whose digests then fit."""
    head, content = data[:1], data[1:]
    flags = head[0] if head else 0
    tar = with_checksums(content) if flags & 1 else _layout(content)
    with as_file(tar) as path:
        name = parse_reference("example.com/name:1") if flags & 2 else None
        with closing(OciLayoutSource(path, "latest" if flags & 4 else None, name)) as source:
            for reference in source.references[:4]:
                _read_layers(source, source.resolve(reference, _ARM), len(tar))


def _layout(content: bytes) -> bytes:
    """Four parts: index, manifest, config, layer; ``@`` and a number stand for a part's digest, ``#`` and it for its size."""
    parts = content.split(_SEPARATOR, 3)
    tar = LayerBuilder().file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    for number in range(len(parts) - 1, 0, -1):
        tar.file(f"blobs/sha256/{digest_of(parts[number]).removeprefix('sha256:')}", parts[number])
        for above in range(number):
            parts[above] = parts[above].replace(b"@%d" % number, digest_of(parts[number]).encode())
            parts[above] = parts[above].replace(b"#%d" % number, b"%d" % len(parts[number]))
    return tar.file("index.json", parts[0]).finish()


def _oci_layouts() -> Iterator[bytes]:
    entry = (
        b'{"digest":"@1","size":#1,"mediaType":"%s","platform":{"os":"linux","architecture":"arm"},"annotations":%s}'
    )
    for names in (b'{"org.opencontainers.image.ref.name":"latest"}', b'{"io.containerd.image.name":"docker.io/a/b:1"}'):
        for media_type, flags in ((MEDIA_TYPE_OCI_MANIFEST, b"\0"), ("", b"\2"), ("", b"\6")):
            index = b'{"schemaVersion":2,"manifests":[%s]}' % (entry % (media_type.encode(), names))
            manifest = b'{"schemaVersion":2,"config":{"digest":"@2","size":#2},"layers":[{"digest":"@3","size":#3}]}'
            yield flags + _SEPARATOR.join((index, manifest, _config(_DIGEST), b"layer"))
    yield b"\1" + _layout(b'{"schemaVersion":2,"manifests":[{"digest":"@1","size":#1}]}' + _SEPARATOR + b"{}")


def read_any_apps_json(data: bytes) -> None:
    apps = read_apps_json(data, "apps.json")
    for image in apps.images:
        if parse_reference(str(image)) != image:
            raise PropertyError(f"{image} reads back as another reference")


def _apps_json() -> Iterator[bytes]:
    service = {
        "id": 1,
        "image_id": "2",
        "image": "registry2.balena-cloud.com/v2/abc@" + _DIGEST,
        "environment": {"A": "b"},
        "labels": {"io.balena.x": "1"},
        "composition": {},
        "running": True,
    }
    release = {"id": 1, "services": {"main": service}, "volumes": {"data": {}}, "networks": {}}
    app = {"id": 7, "name": "fleet", "class": "fleet", "is_host": False, "releases": {"abc": release}}
    yield _json({"apps": {"uuid": app}, "config": {"RESIN_X": "1"}, "pinDevice": True})
    yield _json({"apps": {"uuid": {**app, "id": 1.5, "class": "none", "services": []}}})
    yield b"[]"


def read_any_device_type(data: bytes) -> None:
    found = parse_device_type(data, "image")
    if found is not None:
        _ = found.platform


def _device_types() -> Iterator[bytes]:
    yield b'{"slug":"raspberrypi4-64","arch":"aarch64","name":"Raspberry Pi 4"}'
    yield b'{"slug":"intel-nuc","arch":"amd64"}'


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


_TAR_TOKENS = (b"ustar\x0000", b"ustar  \0")
TARGETS = (
    Target("manifest", read_any_manifest, _manifests, ("drypoint.oci",), tokens=_TOKENS),
    Target(
        "config",
        read_any_config,
        _configs,
        ("drypoint.oci",),
        tokens=(b'"rootfs":', b'"diff_ids":', b'"history":', b'"created":', b"null"),
    ),
    Target(
        "name",
        read_any_name,
        _names,
        ("drypoint.oci",),
        (UsageError, InvalidReferenceError),
        tokens=(b"@sha256:", b"docker.io/library/"),
    ),
    Target(
        "docker_archive",
        read_any_docker_archive,
        _docker_archives,
        ("drypoint.sources", "drypoint.oci"),
        longest=16384,
        tokens=(*_TOKENS, *_TAR_TOKENS),
    ),
    Target(
        "oci_layout",
        read_any_oci_layout,
        _oci_layouts,
        ("drypoint.sources", "drypoint.oci"),
        longest=8192,
        tokens=(*_TOKENS, *_TAR_TOKENS, _SEPARATOR),
    ),
    Target(
        "apps_json",
        read_any_apps_json,
        _apps_json,
        ("drypoint.balena.apps_json", "drypoint.oci"),
        (UsageError,),
        tokens=(b'"releases":', b'"services":', b'"image":'),
    ),
    Target(
        "device_type",
        read_any_device_type,
        _device_types,
        ("drypoint.balena.device_type", "drypoint.oci"),
        (DrypointError,),
        tokens=(b'"slug":', b'"arch":'),
    ),
)
