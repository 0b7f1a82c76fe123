"""A stand-in for balena's API on loopback, with configurable faults.

It answers drypoint's requests like open-balena-api, with the same statuses and bodies, and refuses what that refuses:
recordings of a real server (tests/data/open-balena-api*.json) are replayed against it. For unknown requests the status is
501.
Sources: open-balena-api, src/features/{auth,device-state,registry}; pinejs, src/sbvr-api.

    content = CloudContent(fleets=[fleet], users={"a-token": CloudUser("somebody")})
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
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from tests.support.cloud_content import (
    CloudContent,
    CloudDevice,
    CloudFleet,
    CloudRelease,
    CloudService,
    CloudUser,
)
from tests.support.cloud_rows import FOR_USERS, may_see, rows_of
from tests.support.cloud_states import device_state, fleet_state
from tests.support.odata import UntranslatableError
from tests.support.odata import answer as odata_answer
from tests.support.odata_url import MalformedUrlError, NotKnownError, UnreadableUrlError, parse_url
from tests.support.token_signing import TokenSigner, untrusted

__all__ = [
    "CloudContent",
    "CloudDevice",
    "CloudFaults",
    "CloudFleet",
    "CloudRelease",
    "CloudRequest",
    "CloudService",
    "CloudUser",
    "TestCloud",
    "serve_cloud",
]

_SCOPE = re.compile(r"repository:([a-z0-9_./-]+)(?:@sha256:[a-f0-9]+)?:((?:push|pull|,)+)")
_MODEL = re.compile(r"/(v[0-9]+)(/[^/?]*)(?:[/?(].*)?")


@dataclass(slots=True)
class CloudFaults:
    """The server's faults.

    Attributes:
        failures: the number of next answers with ``failure_status`` and ``failure_body``, and with
            ``Retry-After: retry_after`` if that is set.
        models: the available versions of the OData model.
        fleet_states: whether there are target states of fleets, which is not so before open-balena-api 7.13.
        token_seconds: the lifetime of registry tokens; with 0 or less they have expired when they are issued.
        token_age: the age of new registry tokens by their own claims, as from a server whose clock is slow.
        withheld: repositories that no login may pull.
        other_scope: registry tokens are for this repository and not for the one in their claims; "" for no such fault.
        redirect: the target of redirects for all requests.
        garbage: every answer is a page of HTML with status 200.
    """

    failures: int = 0
    failure_status: int = 503
    failure_body: object = "Too Many Requests"
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
    """A request: ``target`` is path and query as sent; ``path`` and ``query`` are decoded."""

    target: str
    path: str
    query: tuple[tuple[str, str], ...]
    authorization: str


class TestCloud:
    """A running stand-in: its address, its faults, the requests that it got, and the tokens that it issued."""

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
        """A registry token; signed if the stand-in has a key."""
        now = time.time() - self.faults.token_age
        seconds = self.faults.token_seconds
        return self._token(access, subject, int(now) - (3600 if seconds <= 0 else 0), int(now + seconds), int(now))

    def push_token(self, repository: str) -> str:
        """A token for pushing to the registry, like the builder's."""
        now = int(time.time())
        access = [{"type": "repository", "name": repository, "actions": ["pull", "push"]}]
        return self._token(access, "builder", now, now + 60, now)

    def _token(self, access: Sequence[Mapping[str, object]], subject: str, given: int, until: int, now: int) -> str:
        claims: dict[str, object] = {
            "jti": str(uuid.uuid4()), "nbf": now - 10, "access": list(access), "iat": given, "exp": until,
            "aud": self.content.audience, "iss": self.content.issuer, "sub": subject,
        }  # fmt: skip
        return self._signer.sign(claims) if self._signer is not None else untrusted(claims)

    def respond(self, request: CloudRequest) -> tuple[int, object, dict[str, str]]:
        """Status, body (or None) and further headers."""
        with self._lock:
            self.requests.append(request)
            if self.faults.failures > 0:
                self.faults.failures -= 1
                headers = {"Retry-After": self.faults.retry_after} if self.faults.retry_after else {}
                return self.faults.failure_status, self.faults.failure_body, headers
        if self.faults.redirect:
            return 302, None, {"Location": self.faults.redirect + request.path}
        if self.faults.garbage:
            return 200, b"<html>log in</html>", {}
        status, body = self._route(request)
        return status, body, {}

    def _route(self, request: CloudRequest) -> tuple[int, object]:
        token = request.authorization.removeprefix("Bearer ")
        if token in self.content.revoked:
            return 401, None
        user = self.content.users.get(token)
        model = _MODEL.fullmatch(request.target)
        if model is not None and model[1] in self.faults.models:
            return self._rows(request.target, user)
        match request.path.strip("/").split("/"):
            case ["actor" | "user" as kind, "v1", "whoami"]:
                return (401, None) if user is None else (200, _whoami(user, kind))
            case ["auth", "v1", "token"]:
                return (401, None) if token and user is None else self._registry_token(request, user)
            case ["device", "v3", "fleet", fleet, "state"] if self.faults.fleet_states:
                return self._fleet_state(fleet, dict(request.query).get("releaseUuid"), user)
            case ["device", "v3", device, "state"]:
                return self._device_state(device, user)
            case _:
                return 404, None

    def _rows(self, target: str, user: CloudUser | None) -> tuple[int, object]:
        try:
            asked = parse_url(target[target.index("/", 1) :])
            hidden = user is None and any(name in target for name in FOR_USERS)
            rows = None if hidden else rows_of(self.content, asked.resource, user)
            return (401, None) if rows is None else (200, {"d": odata_answer(rows, asked)})
        except MalformedUrlError:
            return 400, f"Malformed url: '{target}'"
        except (UnreadableUrlError, UntranslatableError):
            return 500, None
        except NotKnownError as error:
            return 501, f"the stand-in does not know {error}"

    def _fleet_state(self, uuid: str, commit: str | None, user: CloudUser | None) -> tuple[int, object]:
        fleet = next((one for one in self.content.fleets if one.uuid == uuid and may_see(one, user)), None)
        release = fleet.release(commit or fleet.running) if fleet is not None else None
        if user is None or fleet is None or (commit and release is None):
            return 401, None
        return 200, fleet_state(fleet, release)

    def _device_state(self, uuid: str, user: CloudUser | None) -> tuple[int, object]:
        device = next((one for one in self.content.devices if one.uuid == uuid), None)
        if device is None or device.is_frozen:
            return 304, None
        fleet = next(one for one in self.content.fleets if one.uuid == device.fleet)
        if user is None or not may_see(fleet, user):
            return 401, None
        return 200, device_state(device, fleet)

    def _registry_token(self, request: CloudRequest, user: CloudUser | None) -> tuple[int, object]:
        allowed = {
            service.location.partition("/")[2]
            for fleet in self.content.fleets
            if may_see(fleet, user)
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
        token = self.token(access, user.name if user is not None else "")
        with self._lock:
            self.tokens.append(token)
        return 200, {"token": token}


def _whoami(user: CloudUser, kind: str) -> dict[str, object]:
    actor = {"actorType": "user", "actorTypeId": user.id} if kind == "actor" else {}
    return {"id": user.id, **actor, "username": user.name, "email": user.email}


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = tuple(parse_qsl(parts.query, keep_blank_values=True))
        request = CloudRequest(self.path, parts.path, query, self.headers.get("Authorization", ""))
        status, body, headers = self.server.cloud.respond(request)
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(content)))
        if content:
            self.send_header("Content-Type", "application/json; charset=utf-8")
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
        signer: signs registry tokens; without one they are signed by a key that only stand-ins accept.
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
