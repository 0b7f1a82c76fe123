"""A server with two fleets, for the tests of the cloud client."""

from __future__ import annotations

from dataclasses import replace

from tests.support.cloud import (
    CloudContent,
    CloudDevice,
    CloudFleet,
    CloudRelease,
    CloudService,
    CloudUser,
    TestCloud,
)

from drypoint.balena.cloud import CloudClient, CloudSettings
from drypoint.sources.registry import RegistryOptions, RetryPolicy

DIGEST = "sha256:" + "ab" * 32
REGISTRY = "registry2.balena.test"
TOKEN = "a-session-token"
RUNNING = "deadc0de" * 4
NEWER = "deadbeef" * 4
QUICK = RegistryOptions(retry=RetryPolicy(attempts=2, first_wait=0.01, longest_wait=2.0), environment={})


def service(name: str, number: int) -> CloudService:
    return CloudService(
        name=name, id=number, image_id=1000 + number, location=f"{REGISTRY}/v2/{name}{number}", content_hash=DIGEST,
        environment={"WHO": name}, labels={"io.balena.features.dbus": "1"}, composition={"restart": "always"},
    )  # fmt: skip


LIGHTS = CloudFleet(
    id=1301645,
    uuid="52e35121417640b1b28a680504e4039b",
    slug="myorg/lights",
    running=RUNNING,
    members=frozenset(("somebody",)),
    releases=[
        CloudRelease(id=10, commit=RUNNING, services=[service("main", 1), service("web", 2)], volumes={"data": {}}),
        CloudRelease(id=11, commit=NEWER, services=[service("main", 3)], created_at="2024-02-01T00:00:00.000Z"),
        CloudRelease(id=12, commit="f00d" * 8, status="failed", created_at="2024-03-01T00:00:00.000Z"),
        CloudRelease(id=13, commit="d4af" * 8, revision=None, created_at="2024-03-02T00:00:00.000Z"),
        CloudRelease(id=14, commit="1bad" * 8, is_invalidated=True, created_at="2024-03-03T00:00:00.000Z"),
    ],
)
EMPTY = CloudFleet(id=2, uuid="e" * 32, slug="myorg/empty", members=frozenset(("somebody",)))
FOREIGN = CloudFleet(
    id=3, uuid="f" * 32, slug="other/secret", running="5ec5e7" * 5, members=frozenset(("other",)),
    releases=[CloudRelease(id=30, commit="5ec5e7" * 5, services=[service("secret", 9)])],
)  # fmt: skip
SUPERVISOR = CloudFleet(
    id=5, uuid="5" * 32, slug="balena_os/aarch64-supervisor", is_public=True, kind="app", running="50f7" * 8,
    releases=[CloudRelease(id=50, commit="50f7" * 8, semver="16.1.10", services=[service("supervisor", 50)])],
)  # fmt: skip
HOST = replace(SUPERVISOR, id=6, uuid="6" * 32, slug="balena_os/raspberrypi4-64", is_host=True)
DEVICE = CloudDevice(uuid="dec1ce" * 5 + "00", name="kitchen", fleet=LIGHTS.uuid, system=(HOST, SUPERVISOR))


def content() -> CloudContent:
    return CloudContent(
        fleets=[LIGHTS, EMPTY, FOREIGN, SUPERVISOR],
        devices=[DEVICE],
        users={TOKEN: CloudUser("somebody"), "other-token": CloudUser("other", 2)},
    )


def client_of(cloud: TestCloud, token: str = TOKEN, options: RegistryOptions = QUICK) -> CloudClient:
    return CloudClient(CloudSettings(cloud.url, token, "--token" if token else ""), options)
