"""A stand-in for balena's API on loopback, with faults to plant.

It answers what drypoint asks as open-balena-api does, with the same statuses and bodies: OData rows of fleets, releases and
devices that the login may see; target states of fleets and devices; who asks; and registry tokens that grant what the login
may pull, which a real docker-registry checks when they are signed. Sources: open-balena-api,
src/features/{auth,device-state,registry}.

    content = CloudContent(fleets=[fleet], users={"a-token": "somebody"})
    with serve_cloud(content) as cloud:
        settings = CloudSettings(cloud.url, "a-token")
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from .odata import Row
from .odata import answer as odata_answer
from .token_signing import TokenSigner, unsigned

ISSUER = "api.balena.test"
AUDIENCE = "registry2.balena.test"
"""``REGISTRY_TOKEN_AUDIENCE``: the server's own setting, whatever service a client names."""
_SCOPE = re.compile(r"repository:([a-z0-9_./-]+)(?:@sha256:[a-f0-9]+)?:((?:push|pull|,)+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudService:
    """A service of a release; ``location`` is its image's name in the registry, ``content_hash`` the manifest's digest."""

    name: str
    id: int
    image_id: int
    location: str
    content_hash: str
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    composition: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudRelease:
    id: int
    commit: str
    services: Sequence[CloudService] = ()
    status: str = "success"
    is_final: bool = True
    is_invalidated: bool = False
    created_at: str = "2024-01-01T00:00:00.000Z"
    raw_version: str = "0.0.0"
    volumes: Mapping[str, object] | None = None
    networks: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudFleet:
    """Attributes:
    running: the commit of the release that devices shall run.
    members: names of users that may see it.
    """

    id: int
    uuid: str
    slug: str
    device_type: str = "raspberrypi4-64"
    arch: str = "aarch64"
    releases: Sequence[CloudRelease] = ()
    running: str | None = None
    config: Mapping[str, str] = field(default_factory=lambda: {"RESIN_SUPERVISOR_POLL_INTERVAL": "900000"})
    members: frozenset[str] = frozenset()
    is_public: bool = False
    kind: str = "fleet"
    is_host: bool = False

    def release(self, commit: str | None) -> CloudRelease | None:
        return next((one for one in self.releases if one.commit == commit and one.status == "success"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudDevice:
    """A registered device; ``system`` are the fleets of its host OS and Supervisor, each with the release it runs."""

    uuid: str
    name: str
    fleet: str
    is_frozen: bool = False
    system: Sequence[CloudFleet] = ()


@dataclass(slots=True)
class CloudContent:
    """What a server knows.

    Attributes:
        users: names of users by token.
        supervisor_releases: image names by version and architecture, as balenaCloud has them; None is a server without that
            resource, as openBalena is.
    """

    fleets: list[CloudFleet] = field(default_factory=list)
    devices: list[CloudDevice] = field(default_factory=list)
    users: dict[str, str] = field(default_factory=dict)
    supervisor_releases: dict[tuple[str, str], str] | None = None


@dataclass(slots=True)
class CloudFaults:
    """What goes wrong.

    Attributes:
        failures: how many of the next answers are of ``failure_status``, with ``Retry-After: retry_after`` if that is set.
        models: which versions of the OData model there are.
        fleet_states: whether there are target states of fleets: not before open-balena-api 7.13.
        token_seconds: how long registry tokens live; with 0 or less they have lapsed when they are given.
        token_age: how long ago registry tokens say that they were given: as of a server whose clock is behind.
        withheld: repositories that nobody may pull.
        other_scope: registry tokens are for another repository than they say in their claims for the asker: "" is for none.
        redirect: where everything is redirected to.
        garbage: everything is answered by a page of HTML with status 200.
    """

    failures: int = 0
    failure_status: int = 503
    retry_after: str = ""
    models: tuple[str, ...] = ("v6", "v7")
    fleet_states: bool = True
    token_seconds: float = 4 * 3600
    token_age: float = 0.0
    withheld: frozenset[str] = frozenset()
    other_scope: str = ""
    redirect: str = ""
    garbage: bool = False


@dataclass(frozen=True, slots=True)
class CloudRequest:
    path: str
    query: tuple[tuple[str, str], ...]
    authorization: str


class TestCloud:
    """A running stand-in: its address, what goes wrong in it, what it was asked, and the tokens that it gave."""

    __test__ = False

    def __init__(self, content: CloudContent, faults: CloudFaults, signer: TokenSigner | None, port: int) -> None:
        self.content = content
        self.faults = faults
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[CloudRequest] = []
        self.tokens: list[str] = []
        self._signer = signer
        self._lock = threading.Lock()

    def count(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)

    def token(self, access: Sequence[Mapping[str, object]], subject: str = "") -> str:
        """A registry token; signed, if the stand-in has a key."""
        now = time.time() - self.faults.token_age
        claims: dict[str, object] = {
            "jti": str(uuid.uuid4()), "nbf": int(now) - 10, "iat": int(now) - (3600 if self.faults.token_seconds <= 0 else 0),
            "exp": int(now + self.faults.token_seconds), "access": list(access), "iss": ISSUER, "aud": AUDIENCE, "sub": subject,
        }  # fmt: skip
        return self._signer.sign(claims) if self._signer is not None else unsigned(claims)

    def push_token(self, repository: str) -> str:
        """A token to fill the registry with, as the builder has."""
        now = time.time()
        access = [{"type": "repository", "name": repository, "actions": ["pull", "push"]}]
        claims: dict[str, object] = {
            "jti": str(uuid.uuid4()), "nbf": int(now) - 10, "iat": int(now), "exp": int(now) + 60,
            "access": access, "iss": ISSUER, "aud": AUDIENCE, "sub": "builder",
        }  # fmt: skip
        return self._signer.sign(claims) if self._signer is not None else unsigned(claims)

    def respond(self, request: CloudRequest) -> tuple[int, object, dict[str, str]]:
        """Status, body (None is none) and further headers."""
        with self._lock:
            self.requests.append(request)
            if self.faults.failures > 0:
                self.faults.failures -= 1
                headers = {"Retry-After": self.faults.retry_after} if self.faults.retry_after else {}
                return self.faults.failure_status, "Too Many Requests", headers
        if self.faults.redirect:
            return 302, None, {"Location": self.faults.redirect + request.path}
        if self.faults.garbage:
            return 200, b"<html>log in</html>", {}
        status, body = self._route(request)
        return status, body, {}

    def _route(self, request: CloudRequest) -> tuple[int, object]:
        user = self.content.users.get(request.authorization.removeprefix("Bearer "), "")
        match request.path.strip("/").split("/"):
            case [model, resource] if model in self.faults.models:
                return self._rows(resource, dict(request.query), user)
            case ["actor", "v1", "whoami"]:
                return (
                    (200, {"id": 1, "actorType": "user", "actorTypeId": 1, "username": user}) if user else (401, None)
                )
            case ["auth", "v1", "token"]:
                return self._registry_token(request, user)
            case ["device", "v3", "fleet", fleet, "state"] if self.faults.fleet_states:
                return self._fleet_state(fleet, dict(request.query).get("releaseUuid"), user)
            case ["device", "v3", device, "state"]:
                return self._device_state(device, user)
            case _:
                return 404, None

    def _rows(self, resource: str, query: dict[str, str], user: str) -> tuple[int, object]:
        visible = [fleet for fleet in self.content.fleets if _may_see(fleet, user)]
        rows: list[Row]
        match resource:
            case "application":
                rows = [_application_row(fleet) for fleet in visible]
            case "release":
                rows = [_release_row(fleet, release) for fleet in visible for release in fleet.releases]
            case "device":
                fleets = {fleet.uuid: fleet for fleet in visible}
                rows = [
                    {
                        "uuid": device.uuid,
                        "device_name": device.name,
                        "is_of__device_type": [_type_row(fleets[device.fleet])],
                    }
                    for device in self.content.devices
                    if device.fleet in fleets and user
                ]
            case "supervisor_release" if self.content.supervisor_releases is not None:
                rows = [
                    {
                        "supervisor_version": version,
                        "image_name": image,
                        "is_for__device_type": [{"slug": arch, "is_of__cpu_architecture": [{"slug": arch}]}],
                    }
                    for (version, arch), image in self.content.supervisor_releases.items()
                ]
            case _:
                return 404, None
        try:
            return 200, {"d": odata_answer(rows, query)}
        except (ValueError, KeyError):
            return 400, "Malformed url"

    def _fleet_state(self, uuid: str, commit: str | None, user: str) -> tuple[int, object]:
        fleet = next((one for one in self.content.fleets if one.uuid == uuid and _may_see(one, user)), None)
        release = fleet.release(commit or fleet.running) if fleet is not None else None
        if not user or fleet is None or (commit and release is None):
            return 401, "" if user else None
        apps = {fleet.uuid: _app_state(fleet, release)}
        return 200, {uuid: {"name": fleet.slug.rpartition("/")[2], "apps": apps, "config": dict(fleet.config)}}

    def _device_state(self, uuid: str, user: str) -> tuple[int, object]:
        device = next((one for one in self.content.devices if one.uuid == uuid), None)
        if device is None or device.is_frozen:
            return 304, None
        fleet = next(one for one in self.content.fleets if one.uuid == device.fleet)
        if not user or not _may_see(fleet, user):
            return 401, None
        apps = {one.uuid: _app_state(one, one.release(one.running)) for one in (*device.system, fleet)}
        return 200, {uuid: {"name": device.name, "apps": apps, "config": dict(fleet.config)}}

    def _registry_token(self, request: CloudRequest, user: str) -> tuple[int, object]:
        if request.authorization and not user:
            return 401, None
        allowed = {
            service.location.partition("/")[2]
            for fleet in self.content.fleets
            if _may_see(fleet, user)
            for release in fleet.releases
            for service in release.services
        } - self.faults.withheld
        access = []
        for name, scope in request.query:
            match = _SCOPE.fullmatch(scope) if name == "scope" else None
            if match is not None:
                actions = ["pull"] if match[1] in allowed and "pull" in match[2].split(",") else []
                access.append({"type": "repository", "name": match[1], "actions": actions})
        if self.faults.other_scope:
            claimed = [{**one, "alias": one["name"], "name": self.faults.other_scope} for one in access]
            access = [{**one, "actions": ["pull"]} for one in claimed]
        token = self.token(access, user)
        with self._lock:
            self.tokens.append(token)
        return 200, {"token": token}


def _may_see(fleet: CloudFleet, user: str) -> bool:
    return fleet.is_public or user in fleet.members


def _type_row(fleet: CloudFleet) -> Row:
    return {"slug": fleet.device_type, "is_of__cpu_architecture": [{"slug": fleet.arch}]}


def _application_row(fleet: CloudFleet) -> Row:
    running = fleet.release(fleet.running)
    return {
        "id": fleet.id, "uuid": fleet.uuid, "slug": fleet.slug, "is_for__device_type": [_type_row(fleet)],
        "should_be_running__release": [] if running is None else [_release_row(fleet, running)],
    }  # fmt: skip


def _release_row(fleet: CloudFleet, release: CloudRelease) -> Row:
    images = [
        {
            "id": one.image_id,
            "image": [{"is_stored_at__image_location": one.location, "content_hash": one.content_hash}],
        }
        for one in release.services
    ]
    return {
        "id": release.id, "commit": release.commit, "status": release.status, "is_final": release.is_final,
        "is_invalidated": release.is_invalidated, "created_at": release.created_at, "raw_version": release.raw_version,
        "belongs_to__application": _Reference(fleet), "release_image": images,
    }  # fmt: skip


class _Reference(list[Row]):
    """A relation to one fleet: a list for ``any``, and equal to the fleet's id, as pinejs takes it in comparisons."""

    def __init__(self, fleet: CloudFleet) -> None:
        super().__init__([{"id": fleet.id, "slug": fleet.slug}])
        self._id = fleet.id

    def __eq__(self, other: object) -> bool:
        return other == self._id

    __hash__ = None


def _app_state(fleet: CloudFleet, release: CloudRelease | None) -> dict[str, object]:
    state: dict[str, object] = {
        "id": fleet.id, "name": fleet.slug.rpartition("/")[2], "is_host": fleet.is_host, "class": fleet.kind,
    }  # fmt: skip
    if release is not None:
        content: dict[str, object] = {"id": release.id}
        if release.services:
            content["services"] = {one.name: _service_state(one) for one in release.services}
        if release.networks is not None:
            content["networks"] = dict(release.networks)
        if release.volumes is not None:
            content["volumes"] = dict(release.volumes)
        state["releases"] = {release.commit: content}
    return state


def _service_state(service: CloudService) -> dict[str, object]:
    state: dict[str, object] = {
        "id": service.id, "image_id": service.image_id, "image": f"{service.location}@{service.content_hash}".lower(),
        "environment": dict(service.environment), "labels": dict(service.labels),
    }  # fmt: skip
    if service.composition:
        state["composition"] = dict(service.composition)
    return state


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = tuple(parse_qsl(parts.query, keep_blank_values=True))
        request = CloudRequest(parts.path, query, self.headers.get("Authorization", ""))
        status, body, headers = self.server.cloud.respond(request)
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/json")
        self.end_headers()
        if status != 304:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    cloud: TestCloud


@contextmanager
def serve_cloud(
    content: CloudContent, *, faults: CloudFaults | None = None, signer: TokenSigner | None = None
) -> Iterator[TestCloud]:
    """Serve *content* on a free port of 127.0.0.1 until the end of the block.

    Args:
        signer: signs registry tokens; without one they are not signed, and only stand-ins take them.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    server.cloud = TestCloud(content, faults if faults is not None else CloudFaults(), signer, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="test cloud")
    thread.start()
    try:
        yield server.cloud
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
