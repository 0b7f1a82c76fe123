"""apps.json: what the Supervisor takes is taken, and each fault is named by its path."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from drypoint.balena.apps_json import MAX_BYTES, read_apps_json
from drypoint.errors import UsageError

DIGEST = "sha256:" + "ab" * 32
APP = "52e35121417640b1b28a680504e4039b"
RELEASE = "deadbeef" * 4

STATE: dict[str, Any] = {
    "config": {"HOST_CONFIG:dtparam": "on", "SUPERVISOR_POLL_INTERVAL": "900000"},
    "pinDevice": False,
    "apps": {
        APP: {
            "id": 1301645,
            "name": "lights",
            "is_host": False,
            "class": "fleet",
            "releases": {
                RELEASE: {
                    "id": 1,
                    "services": {
                        "main": {
                            "id": "12",
                            "image_id": 13,
                            "image": f"registry.example/v2/abc@{DIGEST}",
                            "environment": {"A_B": "x"},
                            "labels": {"io.balena.features.dbus": "1"},
                            "composition": {"restart": "always"},
                        },
                        "other": {
                            "id": 14,
                            "image_id": 15,
                            "image": f"registry.example/v2/abc@{DIGEST}",
                            "environment": {},
                            "labels": {},
                        },
                    },
                    "volumes": {"data": {}},
                    "networks": {},
                }
            },
        }
    },
}


def encoded(state: object) -> bytes:
    return json.dumps(state).encode()


def service(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state["apps"][APP]["releases"][RELEASE]["services"]["main"]
    return found


def test_services_and_their_images() -> None:
    content = encoded(STATE)
    apps = read_apps_json(content, "apps.json")
    assert apps.content == content
    assert [(service.name, service.app_name, service.release_uuid) for service in apps.services] == [
        ("main", "lights", RELEASE),
        ("other", "lights", RELEASE),
    ]
    assert [image.familiar for image in apps.images] == [f"registry.example/v2/abc@{DIGEST}"]
    assert not apps.pin_device


FAULTS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("pinDevice", lambda state: state.update(pinDevice="yes")),
    ("config.9bad", lambda state: state["config"].update({"9bad": "x"})),
    ("config.NUMBER", lambda state: state["config"].update(NUMBER=3)),
    (f"apps.{APP}.id", lambda state: state["apps"][APP].update(id=-1)),
    (f"apps.{APP}.id", lambda state: state["apps"][APP].update(id=True)),
    (f"apps.{APP}.name", lambda state: state["apps"][APP].pop("name")),
    (f"apps.{APP}.class", lambda state: state["apps"][APP].update({"class": "fleets"})),
    (f"apps.{APP}.is_host", lambda state: state["apps"][APP].update(is_host="no")),
    (f"apps.{APP}.releases", lambda state: state["apps"][APP].update(releases={})),
    (f"{RELEASE}.id", lambda state: state["apps"][APP]["releases"][RELEASE].pop("id")),
    (f"{RELEASE}.volumes.-data", lambda state: state["apps"][APP]["releases"][RELEASE].update(volumes={"-data": {}})),
    (f"{RELEASE}.networks.n", lambda state: state["apps"][APP]["releases"][RELEASE].update(networks={"n": None})),
    ("main.id", lambda state: service(state).update(id="x")),
    ("main.image_id", lambda state: service(state).pop("image_id")),
    ("main.image", lambda state: service(state).update(image="a" * 256)),
    ("main.image", lambda state: service(state).update(image="Upper/Case")),
    ("main.environment", lambda state: service(state).pop("environment")),
    ("main.environment.A-B", lambda state: service(state)["environment"].update({"A-B": "x"})),
    ("main.environment.N", lambda state: service(state)["environment"].update(N=1)),
    ("main.labels", lambda state: service(state).pop("labels")),
    ("main.labels.with space", lambda state: service(state)["labels"].update({"with space": "x"})),
    ("main.labels", lambda state: service(state)["labels"].update({"x" * 256: "x"})),
    ("main.composition", lambda state: service(state).update(composition=[])),
    ("main.running", lambda state: service(state).update(running="no")),
    ("main.image", lambda state: service(state).update(image="")),
    ("main.composition", lambda state: service(state).update(composition=None)),
    ("main.contract", lambda state: service(state).update(contract="x")),
    ("main.image_id", lambda state: service(state).update(image_id=10**21)),
    ("config", lambda state: state.update(config=[])),
    ("apps", lambda state: state.update(apps=False)),
    (f"apps.{APP}.class", lambda state: state["apps"][APP].update({"class": ""})),
    (f"apps.{APP}.parent_app", lambda state: state["apps"][APP].update(parent_app=None)),
    (f"{RELEASE}.services", lambda state: state["apps"][APP]["releases"][RELEASE].update(services=[])),
]


@pytest.mark.parametrize(("path", "spoil"), FAULTS)
def test_each_fault_is_named_by_its_path(path: str, spoil: Callable[[dict[str, Any]], object]) -> None:
    state = copy.deepcopy(STATE)
    spoil(state)
    with pytest.raises(UsageError) as caught:
        read_apps_json(encoded(state), "apps.json")
    faults = str(caught.value).splitlines()[1:]
    assert len(faults) == 1
    assert path in faults[0].strip().split(": ")[0]


def test_what_the_supervisor_fills_in_may_be_missing() -> None:
    state = copy.deepcopy(STATE)
    del state["config"], state["pinDevice"], state["apps"][APP]["class"]
    del state["apps"][APP]["releases"][RELEASE]["volumes"]
    assert len(read_apps_json(encoded(state), "apps.json").services) == 2


def test_odd_things_that_the_supervisor_takes_are_taken() -> None:
    state = copy.deepcopy(STATE)
    app, release = state["apps"][APP], state["apps"][APP]["releases"][RELEASE]
    state["config"] = app["class"] = service(state)["running"] = release["networks"] = None
    app["name"] = app["parent_app"] = ""
    release["volumes"] = {"data": []}
    service(state)["contract"] = {}
    assert len(read_apps_json(encoded(state), "apps.json").services) == 2


def test_very_many_and_very_long_faults_are_bounded() -> None:
    state = copy.deepcopy(STATE)
    service(state)["environment"] = {f"bad-{number}" + "x" * 1000: 1 for number in range(1000)}
    with pytest.raises(UsageError, match="and 1980 more") as caught:
        read_apps_json(encoded(state), "apps.json")
    assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'"\xff"', "not JSON"),
        (b"[]", "version 1"),
        (b"{}", "not an apps.json"),
        (b'{"cafe": {"apps": {}}}', "what is under its only key may be one"),
        (b" " * (MAX_BYTES + 1), "more than"),
    ],
)
def test_other_files_are_refused(content: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_apps_json(content, "apps.json")


def test_an_older_version_is_told_as_such() -> None:
    state = {"apps": {"1301645": {"id": 1, "name": "lights", "services": {"1": {}}}}, "config": {}}
    with pytest.raises(UsageError, match="version 2"):
        read_apps_json(encoded(state), "apps.json")
