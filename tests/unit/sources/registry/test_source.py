"""Resolving references against the in-process registry, and against Debian's docker-registry."""

from __future__ import annotations

import json
import random
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from tests.support import docker_registry
from tests.support.docker_registry import DockerRegistry

from drypoint.digest import digest_of
from drypoint.errors import (
    AuthenticationError,
    ContentError,
    DigestMismatchError,
    DrypointError,
    ImageNotFoundError,
    ManifestError,
    SourceError,
    TransferError,
)
from drypoint.oci import Image, Platform, Reference, parse_reference
from drypoint.samples.images import (
    BuiltImage,
    BuiltIndex,
    Compression,
    add_to_registry,
    build_image,
    build_index,
    build_layer,
)
from drypoint.samples.registry import Access, Faults, RegistryContent, TestRegistry, serve_registry
from drypoint.sources import ImageSource
from drypoint.sources.registry import Credentials, RegistryOptions, RegistrySource, RetryPolicy, StaticCredentials

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
QUICK = RegistryOptions(
    credentials=StaticCredentials({}),
    certs_directory=Path("/nonexistent"),
    environment={},
    connect_timeout=5.0,
    read_timeout=5.0,
    retry=RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.05),
)
NOISE = random.Random(7)
BASE, TOP = NOISE.randbytes(300_000), NOISE.randbytes(2_500_000)


def image(platform: Platform = AMD64, *, docker: bool = False) -> BuiltImage:
    layers = [build_layer(tar, Compression.NONE, docker=docker) for tar in (BASE, TOP + str(platform).encode())]
    return build_image(layers, platform=platform, docker=docker)


def holding(built: BuiltImage | BuiltIndex) -> RegistryContent:
    content = RegistryContent()
    add_to_registry(content, "team/app", "1.0", built)
    return content


def resolve(registry: TestRegistry, rest: str = ":1.0", options: RegistryOptions = QUICK) -> Image:
    with RegistrySource(options) as source:
        return source.resolve(parse_reference(f"{registry.host}/team/app{rest}"), AMD64)


def pull(registry: TestRegistry, options: RegistryOptions) -> list[bytes]:
    with RegistrySource(options) as source:
        found = source.resolve(parse_reference(f"{registry.host}/team/app:1.0"), AMD64)
        return [b"".join(source.open_layer(found, layer)) for layer in found.layers]


def logged_in(registry: TestRegistry, credentials: Credentials) -> RegistryOptions:
    return replace(QUICK, credentials=StaticCredentials({registry.host: credentials}))


@pytest.mark.parametrize("docker", [False, True])
def test_a_pull_by_tag(docker: bool) -> None:
    built = image(docker=docker)
    with serve_registry(holding(built)) as registry:
        found = resolve(registry)
        assert pull(registry, QUICK) == [layer.content for layer in built.layers]
    name = Reference(registry.host, "team/app")
    assert found.references == (structs.replace(name, tag="1.0"), structs.replace(name, digest=built.digest))
    assert found.repository == name
    assert found.image_id == built.image_id
    assert found.config.content == built.config
    assert [layer.blob for layer in found.layers] == [layer.descriptor for layer in built.layers]
    assert [layer.diff_id for layer in found.layers] == [layer.diff_id for layer in built.layers]


@pytest.mark.parametrize("tag", ["", ":1.0", ":another"])
def test_a_pull_by_digest_notes_the_digest_alone(tag: str) -> None:
    built = image()
    with serve_registry(holding(built)) as registry:
        found = resolve(registry, f"{tag}@{built.digest}")
    assert found.references == (Reference(registry.host, "team/app", None, built.digest),)


