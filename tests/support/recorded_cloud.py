"""A recording of a real server (open-balena-api 49.0.12), and a stand-in with the same content.

The recording (tests/data/open-balena-api.json) is a list of requests: method, target as it was sent, whether there was a login,
status, content type and body; of registry tokens header and claims. What no answer shows (some releases and slugs) is made up
here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import msgspec
from tests.support.cloud import CloudContent, CloudDevice, CloudFleet, CloudRelease, CloudService, CloudUser

RECORDING = Path(__file__).parent.parent / "data" / "open-balena-api.json"
TOKEN, STALE = "alices-token", "a-token-of-nobody"
STALE_FROM = {56, 57, 110}
"""The indexes in the recording of requests with a login that the server did not accept."""

_FLEETS = {
    1: "alice/lights", 2: "alice/second", 3: "alice/third", 20: "balena_os/raspberrypi4-64", 5: "bob/pubapp", 6: "bob/priv",
    7: "alice/empty", 8: "alice/onlyfailed", 9: "alice/onlydraft", 10: "alice/pinned", 19: "balena_os/aarch64-supervisor",
    11: "alice/eleven", 12: "alice/twice", 13: "alice/nohash", 15: "alice/block", 16: "alice/class", 17: "alice/seventeen",
    18: "alice/eighteen", 4: "alice/lampsthree", **{number: f"alice/{number}" for number in range(21, 29)},
}  # fmt: skip
"""In the server's order."""
_PUBLIC = {5, 19, 20}
_MADE_UP: dict[int, list[tuple[str, str, int | None]]] = {
    2: [("abcd11115cbebf59392fe8fd1c3f8cce", "failed", 0), ("abcd11112972aac5a37f0d656d0607f5", "failed", 0)],
    4: [("ffff444485221c49de6f2b75015093f3", "failed", 0)],
    8: [("8" * 32, "failed", 0)],
    9: [("9" * 32, "success", None)],
}
_DRAFTS = {"dddd3333548f26e7d7fee0a18bca4413"}
_State: TypeAlias = "dict[str, object]"


class Exchange(msgspec.Struct, frozen=True):
    method: str
    target: str
    authorization: str | None
    status: int
    content_type: str | None
    body: msgspec.Raw


class _Service(msgspec.Struct):
    id: int
    image_id: int
    image: str
    environment: dict[str, str]
    labels: dict[str, str]
    composition: dict[str, object]
    contract: dict[str, object] | None = None


class _Release(msgspec.Struct):
    id: int
    services: dict[str, _Service] = {}
    volumes: dict[str, object] | None = None
    networks: dict[str, object] | None = None


class _App(msgspec.Struct):
    id: int
    name: str
    kind: str = msgspec.field(name="class")
    releases: dict[str, _Release] = {}


class _Target(msgspec.Struct):
    name: str
    apps: dict[str, _App]
    config: dict[str, str]


class _Commit(msgspec.Struct):
    commit: str


class _Row(msgspec.Struct):
    id: int
    uuid: str = ""
    should_be_running__release: list[_Commit] = []


class _Version(msgspec.Struct):
    commit: str
    status: str
    raw_version: str
    is_invalidated: bool
    revision: int | None
    created_at: str


class _Location(msgspec.Struct):
    is_stored_at__image_location: str
    content_hash: str


class _ReleaseImage(msgspec.Struct):
    id: int
    image: list[_Location]


class _SupervisorRow(msgspec.Struct):
    id: int
    release_image: list[_ReleaseImage] = []


def exchanges() -> list[Exchange]:
    return msgspec.json.decode(RECORDING.read_bytes(), type=list[Exchange])


def recorded_content() -> CloudContent:
    """The content of the recorded server, as far as its answers show it."""
    recorded = exchanges()
    targets = [
        one for exchange in recorded if exchange.status == 200 and exchange.target.startswith("/device/v3/fleet/")
        for one in msgspec.json.decode(exchange.body, type=dict[str, _Target]).values()
    ]  # fmt: skip
    devices = {
        uuid: target for exchange in recorded
        if exchange.status == 200 and exchange.target.startswith("/device/v3/") and "/fleet/" not in exchange.target
        for uuid, target in msgspec.json.decode(exchange.body, type=dict[str, _Target]).items()
    }  # fmt: skip
    running = {
        row.id: row.should_be_running__release for row in _rows(recorded, "/v7/application?$select=id&$expand=", _Row)
    }
    uuids = {row.id: row.uuid for row in _rows(recorded, "/v7/application?$select=id,uuid,slug", _Row)}
    apps: dict[int, list[tuple[str, _App, dict[str, str] | None]]] = {}
    for target in targets:
        for uuid, app in target.apps.items():
            apps.setdefault(app.id, []).append((uuid, app, target.config))
    for target in devices.values():
        for uuid, app in target.apps.items():
            apps.setdefault(app.id, []).append((uuid, app, None))
    fleets = [_fleet(number, uuids, running, apps.get(number, []), recorded) for number in _FLEETS]
    known = {fleet.id: fleet for fleet in fleets}
    return CloudContent(
        fleets=fleets,
        devices=[_device(uuid, target, known) for uuid, target in devices.items()],
        users={TOKEN: CloudUser("alice", 2, "alice@x.test")},
        revoked={STALE},
        issuer="api.loop.test",
        audience="registry2.loop.test",
    )


