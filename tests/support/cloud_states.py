"""Target states like those of balena's API. Source: open-balena-api, ``src/features/device-state``."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.cloud_content import CloudDevice, CloudFleet, CloudRelease, CloudService

_HOST_LABELS = {"io.balena.image.store": "root"}


def fleet_state(fleet: CloudFleet, release: CloudRelease | None) -> dict[str, object]:
    """The answer of ``/device/v3/fleet/UUID/state``."""
    apps = {fleet.uuid: _app(fleet, release, None)}
    return {fleet.uuid: {"name": fleet.app_name, "apps": apps, "config": dict(fleet.config)}}


def device_state(device: CloudDevice, fleet: CloudFleet) -> dict[str, object]:
    """The answer of ``/device/v3/UUID/state``."""
    apps = {one.uuid: _app(one, one.release(one.running), device) for one in device.system}
    apps[fleet.uuid] = _app(fleet, fleet.release(device.running or fleet.running), device)
    return {device.uuid: {"name": device.name, "apps": apps, "config": {**fleet.config, **device.config}}}


def _app(fleet: CloudFleet, release: CloudRelease | None, device: CloudDevice | None) -> dict[str, object]:
    state: dict[str, object] = {
        "id": fleet.id, "name": fleet.app_name, "is_host": fleet.is_host, "class": fleet.kind,
    }  # fmt: skip
    if release is not None:
        content: dict[str, object] = {"id": release.id}
        labels = _HOST_LABELS if fleet.is_host else {}
        if release.services:
            content["services"] = {one.name: _service(one, labels, device) for one in release.services}
        if release.networks is not None:
            content["networks"] = dict(release.networks)
        if release.volumes is not None:
            content["volumes"] = dict(release.volumes)
        state["releases"] = {release.commit: content}
    return state


def _service(service: CloudService, labels: Mapping[str, str], device: CloudDevice | None) -> dict[str, object]:
    environment = dict(service.environment)
    if device is not None:
        environment |= {**device.environment, **device.service_environment.get(service.id, {})}
    state: dict[str, object] = {
        "id": service.id, "image_id": service.image_id, "image": service.image, "environment": environment,
        "labels": {**labels, **service.labels},
    }  # fmt: skip
    if service.contract is not None:
        state["contract"] = dict(service.contract)
    if service.composition:
        state["composition"] = dict(service.composition)
    return state
