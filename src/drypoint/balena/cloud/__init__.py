"""balenaCloud and openBalena: from a fleet's name to the apps.json and the registry tokens that a preload needs."""

from .client import CloudClient
from .fleet import (
    CURRENT,
    LATEST,
    CloudDeviceType,
    CloudModel,
    Device,
    Fleet,
    find_device,
    find_fleet,
    find_release,
    release_note,
)
from .requested_states import RequestedState, StateRequest, find_states
from .settings import CloudSettings, find_settings
from .state import device_state, fleet_state, make_apps_json
from .supervisor import check_supervisor_version, find_supervisor_image
from .tokens import RegistryTokens

__all__ = [
    "CURRENT",
    "LATEST",
    "CloudClient",
    "CloudDeviceType",
    "CloudModel",
    "CloudSettings",
    "Device",
    "Fleet",
    "RequestedState",
    "RegistryTokens",
    "StateRequest",
    "check_supervisor_version",
    "device_state",
    "find_device",
    "find_fleet",
    "find_release",
    "find_settings",
    "find_supervisor_image",
    "fleet_state",
    "find_states",
    "make_apps_json",
    "release_note",
]
