"""The registry's challenges, and the dialogue that answers them: no I/O."""

from __future__ import annotations

import base64
import json
import threading
import traceback
from collections.abc import Callable, Generator
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.errors import AuthenticationError
from drypoint.sources.registry import Credentials, StaticCredentials
from drypoint.sources.registry.auth import (
    Authenticator,
    Authorization,
    TokenAnswer,
    TokenRequest,
    authorize,
    realm_is_safe,
)
from drypoint.sources.registry.challenge import Challenge, parse_challenges

BEARER = Challenge("bearer", {"realm": "https://auth.example.com/token?x=1", "service": "registry.example.com"})
BASIC = Challenge("basic", {"realm": "here"})
SCOPE = "repository:team/app:pull"
SECRETS = ("hush-password", "hush-identity", "hush-token")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="a b"', [("basic", {"realm": "a b"})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"',
            [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"})],
        ),
        ('BEARER Realm = "r" , service=s', [("bearer", {"realm": "r", "service": "s"})]),
        (
            'Basic realm="x", Bearer realm="y",service="z", Negotiate',
            [("basic", {"realm": "x"}), ("bearer", {"realm": "y", "service": "z"}), ("negotiate", {})],
        ),
        ('Negotiate dGV4dA==, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('NTLM abc, Basic realm="x"', [("ntlm", {}), ("basic", {"realm": "x"})]),
        ('Bearer realm="with \\"quotes\\" and \\\\"', [("bearer", {"realm": 'with "quotes" and \\'})]),
        (', , Basic realm="x",', [("basic", {"realm": "x"})]),
        ('Bearer realm="first",realm="second"', [("bearer", {"realm": "first"})]),
        ('Bearer realm="never closed', [("bearer", {})]),
        ('Bearer service="s",realm=', [("bearer", {"service": "s"})]),
        ("\x00", []),
    ],
)
def test_challenges_are_read(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(challenge.scheme, challenge.parameters) for challenge in parse_challenges([header])] == expected


def test_challenges_of_several_headers_are_joined_and_bounded() -> None:
    assert [c.scheme for c in parse_challenges(["Basic", "Bearer realm=x"])] == ["basic", "bearer"]
    assert len(parse_challenges(["A, " * 1000] * 5)) == 16


@given(st.text(max_size=200))
def test_no_header_breaks_the_parser(header: str) -> None:
    parse_challenges([header])


_WORD = st.text("abcXYZ019-_.", min_size=1, max_size=10)
_PARAMETERS = st.dictionaries(_WORD.map(str.lower), st.text(max_size=30), max_size=4)


@given(st.lists(st.tuples(_WORD, _PARAMETERS), max_size=4))
def test_what_is_written_as_the_rfc_says_is_read_back(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
        for scheme, parameters in challenges
    )
    assert [(c.scheme, c.parameters) for c in parse_challenges([header])] == [
        (scheme.lower(), parameters) for scheme, parameters in challenges
    ]


def talk(
    dialogue: Generator[TokenRequest, TokenAnswer, Authorization], *answers: TokenAnswer
) -> tuple[list[TokenRequest], Authorization]:
    requests = []
    waiting = list(answers)
    authorization = None
    try:
        request = next(dialogue)
        while True:
            requests.append(request)
            request = dialogue.send(waiting.pop(0))
    except StopIteration as end:
        authorization = end.value
    assert isinstance(authorization, Authorization)
    return requests, authorization


def token(**fields: object) -> TokenAnswer:
    return TokenAnswer(200, json.dumps(fields).encode())


def ask(
    challenges: list[Challenge], credentials: Credentials | None, *answers: TokenAnswer, plain_http: bool = False
) -> tuple[list[TokenRequest], Authorization]:
    return talk(authorize(challenges, credentials, (SCOPE,), "registry.example.com", plain_http=plain_http), *answers)


def test_anonymous_pull_asks_the_realm_for_a_token() -> None:
    [request], authorization = ask([BEARER], None, token(token="hush-token", expires_in=300))
    assert request.method == "GET"
    assert parse_qsl(urlsplit(request.url).query) == [
        ("x", "1"),
        ("service", "registry.example.com"),
        ("scope", SCOPE),
    ]
    assert "Authorization" not in request.headers
    assert authorization == Authorization("Bearer hush-token", 300.0)


def test_credentials_go_to_the_realm_as_basic() -> None:
    [request], _ = ask([BEARER], Credentials("ann", "hush-password"), token(access_token="hush-token"))
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"ann:hush-password").decode()
    assert ("account", "ann") in parse_qsl(urlsplit(request.url).query)