def test_of_an_index_the_platform_is_chosen_and_the_index_is_noted() -> None:
    amd64, arm64 = image(), image(ARM64)
    index = build_index([arm64, amd64])
    with serve_registry(holding(index)) as registry, RegistrySource(QUICK) as source:
        reference = parse_reference(f"{registry.host}/team/app:1.0")
        first, second = source.resolve(reference, AMD64), source.resolve(reference, ARM64)
        with pytest.raises(ImageNotFoundError, match="linux/amd64, linux/arm64"):
            source.resolve(reference, Platform("linux", "s390x"))
    assert (first.image_id, second.image_id) == (amd64.image_id, arm64.image_id)
    assert [reference.digest for reference in first.references] == [None, index.digest]


def test_the_source_is_an_image_source() -> None:
    source: ImageSource = RegistrySource(QUICK)
    source.close()
    with pytest.raises(SourceError, match="closed"):
        source.resolve(parse_reference("127.0.0.1:1/a"), AMD64)


def test_an_image_from_elsewhere_has_no_layers_here() -> None:
    with serve_registry(holding(image())) as registry:
        found = structs.replace(resolve(registry), repository=None)
    with RegistrySource(QUICK) as source, pytest.raises(SourceError, match="did not come from a registry"):
        source.open_layer(found, found.layers[0])


def test_requests_say_who_asks_and_what_is_taken() -> None:
    with serve_registry(holding(image())) as registry:
        resolve(registry)
    [manifest] = [request for request in registry.requests if "/manifests/" in request.path]
    assert manifest.headers["user-agent"].startswith("drypoint/")
    assert "application/vnd.oci.image.index.v1+json" in manifest.headers["accept"]
    assert "application/vnd.docker.distribution.manifest.v2+json" in manifest.headers["accept"]
    assert all(request.headers["accept-encoding"] == "identity" for request in registry.requests)


def test_one_connection_serves_several_requests() -> None:
    with serve_registry(holding(image()), access=Access(scheme="token")) as registry:
        pull(registry, QUICK)
        assert len(registry.requests) >= 5
        assert registry.connections == 1


# --- content that is not what it claims ---


def altered(change: Callable[[RegistryContent, BuiltImage], None], faults: Faults | None = None) -> DrypointError:
    """The error of resolving an image after *change* to what the registry holds."""
    built = image()
    content = holding(built)
    change(content, built)
    with serve_registry(content, faults=faults) as registry, pytest.raises(DrypointError) as caught:
        resolve(registry, f"@{built.digest}" if (("team/app", "1.0") not in content.manifests) else ":1.0")
    return caught.value


def test_a_manifest_other_than_its_digest() -> None:
    def change(content: RegistryContent, built: BuiltImage) -> None:
        del content.manifests["team/app", "1.0"]
        media_type, manifest = content.manifests["team/app", built.digest]
        content.manifests["team/app", built.digest] = (media_type, manifest + b" ")

    error = altered(change)
    assert isinstance(error, DigestMismatchError)
    assert "expected sha256:" in str(error)


def test_a_manifest_other_than_the_header_says() -> None:
    error = altered(lambda content, built: None, Faults(digest_header="sha256:" + "0" * 64))
    assert isinstance(error, DigestMismatchError)


@pytest.mark.parametrize("header", ["sha512:" + "0" * 128, "nonsense"])
def test_a_digest_header_of_another_kind_is_passed_over(header: str) -> None:
    built = image()
    with serve_registry(holding(built), faults=Faults(digest_header=header)) as registry:
        assert resolve(registry).image_id == built.image_id


def test_a_manifest_over_the_bound() -> None:
    def change(content: RegistryContent, built: BuiltImage) -> None:
        content.manifests["team/app", "1.0"] = (built.media_type, b" " * (4 << 20) + b"{}")

    assert "more than the 4194304 bytes allowed" in str(altered(change))


def test_a_manifest_of_schema_1_is_refused_by_name() -> None:
    def change(content: RegistryContent, built: BuiltImage) -> None:
        schema_1 = b'{"schemaVersion": 1, "name": "team/app", "tag": "1.0", "fsLayers": []}'
        content.manifests["team/app", "1.0"] = (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            schema_1,
        )

    error = altered(change)
    assert isinstance(error, ManifestError)
    assert "schema 1" in str(error)