def _rows(recorded: list[Exchange], start: str, shape: type) -> Iterator:  # type: ignore[type-arg]
    for exchange in recorded:
        if exchange.status == 200 and exchange.target.startswith(start):
            yield from msgspec.json.decode(exchange.body, type=dict[str, list[shape]])["d"]  # type: ignore[valid-type]


def _fleet(
    number: int,
    uuids: dict[int, str],
    running: dict[int, list[_Commit]],
    states: list[tuple[str, _App, dict[str, str] | None]],
    recorded: list[Exchange],
) -> CloudFleet:
    slug = _FLEETS[number]
    releases: dict[str, CloudRelease] = {}
    for _, app, _ in states:
        for commit, release in app.releases.items():
            releases.setdefault(commit, _release(commit, release, is_system=slug.startswith("balena_os/")))
    for place, (commit, status, revision) in enumerate(_MADE_UP.get(number, [])):
        releases[commit] = CloudRelease(id=1000 * number + place, commit=commit, status=status, revision=revision)
    if number == 19:
        releases = {one.commit: one for one in _supervisors(recorded)}
    for one in running[number]:
        releases.setdefault(one.commit, CloudRelease(id=2000 + number, commit=one.commit))
    return CloudFleet(
        id=number, uuid=uuids.get(number) or (states[0][0] if states else f"{number:032x}"), slug=slug,
        name=states[0][1].name if states else "", kind=states[0][1].kind if states else "fleet",
        running=running[number][0].commit if running[number] else None, releases=sorted(releases.values(), key=_id),
        config=next((config for _, _, config in states if config is not None), {}), members=frozenset(("alice",)),
        is_public=number in _PUBLIC, is_host=number == 20,
    )  # fmt: skip


def _id(release: CloudRelease) -> int:
    return release.id


def _release(commit: str, release: _Release, *, is_system: bool) -> CloudRelease:
    services = []
    for name, one in release.services.items():
        location, _, digest = one.image.partition("@")
        services.append(
            CloudService(
                name=name, id=one.id, image_id=one.image_id, location=location, content_hash=digest,
                environment={} if is_system else one.environment, composition=one.composition, contract=one.contract,
                labels={key: value for key, value in one.labels.items() if key != "io.balena.image.store"},
            )
        )  # fmt: skip
    created = f"2026-11-29T22:{release.id:02d}:00.000Z"
    return CloudRelease(
        id=release.id, commit=commit, services=services, created_at=created, volumes=release.volumes,
        networks=release.networks, revision=None if commit in _DRAFTS else 0,
    )  # fmt: skip


def _supervisors(recorded: list[Exchange]) -> Iterator[CloudRelease]:
    """The releases of the Supervisor, with the images that were requested one by one."""
    listed = {
        row.raw_version: row for row in _rows(recorded, "/v7/release?$select=commit,status,raw_version", _Version)
    }
    for number, (version, row) in enumerate(listed.items(), 26):
        asked = f"/v7/release?$top=1&$select=id&$filter=(raw_version%20eq%20'{version.replace('+', '%2B')}')"
        images = next((one.release_image[0] for one in _rows(recorded, asked, _SupervisorRow)), None)
        services = []
        if images is not None:
            image = images.image[0]
            services = [
                CloudService(
                    name="main", id=21, image_id=28 if number == 26 else 100 + number, content_hash=image.content_hash,
                    location=image.is_stored_at__image_location, composition={"image": "x"}, release_image_id=images.id,
                )
            ]  # fmt: skip
        core = version.partition("-")[0] if row.revision is None else version.removesuffix("+rev1")
        yield CloudRelease(
            id=number, commit=row.commit, services=services, status=row.status, semver=core, revision=row.revision,
            is_invalidated=row.is_invalidated, created_at=row.created_at,
        )  # fmt: skip


def _device(uuid: str, target: _Target, fleets: dict[int, CloudFleet]) -> CloudDevice:
    """A device; its own variables are those that its fleet does not have."""
    own = next(app for app in target.apps.values() if not fleets[app.id].slug.startswith("balena_os/"))
    fleet = fleets[own.id]
    environment: dict[str, str] = {}
    service_environment: dict[int, dict[str, str]] = {}
    for app in target.apps.values():
        for commit, release in app.releases.items():
            base = {one.id: one.environment for one in _known(fleets[app.id], commit).services}
            for service in release.services.values():
                given = base[service.id]
                added = {key: value for key, value in service.environment.items() if given.get(key) != value}
                if app.id != own.id:
                    environment |= added
                else:
                    service_environment[service.id] = added
    return CloudDevice(
        uuid=uuid, name=target.name, fleet=fleet.uuid, running=next(iter(own.releases)),
        system=[
            replace(fleets[app.id], running=next(iter(app.releases))) for app in target.apps.values() if app.id != own.id
        ],
        config={key: value for key, value in target.config.items() if fleet.config.get(key) != value},
        environment=environment, service_environment=service_environment,
    )  # fmt: skip


def _known(fleet: CloudFleet, commit: str) -> CloudRelease:
    return next(one for one in fleet.releases if one.commit == commit)