def test_an_identity_token_is_posted() -> None:
    [request], authorization = ask(
        [BEARER], Credentials(identity_token="hush-identity"), token(access_token="hush-token", expires_in=60)
    )
    assert (request.method, request.url) == ("POST", "https://auth.example.com/token?x=1")
    assert request.body is not None
    assert parse_qs(request.body.decode()) == {
        "grant_type": ["refresh_token"],
        "service": ["registry.example.com"],
        "client_id": ["drypoint"],
        "scope": [SCOPE],
        "refresh_token": ["hush-identity"],
    }
    assert authorization.header == "Bearer hush-token"


def test_a_registry_token_is_used_as_it_is() -> None:
    requests, authorization = ask([BEARER], Credentials(registry_token="hush-token"))
    assert (requests, authorization) == ([], Authorization("Bearer hush-token"))


def test_basic_needs_no_request() -> None:
    requests, authorization = ask([BASIC], Credentials("ann", "hush-password"))
    assert requests == []
    assert authorization == Authorization("Basic " + base64.b64encode(b"ann:hush-password").decode())


def test_bearer_goes_before_basic_and_a_bearer_without_realm_does_not_count() -> None:
    requests, _ = ask([BASIC, BEARER], Credentials("ann", "hush-password"), token(token="hush-token"))
    assert len(requests) == 1
    requests, authorization = ask([Challenge("bearer", {}), BASIC], Credentials("ann", "hush-password"))
    assert requests == []
    assert authorization.header.startswith("Basic ")


@pytest.mark.parametrize("stated", [{}, {"expires_in": None}, {"expires_in": 0}, {"expires_in": -5}])
def test_a_token_that_says_no_lifetime_lives_a_minute(stated: dict[str, object]) -> None:
    _, authorization = ask([BEARER], None, token(token="hush-token", **stated))
    assert authorization.lifetime == 60.0


@pytest.mark.parametrize(
    ("challenges", "credentials", "answers", "words"),
    [
        ([BASIC], None, [], "docker login registry.example.com"),
        ([BASIC], Credentials(identity_token="hush-identity"), [], "requires a user name"),
        ([Challenge("negotiate", {})], Credentials("ann", "hush-password"), [], "negotiate"),
        ([], Credentials("ann", "hush-password"), [], "none"),
        ([BEARER], Credentials("ann", "hush-password"), [TokenAnswer(401, b"hush-password")], "status 401"),
        ([BEARER], None, [TokenAnswer(403, b"")], "without credentials"),
        ([BEARER], None, [TokenAnswer(302, b"")], "status 302"),
        ([BEARER], None, [TokenAnswer(200, b'{"token": hush-token}')], "not JSON"),
        ([BEARER], None, [TokenAnswer(200, b'{"token": "hush-token", "expires_in": "hush-token"}')], "not JSON"),
        ([BEARER], None, [TokenAnswer(200, b"[" * 100_000)], "not JSON"),
        ([BEARER], None, [TokenAnswer(200, b"{}")], "gave no token"),
        ([BEARER], None, [TokenAnswer(200, b'{"token": "hush-token\\r\\nX: y"}')], "not valid in a header"),
        (
            [Challenge("bearer", {"realm": "http://auth.example.com/t"})],
            Credentials("ann", "hush-password"),
            [],
            "https",
        ),
        ([Challenge("bearer", {"realm": "https://ann:hush-password@a/t"})], Credentials("a", "b"), [], "https"),
        ([Challenge("bearer", {"realm": "https://[bad/t"})], Credentials("ann", "hush-password"), [], "https"),
        ([Challenge("bearer", {"realm": "https://a:99999/t"})], Credentials("ann", "hush-password"), [], "https"),
        ([Challenge("bearer", {"realm": "file:///etc/passwd"})], Credentials("ann", "hush-password"), [], "https"),
    ],
)
def test_refusals_are_told_without_secrets(
    challenges: list[Challenge], credentials: Credentials | None, answers: list[TokenAnswer], words: str
) -> None:
    dialogue = authorize(challenges, credentials, (SCOPE,), "registry.example.com", plain_http=False)
    with pytest.raises(AuthenticationError, match=words) as caught:
        talk(dialogue, *answers)
    told = "".join(traceback.format_exception(caught.value.with_traceback(None)))
    assert not [secret for secret in SECRETS if secret in told]


