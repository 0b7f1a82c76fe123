"""The content of a stand-in for balena's API: users, fleets with their releases, and devices.

Versions of releases are made as in open-balena-api (``src/features/ci-cd/models/release-additions.ts``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CloudUser:
    name: str
    id: int = 1
    email: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudService:
    """A service of a release.

    Attributes:
        location: its image's name in the registry.
        content_hash: the manifest's digest, or "".
        release_image_id: the key of the row that joins image and release; that of the image if it is 0.
    """

    name: str
    id: int
    image_id: int
    location: str
    content_hash: str
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    composition: Mapping[str, object] = field(default_factory=dict)
    contract: Mapping[str, object] | None = None
    release_image_id: int = 0

    @property
    def image(self) -> str:
        return f"{self.location}@{self.content_hash}".lower() if self.content_hash else self.location.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudRelease:
    """Attributes:
    semver: as it was given; ``revision`` counts finals of the same one from 0, None is a draft.
    """

    id: int
    commit: str
    services: Sequence[CloudService] = ()
    status: str = "success"
    semver: str = "0.0.0"
    revision: int | None = 0
    is_invalidated: bool = False
    created_at: str = "2024-01-01T00:00:00.000Z"
    volumes: Mapping[str, object] | None = None
    networks: Mapping[str, object] | None = None

    @property
    def raw_version(self) -> str:
        core, _, build = self.semver.partition("+")
        if self.revision is None:
            created = datetime.fromisoformat(self.created_at).timestamp()
            core += f"{'.' if '-' in core else '-'}{round(created * 1000)}"
        elif self.revision > 0 and f"rev{self.revision}" not in build.split("."):
            build += f"{'.' if build else ''}rev{self.revision}"
        return f"{core}+{build}" if build else core


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudFleet:
    """Attributes:
    name: ``app_name``; the last part of the slug if it is empty.
    running: the commit of the release that devices should run.
    members: names of users that may see it.
    """

    id: int
    uuid: str
    slug: str
    name: str = ""
    device_type: str = "raspberrypi4-64"
    arch: str = "aarch64"
    releases: Sequence[CloudRelease] = ()
    running: str | None = None
    config: Mapping[str, str] = field(default_factory=lambda: {"RESIN_SUPERVISOR_POLL_INTERVAL": "900000"})
    members: frozenset[str] = frozenset()
    is_public: bool = False
    kind: str = "fleet"
    is_host: bool = False

    @property
    def app_name(self) -> str:
        return self.name or self.slug.rpartition("/")[2]

    def release(self, commit: str | None) -> CloudRelease | None:
        return next((one for one in self.releases if one.commit == commit and one.status == "success"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudDevice:
    """A registered device.

    Attributes:
        fleet: the uuid of the fleet that it belongs to.
        running: the commit that it is pinned to; None for that of its fleet.
        system: the fleets of its Supervisor and its host OS, each with the release that it runs.
        environment: variables for all services; ``service_environment``: those for one, by the service's id.
    """

    uuid: str
    name: str
    fleet: str
    running: str | None = None
    is_frozen: bool = False
    system: Sequence[CloudFleet] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    service_environment: Mapping[int, Mapping[str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class CloudContent:
    """The content of a server.

    Attributes:
        users: by token. With another token, a request is anonymous, except where a login is needed.
        revoked: tokens that are refused everywhere: sessions whose user logged out everywhere.
        supervisor_releases: image names by version and architecture, as on balenaCloud; None is a server without that
            resource, like openBalena.
        public_is_direct: whether a login has direct access to all that it sees, as on openBalena; on balenaCloud it has none
            to public fleets of others.
        issuer, audience: of registry tokens; the latter is the server's own setting (``REGISTRY_TOKEN_AUDIENCE``), whatever
            service a client names.
    """

    fleets: list[CloudFleet] = field(default_factory=list)
    devices: list[CloudDevice] = field(default_factory=list)
    users: dict[str, CloudUser] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    supervisor_releases: dict[tuple[str, str], str] | None = None
    public_is_direct: bool = True
    issuer: str = "api.balena.test"
    audience: str = "registry2.balena.test"
