"""The stand-in held to a second recording of a real server: of whose login it was that asked.

tests/data/open-balena-api-logins.json (open-balena-api 49.0.12) has the server's content (``users``, ``fleets``,
``devices``) and ``exchanges``. Their ``login`` is a user's name, null, or one that the server does not know:
``unknown`` is an API key that was never given, ``lapsed`` a session past its end, ``revoked`` one whose user logged out
everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest
from tests.support.cloud import CloudContent, CloudDevice, CloudFleet, CloudUser, TestCloud, serve_cloud
from tests.support.scripts import ROOT

from .test_cloud_recorded import ask, comparable, opened

RECORDING = ROOT / "tests/data" / "open-balena-api-logins.json"
NOBODYS = ("unknown", "lapsed", "revoked")


class _User(msgspec.Struct):
    id: int
    username: str
    email: str


class _System(msgspec.Struct):
    uuid: str
    running: str


class _Device(msgspec.Struct):
    uuid: str
    name: str
    fleet: str
    running: str | None
    system: list[_System]
    config: dict[str, str]
    environment: dict[str, str]


class Exchange(msgspec.Struct, frozen=True):
    method: str
    target: str
    authorization: str | None
    login: str | None
    status: int
    content_type: str | None
    body: msgspec.Raw


class _Recording(msgspec.Struct):
    users: dict[str, _User]
    fleets: list[CloudFleet]
    devices: list[_Device]
    exchanges: list[Exchange]


RECORDED = msgspec.json.decode(RECORDING.read_bytes(), type=_Recording)


def recorded_content() -> CloudContent:
    fleets = {fleet.uuid: fleet for fleet in RECORDED.fleets}
    devices = [
        CloudDevice(
            uuid=one.uuid, name=one.name, fleet=one.fleet, running=one.running, config=one.config,
            environment=one.environment, system=[replace(fleets[of.uuid], running=of.running) for of in one.system],
        )
        for one in RECORDED.devices
    ]  # fmt: skip
    return CloudContent(
        fleets=RECORDED.fleets,
        devices=devices,
        users={login: CloudUser(one.username, one.id, one.email) for login, one in RECORDED.users.items()},
        revoked={"revoked"},
        issuer="judge-api",
        audience="127.0.0.1:15000",
    )


@pytest.fixture(scope="module")
def cloud() -> Iterator[TestCloud]:
    with serve_cloud(recorded_content()) as running:
        yield running


def difference(cloud: TestCloud, exchange: Exchange) -> str | None:
    """How the stand-in's answer differs from the recorded one."""
    answered = ask(cloud, exchange.target, exchange.login, exchange.method)
    expected = (exchange.status, exchange.content_type, msgspec.json.decode(exchange.body))
    if "/auth/v1/token" in exchange.target and exchange.status == 200:
        answered = (*answered[:2], comparable(opened(answered[2])))
        expected = (*expected[:2], comparable(expected[2]))
    return None if answered == expected else f"{exchange.login} {exchange.target}: {answered}, not {expected}"


def test_the_recording_is_whole() -> None:
    assert len(RECORDED.exchanges) == 128
    assert {one.login for one in RECORDED.exchanges} == {"alice", "bob", None, *NOBODYS}
    assert {one.status for one in RECORDED.exchanges} == {200, 304, 400, 401}


@pytest.mark.parametrize("place", range(len(RECORDED.exchanges)))
def test_the_stand_in_answers_as_the_server_did(cloud: TestCloud, place: int) -> None:
    assert difference(cloud, RECORDED.exchanges[place]) is None


def test_the_comparison_finds_other_answers() -> None:
    """The judge itself: logins that are taken for others."""
    content = recorded_content()
    content.revoked = set()
    content.users["unknown"] = content.users["bob"]
    with serve_cloud(content) as cloud:
        found = {one.login for one in RECORDED.exchanges if difference(cloud, one) is not None}
    assert found == {"unknown", "revoked"}
