"""The OData model of balena's API: rows of resources, made from a stand-in's content."""

from __future__ import annotations

from tests.support.cloud_content import CloudContent, CloudDevice, CloudFleet, CloudRelease, CloudUser
from tests.support.odata import Row

FOR_USERS = ("owns__device", "is_directly_accessible_by__user")
"""Fields that need a login: every anonymous request that names one of them is refused."""


def rows_of(content: CloudContent, resource: str, user: CloudUser | None) -> list[Row] | None:
    """The rows of *resource* that *user* (None is anonymous) may see; None if there is no such resource."""
    visible = [fleet for fleet in content.fleets if may_see(fleet, user)]
    match resource:
        case "application":
            return [_application(fleet, content, user) for fleet in visible]
        case "release":
            return [_release(fleet, release) for fleet in visible for release in fleet.releases]
        case "device" if user is not None:
            fleets = {fleet.uuid: fleet for fleet in visible}
            return [_device(one, fleets[one.fleet]) for one in content.devices if one.fleet in fleets]
        case "supervisor_release" if content.supervisor_releases is not None:
            return [
                {"supervisor_version": version, "image_name": image, "is_for__device_type": [_device_type(arch, arch)]}
                for (version, arch), image in content.supervisor_releases.items()
            ]
        case _:
            return None


def may_see(fleet: CloudFleet, user: CloudUser | None) -> bool:
    return fleet.is_public or (user is not None and user.name in fleet.members)


def _device_type(slug: str, arch: str) -> Row:
    return {"slug": slug, "is_of__cpu_architecture": [{"slug": arch}]}


def _application(fleet: CloudFleet, content: CloudContent, user: CloudUser | None) -> Row:
    running = fleet.release(fleet.running)
    accessible = user is not None and (user.name in fleet.members or content.public_is_direct)
    return {
        **_application_fields(fleet),
        "should_be_running__release": [] if running is None else [_release(fleet, running)],
        "owns__device": [_device(one, fleet) for one in content.devices if user and one.fleet == fleet.uuid],
        "is_directly_accessible_by__user": [{"id": None}] if accessible else [],
    }


def _application_fields(fleet: CloudFleet) -> Row:
    return {
        "id": fleet.id, "uuid": fleet.uuid, "slug": fleet.slug, "app_name": fleet.app_name, "is_public": fleet.is_public,
        "is_host": fleet.is_host, "is_of__class": fleet.kind,
        "is_for__device_type": [_device_type(fleet.device_type, fleet.arch)],
    }  # fmt: skip


def _device(device: CloudDevice, fleet: CloudFleet) -> Row:
    return {
        "uuid": device.uuid, "device_name": device.name,
        "is_of__device_type": [_device_type(fleet.device_type, fleet.arch)],
        "belongs_to__application": [_application_fields(fleet)],
    }  # fmt: skip


def _release(fleet: CloudFleet, release: CloudRelease) -> Row:
    images = [
        {
            "id": one.release_image_id or one.image_id,
            "image": [
                {
                    "id": one.image_id,
                    "is_stored_at__image_location": one.location,
                    "content_hash": one.content_hash or None,
                }
            ],
        }
        for one in release.services
    ]
    return {
        "id": release.id, "commit": release.commit, "status": release.status, "is_final": release.revision is not None,
        "is_invalidated": release.is_invalidated, "created_at": release.created_at, "raw_version": release.raw_version,
        "semver": release.semver, "revision": release.revision, "belongs_to__application": [_application_fields(fleet)],
        "release_image": images,
    }  # fmt: skip
