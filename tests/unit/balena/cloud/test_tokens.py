"""Registry tokens: one request for all images, renewed in time, for the right registries only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.support.cloud import CloudFaults, TestCloud, serve_cloud
from tests.support.cloud_fixtures import QUICK, REGISTRY, TOKEN, client_of, content

from drypoint.balena.cloud import CloudClient, CloudSettings, RegistryTokens
from drypoint.errors import AuthenticationError
from drypoint.oci import Reference, parse_reference

MAIN, WEB, SECRET = (parse_reference(f"{REGISTRY}/v2/{name}") for name in ("main1", "web2", "secret9"))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def tokens_for(
    *images: Reference, faults: CloudFaults | None = None, token: str = TOKEN, clock: Clock | None = None
) -> Iterator[tuple[TestCloud, RegistryTokens]]:
    with serve_cloud(content(), faults=faults) as cloud, client_of(cloud, token) as client:
        yield cloud, RegistryTokens(client, images, clock=clock or Clock())


def scope_of(image: Reference) -> tuple[str, ...]:
    return (f"repository:{image.path}:pull",)


def test_one_request_serves_all_images() -> None:
    with tokens_for(MAIN, WEB) as (cloud, tokens):
        assert (
            tokens(REGISTRY, scope_of(MAIN), None, "") == tokens(REGISTRY, scope_of(WEB), None, "") == cloud.tokens[0]
        )
        assert cloud.requests[0].query == (("service", REGISTRY), ("scope", *scope_of(MAIN)), ("scope", *scope_of(WEB)))
        assert len(cloud.tokens) == 1


def test_a_token_is_renewed_before_it_lapses_and_when_it_is_refused() -> None:
    clock = Clock()
    with tokens_for(MAIN, faults=CloudFaults(token_seconds=100.0), clock=clock) as (cloud, tokens):
        first = tokens(REGISTRY, scope_of(MAIN), None, "")
        clock.now += 80
        assert tokens(REGISTRY, scope_of(MAIN), None, "") == first
        clock.now += 15
        second = tokens(REGISTRY, scope_of(MAIN), None, "")
        assert second not in (None, first)
        third = tokens(REGISTRY, scope_of(MAIN), second, "")
        assert third not in (None, second)
        # Another thread's word about an older token is no reason to ask again.
        assert tokens(REGISTRY, scope_of(MAIN), second, "") == third
        assert len(cloud.tokens) == 3


def test_a_clock_that_is_wrong_by_years_does_not_matter() -> None:
    clock = Clock()
    clock.now = 9e9
    with tokens_for(MAIN, clock=clock) as (cloud, tokens):
        for _ in range(3):
            tokens(REGISTRY, scope_of(MAIN), None, "")
        assert len(cloud.tokens) == 1


def test_other_registries_and_scopes_get_nothing() -> None:
    with tokens_for(MAIN) as (cloud, tokens):
        assert (
            tokens("registry.example.com", scope_of(MAIN), None, "https://registry.example.com/auth/v1/token") is None
        )
        assert tokens("registry.example.com", scope_of(MAIN), None, cloud.url.replace("http", "https")) is None
        assert tokens("registry.example.com", scope_of(MAIN), None, "") is None
        assert tokens(REGISTRY, ("registry:catalog:*",), None, "") is None
        assert tokens(REGISTRY, (f"repository:{MAIN.path}:pull,push",), None, "") is None
        assert cloud.requests == []


def test_only_who_is_named_by_the_server_or_the_caller_gets_a_token() -> None:
    """Whoever writes an apps.json may name a registry of theirs, with the path of an image of the user's, and the API server as
    its token server: the token would be good for that image."""
    with serve_cloud(content()) as cloud, client_of(cloud) as client:
        realm = f"{cloud.url}/auth/v1/token"
        tokens = RegistryTokens(client, [MAIN], ["named.example:5000"], Clock())
        assert tokens("evil.example", scope_of(MAIN), None, realm) is None
        assert cloud.requests == []
        assert tokens.advice("evil.example", realm) == (
            f"it names {client.settings.host} as its token server, but only apps.json names it, so the login is not used "
            "there. If it is that server's registry, name an image of it with --image, or run: docker login evil.example"
        )
        assert tokens.advice("evil.example", "https://evil.example/token") is None
        assert tokens("named.example:5000", scope_of(MAIN), None, "https://named.example:5000/token") is None
        assert tokens("named.example:5000", scope_of(MAIN), None, realm) == cloud.tokens[0]
        assert tokens(REGISTRY, scope_of(MAIN), None, realm) == cloud.tokens[1]


def test_an_image_that_came_later_is_asked_for_too() -> None:
    with tokens_for(MAIN) as (cloud, tokens):
        tokens(REGISTRY, scope_of(MAIN), None, "")
        assert tokens(REGISTRY, scope_of(WEB), None, "") == cloud.tokens[1]


def test_the_servers_own_registry_is_known_without_images() -> None:
    client = CloudClient(CloudSettings("https://api.balena-cloud.com"), QUICK)
    tokens = RegistryTokens(client)
    # Nobody is logged in: an apps.json from somewhere may name public images.
    assert tokens("registry2.balena-cloud.com", scope_of(MAIN), None, "") is None
    assert client.settings.registry == "registry2.balena-cloud.com"
    assert CloudSettings("http://127.0.0.1:80").registry is None


def test_what_is_not_granted_is_told_by_name() -> None:
    with tokens_for(SECRET) as (_, tokens):
        with pytest.raises(AuthenticationError, match=f"does not let this login pull {REGISTRY}/v2/secret9"):
            tokens(REGISTRY, scope_of(SECRET), None, "")
    with tokens_for(MAIN, token="stale") as (_, tokens):
        with pytest.raises(AuthenticationError, match="does not accept the token"):
            tokens(REGISTRY, scope_of(MAIN), None, "")
    with tokens_for(MAIN, token="") as (_, tokens):
        with pytest.raises(AuthenticationError, match="not logged in"):
            tokens(REGISTRY, scope_of(MAIN), None, "")


def test_very_many_images_take_as_many_requests_as_fit() -> None:
    images = [parse_reference(f"{REGISTRY}/v2/{number:032x}") for number in range(500)]
    with tokens_for(*images) as (cloud, tokens):
        for image in images[::50]:
            with pytest.raises(AuthenticationError):
                tokens(REGISTRY, scope_of(image), None, "")
        asked = [request.query for request in cloud.requests if request.path == "/auth/v1/token"]
    assert all(sum(len(value) for _, value in query) < 8000 for query in asked)
    assert len(set(asked)) <= 8
    assert {value for query in asked for _, value in query} >= {scope_of(image)[0] for image in images[::50]}


@pytest.mark.parametrize("text", ["opaque", "a.b.c", "..", "a.eyJleHAiOiJ4In0.c"])
def test_tokens_of_other_kinds_are_used_for_a_while(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with tokens_for(MAIN, clock=clock) as (cloud, tokens):
        monkeypatch.setattr(cloud, "token", lambda access, subject: text)
        for _ in range(3):
            assert tokens(REGISTRY, scope_of(MAIN), None, "") == text
        clock.now += 400
        tokens(REGISTRY, scope_of(MAIN), None, "")
        assert len(cloud.tokens) == 2