def test_a_config_other_than_its_digest() -> None:
    def change(content: RegistryContent, built: BuiltImage) -> None:
        content.blobs[built.image_id] = built.config.replace(b"linux", b"Linux")

    error = altered(change)
    assert isinstance(error, DigestMismatchError)
    assert "config" in str(error)


@pytest.mark.parametrize("grow", [1, -1])
def test_a_config_of_another_size(grow: int) -> None:
    def change(content: RegistryContent, built: BuiltImage) -> None:
        content.blobs[built.image_id] = (built.config + b" ")[: len(built.config) + grow]

    error = altered(change)
    assert isinstance(error, ContentError)
    assert "descriptor says" in str(error)


def test_an_index_in_an_index_is_refused() -> None:
    inner = build_index([image()])
    fields = json.loads(inner.content)
    fields["manifests"][0] |= {"digest": inner.digest, "size": len(inner.content), "mediaType": inner.media_type}
    content = holding(inner)
    content.add_manifest("team/app", "1.0", inner.media_type, json.dumps(fields).encode())
    with serve_registry(content) as registry, pytest.raises(ManifestError, match="another index"):
        resolve(registry)


def test_an_index_with_a_wrong_size_is_refused() -> None:
    index = build_index([image()])
    fields = json.loads(index.content)
    fields["manifests"][0]["size"] += 1
    content = holding(index)
    content.add_manifest("team/app", "1.0", index.media_type, json.dumps(fields).encode())
    with serve_registry(content) as registry, pytest.raises(ManifestError, match="the index says"):
        resolve(registry)


# --- what is not there, or not now ---


def test_missing_images_and_blobs() -> None:
    built = image()
    content = holding(built)
    with serve_registry(content) as registry:
        with pytest.raises(ImageNotFoundError, match=r"no such image \(status 404, MANIFEST_UNKNOWN\)"):
            resolve(registry, ":2.0")
        del content.blobs[built.image_id]
        with pytest.raises(ImageNotFoundError, match="no such blob"):
            resolve(registry)
        assert registry.count("/manifests/2.0") == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_refusals_are_waited_out(status: int) -> None:
    built = image()
    with serve_registry(holding(built), faults=Faults(refusals=3, refusal_status=status)) as registry:
        assert resolve(registry).image_id == built.image_id
        assert registry.faults.refusals == 0


def test_lasting_refusals_end_the_patience() -> None:
    with serve_registry(holding(image()), faults=Faults(refusals=99)) as registry:
        with pytest.raises(TransferError, match=r"team/app/manifests/1\.0: .*status 503.*failed 4 times.*Check"):
            resolve(registry)
        assert registry.count("/manifests/") == 4


@pytest.mark.parametrize("status", [400, 405, 410, 418])
def test_refusals_that_will_stay_are_not_repeated(status: int) -> None:
    with serve_registry(holding(image()), faults=Faults(refusals=99, refusal_status=status)) as registry:
        with pytest.raises(TransferError, match=f"status {status}"):
            resolve(registry)
        assert registry.count("/manifests/") == 1


def test_retry_after_is_heeded() -> None:
    options = replace(QUICK, retry=RetryPolicy(attempts=4, first_wait=0.0, longest_wait=0.3))
    with serve_registry(holding(image()), faults=Faults(refusals=2, retry_after="3600")) as registry:
        started = time.monotonic()
        resolve(registry, options=options)
        assert 0.6 <= time.monotonic() - started < 5


def test_closing_ends_a_wait() -> None:
    options = replace(QUICK, retry=RetryPolicy(attempts=4, first_wait=60.0))
    with serve_registry(holding(image()), faults=Faults(refusals=99)) as registry:
        source = RegistrySource(options)
        threading.Timer(0.2, source.close).start()
        with pytest.raises(TransferError, match="the source was closed"):
            source.resolve(parse_reference(f"{registry.host}/team/app:1.0"), AMD64)


