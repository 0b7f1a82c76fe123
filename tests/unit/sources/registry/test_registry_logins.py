"""Who is shown what: registries that hide, that are names for other ones, and token servers of all kinds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support.quick_network import QUICK
from tests.support.raw_server import RawRequest, answer, raw_server

from drypoint.errors import AuthenticationError, ImageNotFoundError, TransferError
from drypoint.oci import Image, Platform, parse_reference
from drypoint.samples.images import Compression, add_to_registry, build_image, build_layer
from drypoint.samples.registry import Access, Faults, RegistryContent, TestRegistry, serve_registry
from drypoint.sources.registry import Credentials, RegistryOptions, RegistrySource, StaticCredentials

BUILT = build_image([build_layer(b"not really a tar" * 1000, Compression.NONE)])
USERS = {"ann": "hush-password"}
ANN = Credentials("ann", "hush-password")
BOB = Credentials("bob", "hush-of-bob")


def holding() -> RegistryContent:
    content = RegistryContent()
    add_to_registry(content, "team/app", "1.0", BUILT)
    return content


def pull(host: str, logins: Mapping[str, Credentials] | None = None, options: RegistryOptions = QUICK) -> Image:
    """The image, with its layer fetched, by one who is logged in to *logins*."""
    with RegistrySource(replace(options, credentials=StaticCredentials(logins or {}))) as source:
        found = source.resolve(parse_reference(f"{host}/team/app:1.0"), Platform("linux", "amd64"))
        assert b"".join(source.open_layer(found, found.layers[0])) == BUILT.layers[0].content
    assert found.image_id == BUILT.image_id
    return found


def secrets(registry: TestRegistry) -> set[str | None]:
    return {request.authorization for request in registry.requests}


# --- /v2/ is asked first ---


@pytest.mark.parametrize("scheme", ["basic", "token"])
@pytest.mark.parametrize("status", [403, 404])
def test_a_registry_that_hides_what_it_holds(scheme: str, status: int) -> None:
    access = Access(scheme="basic" if scheme == "basic" else "token", users=USERS, hides=status)
    with serve_registry(holding(), access=access) as registry:
        pull(registry.host, {registry.host: ANN})
        assert registry.requests[0].path == "/v2/"
        with pytest.raises((AuthenticationError, ImageNotFoundError), match=f"docker login {registry.host}"):
            pull(registry.host)


def test_what_is_for_everybody_needs_no_login() -> None:
    """Gitea and Nexus ask for a password at /v2/, and give public images without."""

    def respond(request: RawRequest) -> bytes:
        if request.target == "/v2/":
            return answer(401, b"", 'WWW-Authenticate: Basic realm="x"')
        return public(request)

    with raw_server(respond) as server:
        pull(server.host)
        assert all("authorization" not in request.headers for request in server.requests)


def test_what_is_for_everybody_needs_no_token_of_a_provider_that_has_none() -> None:
    def respond(request: RawRequest) -> bytes:
        if request.target == "/v2/":
            realm = f"http://{request.headers['host']}/token"
            return answer(401, b"", f'WWW-Authenticate: Bearer realm="{realm}",service="x"')
        if request.target.startswith("/token"):
            return answer(403, b"")
        return public(request)

    with raw_server(respond) as server:
        pull(server.host, options=replace(QUICK, token_provider=lambda registry, scopes, refused, realm: None))


def public(request: RawRequest) -> bytes:
    """A registry for everybody, that holds BUILT."""
    if request.target == "/v2/":
        return answer(200, b"{}")
    if "/manifests/" in request.target:
        return answer(200, BUILT.manifest, f"Content-Type: {BUILT.media_type}")
    layer = BUILT.layers[0].content
    assert isinstance(layer, bytes)
    return answer(200, BUILT.config if request.target.endswith(BUILT.image_id) else layer)


@pytest.mark.parametrize(("status", "times"), [(404, 1), (403, 1), (405, 1), (500, 3), (503, 3), (429, 3)])
def test_a_registry_that_does_not_answer_the_greeting(status: int, times: int) -> None:
    def respond(request: RawRequest) -> bytes:
        return answer(status, b"") if request.target == "/v2/" else public(request)

    with raw_server(respond) as server:
        pull(server.host)
        assert server.targets().count("/v2/") == times


# --- registries that are names for other ones ---


@pytest.mark.parametrize("scheme", ["basic", "token"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_another_registry_is_shown_its_own_login_only(scheme: str, status: int) -> None:
    access = Access(scheme="basic" if scheme == "basic" else "token", users=USERS)
    with serve_registry(holding(), access=access) as real:
        faults = Faults(redirect_all=real.url, redirect_status=status)
        with serve_registry(RegistryContent(), faults=faults) as name:
            found = pull(name.host, {name.host: BOB, real.host: ANN})
            assert found.references[0].domain == name.host
            assert secrets(name) == {None}
            # With the login for the name alone: nothing is shown to the registry behind it.
            real.requests.clear()
            with pytest.raises(AuthenticationError, match=f"docker login {real.host}"):
                pull(name.host, {name.host: ANN})
            assert secrets(real) == {None}


def test_an_anonymous_token_of_another_registry() -> None:
    with serve_registry(holding(), access=Access(scheme="token")) as real:
        with serve_registry(RegistryContent(), faults=Faults(redirect_all=real.url)) as name:
            pull(name.host)
        assert real.count("/token") == 1
        [asked] = [request for request in real.requests if request.path == "/token"]
        assert "scope=repository%3Ateam%2Fapp%3Apull" in asked.query


def test_a_registry_that_redirects_all_but_its_greeting() -> None:
    with serve_registry(holding(), access=Access(scheme="token", users=USERS)) as real:

        def respond(request: RawRequest) -> bytes:
            if request.target == "/v2/":
                return answer(200, b"{}")
            return answer(307, b"", f"Location: {real.url}{request.target}")

        with raw_server(respond) as name:
            pull(name.host, {real.host: ANN})
            assert all("authorization" not in request.headers for request in name.requests)


def test_another_registry_on_a_path() -> None:
    """The scope names the repository as the other registry does."""
    scopes: list[str] = []

    def real(request: RawRequest) -> bytes:
        if request.target.startswith("/token"):
            scopes.append(parse_qs(urlsplit(request.target).query)["scope"][0])
            return answer(200, b'{"token": "given"}')
        if request.headers.get("authorization") != "Bearer given":
            return answer(401, b"", 'WWW-Authenticate: Bearer realm="/token",service="s"')
        assert request.target.startswith("/registry/v2/mirror/team/app/")
        return public(request)

    with raw_server(real) as other:

        def respond(request: RawRequest) -> bytes:
            if request.target == "/v2/":
                return answer(200, b"{}")
            target = request.target.replace("/v2/", "/registry/v2/mirror/")
            return answer(307, b"", f"Location: http://{other.host}{target}")

        with raw_server(respond) as name:
            pull(name.host)
    assert scopes == ["repository:mirror/team/app:pull"]


def test_a_host_that_is_no_registry_gets_no_login() -> None:
    """Only below /v2/ is a challenge taken for a registry's: a storage host could ask for anything."""

    def stores(request: RawRequest) -> bytes:
        return answer(401, b"", 'WWW-Authenticate: Basic realm="x"')

    with raw_server(stores) as store:

        def respond(request: RawRequest) -> bytes:
            if "/blobs/" in request.target:
                return answer(307, b"", f"Location: http://{store.host}/bucket/x?Signature=hush")
            return public(request)

        with raw_server(respond) as registry:
            with pytest.raises(TransferError, match="401") as caught:
                pull(registry.host, {registry.host: ANN, store.host: ANN})
        assert "hush" not in str(caught.value)
        assert all("authorization" not in request.headers for request in store.requests)


