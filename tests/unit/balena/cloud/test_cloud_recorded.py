"""The stand-in held to a recording of a real server, and drypoint's requests to those in it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.cloud import TestCloud, serve_cloud
from tests.support.cloud_fixtures import QUICK
from tests.support.odata_terms import Literal, Operation
from tests.support.odata_url import MalformedUrlError, NotKnownError, UnreadableUrlError, parse_url
from tests.support.recorded_cloud import STALE, STALE_FROM, TOKEN, Exchange, exchanges, recorded_content

from drypoint.balena.cloud import (
    CloudClient,
    CloudModel,
    CloudSettings,
    RegistryTokens,
    find_fleet,
    find_release,
    fleet_state,
)
from drypoint.balena.cloud.query import encoded_query, odata_text
from drypoint.errors import SourceError
from drypoint.oci import parse_reference

RECORDED = exchanges()


@pytest.fixture(scope="module")
def cloud() -> Iterator[TestCloud]:
    with serve_cloud(recorded_content()) as running:
        yield running


def ask(cloud: TestCloud, target: str, token: str | None, method: str = "GET") -> tuple[int, str | None, object]:
    """Status, content type and body, of *target* as it is."""
    connection = http.client.HTTPConnection(urlsplit(cloud.url).netloc)
    connection.request(method, target, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers.get("Content-Type"), json.loads(body) if body else ""


def difference(cloud: TestCloud, place: int, exchange: Exchange) -> str | None:
    """How the stand-in's answer differs from the recorded one."""
    token = None if exchange.authorization is None else STALE if place in STALE_FROM else TOKEN
    answered = ask(cloud, exchange.target, token, exchange.method)
    expected = (exchange.status, exchange.content_type, msgspec.json.decode(exchange.body))
    if "/auth/v1/token" in exchange.target and exchange.status == 200:
        answered = (*answered[:2], comparable(opened(answered[2])))
        expected = (*expected[:2], comparable(expected[2]))
    return None if answered == expected else f"{exchange.target}: {answered}, not {expected}"


def opened(body: object) -> object:
    """A token's header and claims in its place, as in the recording."""
    assert isinstance(body, dict)
    header, claims, _ = (part + "=" * (-len(part) % 4) for part in body["token"].split("."))
    decoded = [json.loads(base64.urlsafe_b64decode(part)) for part in (header, claims)]
    return {"token": {"header": decoded[0], "claims": decoded[1]}}


def comparable(body: object) -> object:
    """Without what differs from one time, and one key, to the next; times as they lie to each other."""
    shown = json.loads(json.dumps(body))
    claims = shown["token"]["claims"]
    assert len(claims.pop("jti")) == 36
    assert shown["token"]["header"].pop("kid")
    given = claims["iat"]
    for name in ("nbf", "iat", "exp"):
        claims[name] -= given
    return shown


def test_the_recording_is_whole() -> None:
    assert len(RECORDED) == 111
    assert {one.status for one in RECORDED} == {200, 400, 401, 500}


@pytest.mark.parametrize("place", range(len(RECORDED)))
def test_the_stand_in_answers_as_the_server_did(cloud: TestCloud, place: int) -> None:
    assert difference(cloud, place, RECORDED[place]) is None


def test_the_comparison_finds_other_answers() -> None:
    """The judge itself: one fact changed at a time."""
    content = recorded_content()
    content.audience = "another.test"
    content.users[STALE], content.revoked = content.users[TOKEN], set()
    content.fleets.reverse()
    content.supervisor_releases = {}
    with serve_cloud(content) as cloud:
        found = {place for place, exchange in enumerate(RECORDED) if difference(cloud, place, exchange) is not None}
    tokens = {place for place, one in enumerate(RECORDED) if "/auth/v1/token" in one.target}
    assert found >= {*tokens, *STALE_FROM, 72, 90, 100, 101}
    # What none of that is about stays as it is.
    assert not found & {0, 1, 49, 74, 82, 98}