def test_nobody_there() -> None:
    with serve_registry(RegistryContent()) as gone:
        pass
    with pytest.raises(TransferError, match=r"cannot connect \(Connection refused\)"):
        resolve(gone)


# --- who may ---

USERS = {"ann": "hush-password"}
ANN = Credentials("ann", "hush-password")


def test_basic() -> None:
    built = image()
    with serve_registry(holding(built), access=Access(scheme="basic", users=USERS)) as registry:
        assert len(pull(registry, logged_in(registry, ANN))) == 2
        # Only the greeting comes without; the rest is shown at once what it wants.
        assert [request.path for request in registry.requests if request.authorization is None] == ["/v2/"]
        with pytest.raises(AuthenticationError, match="docker login 127"):
            resolve(registry)
        with pytest.raises(AuthenticationError, match="access denied"):
            resolve(registry, options=logged_in(registry, Credentials("ann", "hush-wrong")))


@pytest.mark.parametrize(
    ("access", "credentials", "method"),
    [
        (Access(scheme="token"), Credentials(), "GET"),
        (Access(scheme="token", users=USERS), ANN, "GET"),
        (Access(scheme="token", users=USERS, identity_token="hush-id"), Credentials(identity_token="hush-id"), "POST"),
    ],
)
def test_tokens_are_asked_for_once(access: Access, credentials: Credentials, method: str) -> None:
    built = image()
    with serve_registry(holding(built), access=access) as registry:
        assert pull(registry, logged_in(registry, credentials)) == [layer.content for layer in built.layers]
    [asked] = [request for request in registry.requests if request.path == "/token"]
    assert asked.method == method
    assert "team%2Fapp%3Apull" in asked.query + asked.body.decode()


def test_a_token_that_lapses_in_the_middle_is_renewed() -> None:
    built = image()
    with serve_registry(holding(built), access=Access(scheme="token", users=USERS)) as registry:
        with RegistrySource(logged_in(registry, ANN)) as source:
            found = source.resolve(parse_reference(f"{registry.host}/team/app:1.0"), AMD64)
            for layer, made in zip(found.layers, built.layers, strict=True):
                registry.revoke_tokens()
                registry.faults = Faults(breaks=1, fault_after=200_000)
                stream = source.open_layer(found, layer)
                start = next(stream)
                registry.revoke_tokens()
                assert start + b"".join(stream) == made.content
        assert registry.count("/token") >= 4


def test_a_token_is_renewed_before_it_lapses() -> None:
    access = Access(scheme="token", token_seconds=300, stated_seconds=1e-9)
    with serve_registry(holding(image()), access=access) as registry:
        pull(registry, QUICK)
        assert registry.count("/token") == 4
        assert all(request.authorization for request in registry.requests if "/blobs/" in request.path)


def test_a_token_that_nothing_accepts_is_asked_for_twice_only() -> None:
    with serve_registry(
        holding(image()), access=Access(scheme="token", token_seconds=0.0, stated_seconds=60)
    ) as registry:
        with pytest.raises(AuthenticationError, match=r"access denied \(status 401, UNAUTHORIZED\)"):
            resolve(registry)
        assert registry.count("/token") == 2


def test_a_token_provider_serves_a_registry() -> None:
    with serve_registry(holding(image()), access=Access(scheme="token", users=USERS)) as registry:
        asked: list[tuple[tuple[str, ...], str | None]] = []

        def provide(domain: str, scopes: tuple[str, ...], refused: str | None, realm: str) -> str | None:
            assert domain == registry.host
            assert realm.endswith("/token")
            asked.append((scopes, refused))
            return registry.new_token(60, scopes)

        assert len(pull(registry, replace(QUICK, token_provider=provide))) == 2
        assert registry.count("/token") == 0
    # For each request, and never as one that was refused.
    assert set(asked) == {(("repository:team/app:pull",), None)}