def test_a_token_provider_is_not_asked_for_other_registries() -> None:
    asked: list[str] = []

    def provider(registry: str, scopes: tuple[str, ...], refused: str | None, realm: str) -> str | None:
        asked.append(registry)
        return "hush"

    with serve_registry(holding(), access=Access(scheme="token")) as real:
        with serve_registry(RegistryContent(), faults=Faults(redirect_all=real.url)) as name:
            pull(name.host, options=replace(QUICK, token_provider=provider))
    assert asked == []


# --- token servers ---


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_in": None, "issued_at": None, "refresh_token": None},
        {"token": None, "access_token": "TOKEN"},
        {"token": "", "ACCESS_TOKEN": "TOKEN", "expires_in": 0},
        {"expires_in": -5, "other": [{}]},
    ],
)
def test_answers_of_token_servers(fields: dict[str, object]) -> None:
    with serve_registry(holding(), access=Access(scheme="token", answer_fields=fields)) as registry:
        pull(registry.host)
        assert registry.count("/token") == 1


@pytest.mark.parametrize("realm", ["/token", "../token"])
def test_a_realm_without_a_host(realm: str) -> None:
    with serve_registry(holding(), access=Access(scheme="token", users=USERS, realm=realm)) as registry:
        pull(registry.host, {registry.host: ANN})


@pytest.mark.parametrize(
    "challenges",
    [
        ['Basic realm="x"', 'Bearer realm="REALM",service="s"'],
        ['Basic realm="x", Bearer realm="REALM",service="s"'],
        ["Negotiate", 'Bearer service="s", realm="REALM"'],
    ],
)
def test_several_challenges(challenges: list[str]) -> None:
    def respond(request: RawRequest) -> bytes:
        if request.target.startswith("/token"):
            return answer(200, json.dumps({"access_token": "given"}).encode())
        if request.headers.get("authorization") != "Bearer given":
            realm = f"http://{request.headers['host']}/token"
            return answer(401, b"", *(f"WWW-Authenticate: {text.replace('REALM', realm)}" for text in challenges))
        return public(request)

    with raw_server(respond) as server:
        pull(server.host, {server.host: ANN})
        [asked] = [request for request in server.requests if request.target.startswith("/token")]
        assert asked.headers["authorization"].startswith("Basic ")