@pytest.mark.parametrize(
    ("target", "status", "said"),
    [
        ("/v7/application?$select=id%2Cuuid", 400, "Malformed url: '/v7/application?$select=id%2Cuuid'"),
        ("/v7/application?$filter=%28slug%20eq%20'a'%29", 400, "Malformed url"),
        ("/v7/application?$filter=slug%20eq%20'a%2Fb'", 200, ""),
        ("/v7/application?$filter=slug%20eq%20'a''b%27%27c'", 200, ""),
        ("/v7/application?$filter=slug%20eq%20'a'b'", 400, "Malformed url"),
        ("/v7/application?$filter=slug%20eq'a'", 400, "Malformed url"),
        ("/v7/application?$filter=slug+eq+'a'", 200, ""),
        ("/v7/application?$expand=is_for__device_type($select=slug%3B$top=1)", 400, "Malformed url"),
        ("/v7/application?$filter=startswith(slug)", 400, "Malformed url"),
        ("/v7/application?$filter=owns__device%2Fany(d:d/uuid%20eq%20'a')", 400, "Malformed url"),
        ("/v7/application?$filter=owns__device/any(d%3Ad/uuid%20eq%20'a')", 400, "Malformed url"),
        ("/v7/application?$top=-1", 400, "Malformed url"),
        ("/v7/application?$select%3Did", 400, "Malformed url"),
        ("/v7/application?%24select=id", 200, ""),
        ("/v7/application?$filter=slug%20eq%20'%zz'", 500, ""),
        ("/v7/application?$filter=id%20eq%204294967296", 500, ""),
        ("/v7/application?$select=nosuch", 500, ""),
        ("/v7/nosuch?$select=id%2Cuuid", 400, "Malformed url"),
        ("/v7/nosuch", 401, ""),
        ("/v7/application(slug='a/b')?$select=id", 501, "the stand-in does not know"),
        ("/v7/application?$filter=now()%20eq%201", 501, "the stand-in does not know"),
        ("/v7/application?$filter=slug%20eq%20@a&@a='x'", 501, "the stand-in does not know"),
    ],
)
def test_the_stand_in_refuses_wrong_requests(cloud: TestCloud, target: str, status: int, said: str) -> None:
    answered, _, body = ask(cloud, target, TOKEN)
    assert answered == status
    assert said in str(body)


def test_a_revoked_token_is_refused_everywhere(cloud: TestCloud) -> None:
    for target in (
        "/v7/application",
        "/v7/application?$select=id%2Cuuid",
        "/v7/nosuch",
        "/actor/v1/whoami",
        "/auth/v1/token?service=x",
        "/device/v3/fleet/a/state",
    ):
        assert ask(cloud, target, STALE) == (401, None, "")


def test_drypoint_asks_as_it_was_recorded(cloud: TestCloud) -> None:
    """Each request of these jobs is in the recording, to the letter, and was answered there."""
    before = len(cloud.requests)
    with CloudClient(CloudSettings(cloud.url, TOKEN), QUICK) as client:
        model = CloudModel(client)
        lamps = find_fleet(model, "Alice/LampsThree")
        for wanted in ("latest", "abcd2", "dddd", "abcd1"):
            fleet_state(client, lamps, find_release(model, lamps, wanted))
        for name in ("4", lamps.uuid, "alice/empty", "bob/pubapp"):
            find_fleet(model, name)
        for name in ("o'brien/x", "alice/a%20b&c"):
            with pytest.raises(SourceError, match="has no fleet"):
                find_fleet(model, name)
        fleet_state(client, lamps, find_release(model, lamps))
        images = [
            parse_reference(f"127.0.0.1:15000/v2/{name}")
            for name in ("9f4a8bba0ea779bf0828d3a067bc4851", "1813b4d8af8207898ff86d989bf1ded4")
        ]
        assert RegistryTokens(client, images)(images[0].domain, (f"repository:{images[0].path}:pull",), None, "")
    asked = [request.target for request in cloud.requests[before:]]
    assert len(asked) > 15
    assert set(asked) <= {one.target for one in RECORDED if one.status == 200}


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40))
def test_any_name_comes_back_as_it_was(name: str) -> None:
    filtered = parse_url("/application?" + encoded_query([("$filter", f"(slug eq {odata_text(name)}) or (id eq 4)")]))
    assert isinstance(filtered.options.filter, Operation)
    left = filtered.options.filter.left
    assert isinstance(left, Operation)
    assert left.right == Literal(name)


@given(st.text("$()',;=/:%20479aeqnorcd &+@?*-", max_size=60))
def test_any_address_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(MalformedUrlError, UnreadableUrlError, NotKnownError):
        assert parse_url(f"/application?$filter=id%20eq%204&{text}").resource == "application"


def test_a_query_for_no_model_is_spelled_as_it_was_recorded() -> None:
    query = [("service", "127.0.0.1:15000"), ("scope", "repository:v2/ab:pull"), ("x", "a&b#c%+d e")]
    assert encoded_query(query) == "service=127.0.0.1:15000&scope=repository:v2/ab:pull&x=a%26b%23c%25%2Bd%20e"