def test_a_hostile_realm_gets_nothing() -> None:
    with serve_registry(RegistryContent()) as thief:
        realm = f"http://localhost.example:{thief.port}/token"
        access = Access(scheme="token", users=USERS, realm=realm)
        with serve_registry(holding(image()), access=access) as registry:
            with pytest.raises(AuthenticationError, match="no credentials were sent"):
                resolve(registry, options=logged_in(registry, ANN))
        assert thief.requests == []


@pytest.mark.parametrize(
    "plant",
    [
        lambda registry: Faults(refusals=99),
        lambda registry: Faults(breaks=99, fault_after=10),
        lambda registry: Faults(ends=99, fault_after=10),
        lambda registry: Faults(extra_bytes=5),
        lambda registry: Faults(wrong_bytes=True),
        lambda registry: Faults(digest_header="sha256:" + "0" * 64),
        lambda registry: Faults(redirect_blobs="http://hush-name:hush-password@127.0.0.1:1"),
        lambda registry: Faults(redirect_blobs="http://127.0.0.1:1"),
        lambda registry: Faults(redirect_blobs=registry.url),
        lambda registry: Faults(refusals=99, refusal_status=403),
        lambda registry: Faults(refusals=99, refusal_status=418),
    ],
)
def test_no_error_tells_a_secret(plant: Callable[[TestRegistry], Faults]) -> None:
    with serve_registry(holding(image()), access=Access(scheme="token", users=USERS)) as registry:
        registry.faults = plant(registry)
        with pytest.raises(DrypointError) as caught:
            resolve(registry, options=logged_in(registry, ANN))
    told = "".join(traceback.format_exception(caught.value.with_traceback(None)))
    for secret in ("hush-password", "token-1-of", "signed-", "X-Signature", "aHVzaC", "YW5uOmh1c2g"):
        assert secret not in told


# --- the real thing ---


@pytest.mark.engine
@pytest.mark.parametrize("authenticated", [False, True])
def test_debians_registry(authenticated: bool, tmp_path: Path) -> None:
    amd64, arm64 = image(docker=True), image(ARM64, docker=True)
    index = build_index([amd64, arm64], docker=True)
    large = tmp_path / "large"
    large.write_bytes(NOISE.randbytes(8 << 20))
    with_file = build_image([build_layer(large, Compression.NONE)])
    content = RegistryContent()
    add_to_registry(content, "team/app", "1.0", index)
    add_to_registry(content, "team/large", "latest", with_file)
    with DockerRegistry(authenticated=authenticated) as real:
        real.push(content)
        login = Credentials(docker_registry.USER, docker_registry.PASSWORD)
        options = replace(QUICK, credentials=StaticCredentials({real.address: login} if authenticated else {}))
        with RegistrySource(options) as source:
            reference = parse_reference(real.reference("team/app", "1.0"))
            found = source.resolve(reference, ARM64)
            assert found.image_id == arm64.image_id
            assert found.references == (reference, reference.with_digest(index.digest))
            assert [b"".join(source.open_layer(found, layer)) for layer in found.layers] == [
                layer.content for layer in arm64.layers
            ]
            by_digest = source.resolve(parse_reference(real.reference("team/large", with_file.digest)), AMD64)
            chunks = list(source.open_layer(by_digest, by_digest.layers[0]))
            assert digest_of(b"".join(chunks)) == by_digest.layers[0].blob.digest
            assert max(len(chunk) for chunk in chunks) <= 2 << 20
            # Ranges as this registry gives them: the client is told to go on from the middle.
            client = source._client(real.address)
            blob = by_digest.layers[0].blob
            answer = client.open_blob("team/large", blob, 5_000_000)
            assert answer.status == 206
            assert answer.header("Content-Range") == f"bytes 5000000-{blob.size - 1}/{blob.size}"
            answer.close()
            with pytest.raises(ImageNotFoundError, match="MANIFEST_UNKNOWN"):
                source.resolve(parse_reference(real.reference("team/app", "2.0")), AMD64)
        if authenticated:
            with RegistrySource(QUICK) as source, pytest.raises(AuthenticationError, match="docker login"):
                source.resolve(reference, AMD64)