@pytest.mark.parametrize(
    ("realm", "registry", "plain_http", "safe"),
    [
        ("https://auth.docker.io/token", "docker.io", False, True),
        ("https://anywhere.example/token", "registry.lan:5000", True, True),
        ("http://registry.lan:5001/token", "registry.lan:5000", True, True),
        ("http://registry.lan:5001/token", "registry.lan:5000", False, False),
        ("http://elsewhere.lan/token", "registry.lan:5000", True, False),
        ("http://localhost:1/token", "127.0.0.1:5000", True, True),
        ("http://127.0.0.1/token", "registry.lan", True, False),
        ("//auth.docker.io/token", "docker.io", False, False),
        ("", "docker.io", False, False),
    ],
)
def test_a_realm_has_to_be_https(realm: str, registry: str, plain_http: bool, safe: bool) -> None:
    assert realm_is_safe(realm, registry, plain_http=plain_http) is safe


def test_secrets_do_not_show_in_values() -> None:
    values: list[object] = [
        Credentials("ann", "hush-password", "hush-identity", "hush-token"),
        TokenRequest("GET", "https://a/?hush-token", {"Authorization": "hush-token"}, b"hush-identity"),
        TokenAnswer(200, b"hush-token"),
        Authorization("Bearer hush-token"),
    ]
    for value in values:
        assert not [secret for secret in SECRETS if secret in repr(value)]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def numbered_tokens() -> tuple[Callable[[TokenRequest], TokenAnswer], list[TokenRequest]]:
    asked: list[TokenRequest] = []

    def exchange(request: TokenRequest) -> TokenAnswer:
        asked.append(request)
        return token(token=f"t{len(asked)}", expires_in=100)

    return exchange, asked


def test_tokens_are_kept_by_scope_until_they_lapse() -> None:
    clock = Clock()
    authenticator = Authenticator("registry.example.com", StaticCredentials({}), clock=clock)
    exchange, asked = numbered_tokens()

    def header(scope: str, refused: str | None = None) -> str | None:
        return authenticator.header(scope, exchange, plain_http=False, refused=refused)

    assert header("a") is None
    authenticator.learn((BEARER,))
    assert header("a") == header("a") == "Bearer t1"
    assert header("b") == "Bearer t2"
    clock.now += 89
    assert header("a") == "Bearer t1"
    clock.now += 2
    assert header("a") == "Bearer t3"
    assert header("a", refused="Bearer t3") == "Bearer t4"
    # Another thread was faster: what was refused to this one is replaced already.
    assert header("a", refused="Bearer t3") == "Bearer t4"
    assert len(asked) == 4


def test_threads_that_need_the_same_token_ask_once() -> None:
    authenticator = Authenticator("registry.example.com", StaticCredentials({}))
    authenticator.learn((BEARER,))
    exchange, asked = numbered_tokens()
    found: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: found.append(authenticator.header("a", exchange, plain_http=False)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["Bearer t1"] * 8
    assert len(asked) == 1


def test_a_token_provider_goes_first_and_hears_what_was_refused() -> None:
    calls: list[tuple[str, tuple[str, ...], str | None]] = []
    realms: set[str] = set()

    def provider(registry: str, scopes: tuple[str, ...], refused: str | None, realm: str) -> str | None:
        calls.append((registry, scopes, refused))
        realms.add(realm)
        return None if scopes == ("other",) else f"p{len(calls)}"

    authenticator = Authenticator("registry.example.com", StaticCredentials({}), provider)
    authenticator.learn((BEARER,))
    exchange, asked = numbered_tokens()
    assert authenticator.header("a", exchange, plain_http=False) == "Bearer p1"
    assert authenticator.header("a", exchange, plain_http=False, refused="Bearer p1") == "Bearer p2"
    assert asked == []
    assert authenticator.header("other", exchange, plain_http=False) == "Bearer t1"
    assert calls == [
        ("registry.example.com", ("a",), None),
        ("registry.example.com", ("a",), "p1"),
        ("registry.example.com", ("other",), None),
    ]
    assert realms == {BEARER.parameters["realm"]}


def test_a_store_that_fails_matters_only_when_credentials_are_wanted() -> None:
    class Broken:
        def get(self, registry: str) -> Credentials | None:
            raise AuthenticationError("the helper is broken")

    authenticator = Authenticator("registry.example.com", Broken())
    authenticator.learn((BEARER,))
    exchange, _ = numbered_tokens()
    assert authenticator.header("a", exchange, plain_http=False) == "Bearer t1"
    assert "the helper is broken" in authenticator.advice()
    with pytest.raises(AuthenticationError, match="the helper is broken"):
        authenticator.header("b", lambda _: TokenAnswer(401, b""), plain_http=False)
