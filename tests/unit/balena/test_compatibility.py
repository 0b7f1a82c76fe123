"""Which apps.json a Supervisor reads, what version 2 is made of version 3, and how the Supervisor's version is found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from drypoint.balena.apps_json import ANY_VERSION, ONLY_2, AppsJson, read_apps_json
from drypoint.balena.apps_json_images import images_not_there
from drypoint.balena.apps_supervisor import supervisor_of
from drypoint.balena.compatibility import fit, version_for
from drypoint.balena.running_supervisor import supervisor_in_store
from drypoint.balena.supervisor_version import SupervisorVersion, parse_supervisor_version
from drypoint.errors import UsageError
from drypoint.oci import parse_reference
from drypoint.stores import StoreContents
from drypoint.volumes.target import Target

from .test_apps_json import APP, DIGEST, RELEASE, STATE

V2: dict[str, Any] = {
    "config": {"HOST_CONFIG_dtparam": "on", "SUPERVISOR_POLL_INTERVAL": "900000"},
    "pinDevice": False,
    "apps": {
        "1301645": {
            "name": "lights",
            "commit": RELEASE,
            "releaseId": 1,
            "services": {
                "12": {
                    "serviceName": "main",
                    "imageId": 13,
                    "image": f"registry.example/v2/abc@{DIGEST}",
                    "running": True,
                    "environment": {"A_B": "x"},
                    "labels": {"io.balena.features.dbus": "1"},
                    "restart": "always",
                    "privileged": True,
                },
                "14": {
                    "serviceName": "other",
                    "imageId": 15,
                    "image": f"registry.example/v2/abc@{DIGEST}",
                    "running": True,
                    "environment": {},
                    "labels": {},
                },
            },
            "volumes": {"data": {}},
            "networks": {},
        }
    },
}
"""As the API's second version of target states has it, read off open-balena-api's own expectations."""


def state_of_version_3() -> dict[str, Any]:
    state: dict[str, Any] = json.loads(json.dumps(STATE))
    state["config"] = dict(V2["config"])
    # What the service says itself goes before what the composition says.
    composition = {"restart": "always", "privileged": True, "image": "other", "labels": {"x": "y"}}
    state["apps"][APP]["releases"][RELEASE]["services"]["main"]["composition"] = composition
    return state


def read(state: object) -> AppsJson:
    return read_apps_json(json.dumps(state).encode(), "apps.json", ANY_VERSION)


def release(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state["apps"][APP]["releases"][RELEASE]
    return found


@pytest.mark.parametrize(
    ("supervisor", "version"),
    [("7.0.0", 2), ("v9.18.8", 2), ("12.11.43", 2), ("v13.0.0", 3), ("13.1.6", 3), ("13.1.7", 3), ("v19.0.1-dev+x", 3)],
)
def test_the_version_that_a_supervisor_reads(supervisor: str, version: int) -> None:
    assert version_for(parse_supervisor_version(supervisor)) == version


def test_older_supervisors_and_what_is_none_are_refused() -> None:
    with pytest.raises(UsageError, match=r"Supervisor 6\.6\.0, .* version 1"):
        version_for(SupervisorVersion(6, 6, 0))
    for text in ("", "latest", "1.2", "v1.2.x"):
        with pytest.raises(UsageError, match="not a version"):
            parse_supervisor_version(text)


def test_version_2_is_made_of_version_3() -> None:
    made = fit(read(state_of_version_3()), SupervisorVersion(12, 11, 43))
    assert json.loads(made.content) == V2
    assert made.version == 2
    assert [(service.app_uuid, service.name) for service in made.services] == [
        ("1301645", "main"),
        ("1301645", "other"),
    ]
    assert made.images == read(state_of_version_3()).images


def test_what_newer_supervisors_make_of_version_2_is_version_3_again() -> None:
    """The Supervisor's own conversion, fromV2TargetApps, told once more: it has to find what went in."""
    state = state_of_version_3()
    del (
        release(state)["services"]["main"]["composition"]["image"],
        release(state)["services"]["main"]["composition"]["labels"],
    )
    made = json.loads(fit(read(state), SupervisorVersion(7, 11, 0)).content)
    own = ("imageId", "serviceName", "image", "environment", "labels", "running", "contract")
    for app_id, app in made["apps"].items():
        services = {
            service["serviceName"]: {
                "id": int(key),
                "image_id": service["imageId"],
                "image": service["image"],
                "environment": service["environment"],
                "labels": service["labels"],
                "composition": {name: value for name, value in service.items() if name not in own},
            }
            for key, service in app["services"].items()
        }
        expected = {
            name: {**service, "id": int(service["id"]), "composition": service.get("composition", {})}
            for name, service in release(state)["services"].items()
        }
        assert services == expected
        assert (int(app_id), app["commit"], app["releaseId"]) == (
            state["apps"][APP]["id"],
            RELEASE,
            release(state)["id"],
        )
        assert (app["volumes"], app["networks"]) == (release(state)["volumes"], release(state)["networks"])


def test_what_fits_stays_as_it_is() -> None:
    three, two = read(STATE), read(V2)
    assert fit(three, SupervisorVersion(19, 0, 1)) == three
    assert fit(two, SupervisorVersion(8, 0, 0)) == two
    with pytest.raises(UsageError, match="only reads online"):
        fit(two, SupervisorVersion(13, 1, 6))


def test_what_version_2_cannot_say_is_refused() -> None:
    old = SupervisorVersion(12, 0, 0)
    state = state_of_version_3()
    state["apps"]["b" * 32] = {**state["apps"][APP], "id": 2, "name": "second"}
    with pytest.raises(UsageError, match="one app, but the target state has 2: lights, second"):
        fit(read(state), old)
    state = state_of_version_3()
    state["apps"][APP]["class"] = "block"
    with pytest.raises(UsageError, match="only run the app of a fleet"):
        fit(read(state), old)
    state = state_of_version_3()
    state["apps"][APP]["releases"]["c" * 32] = release(state)
    with pytest.raises(UsageError, match="one release"):
        fit(read(state), old)
    state = state_of_version_3()
    release(state)["services"]["other"]["id"] = 12
    with pytest.raises(UsageError, match="the id 12"):
        fit(read(state), old)
    # Names that Supervisors took only from 13 on.
    state = state_of_version_3()
    state["config"]["HOST_CONFIG_a:b"] = "on"
    with pytest.raises(UsageError, match=r"config\.HOST_CONFIG_a:b"):
        fit(read(state), old)
    state = state_of_version_3()
    release(state)["services"]["main"]["labels"] = {"under_score": "1"}
    with pytest.raises(UsageError, match=r"services\.12\.labels\.under_score"):
        fit(read(state), old)


def test_a_pin_is_refused_where_nobody_heeds_it() -> None:
    pinned = read({**state_of_version_3(), "pinDevice": True})
    assert fit(pinned, SupervisorVersion(7, 11, 0)).pin_device
    with pytest.raises(UsageError, match=r"7\.11\.0 or later"):
        fit(pinned, SupervisorVersion(7, 10, 9))


FAULTS_V2 = [
    (("config",), {"HOST_CONFIG_x": None}, "config.HOST_CONFIG_x"),
    (("apps", "1301645", "commit"), None, "apps.1301645.commit"),
    (("apps", "1301645", "releaseId"), "x", "apps.1301645.releaseId"),
    (("apps", "1301645", "services"), [], "apps.1301645.services"),
    (("apps", "1301645", "services", "main"), {}, "services.main"),
    (("apps", "1301645", "services", "12", "serviceName"), "-x", "services.12.serviceName"),
    (("apps", "1301645", "services", "12", "imageId"), -1, "services.12.imageId"),
    (("apps", "1301645", "services", "12", "image"), "", "services.12.image"),
    (("apps", "1301645", "services", "12", "environment"), {"A-B": "x"}, "environment.A-B"),
    (("apps", "1301645", "services", "12", "running"), "yes", "services.12.running"),
    (("apps", "1301645", "volumes"), {"-x": {}}, "volumes.-x"),
    (("apps", "named"), V2["apps"]["1301645"], "apps.named"),
]


@pytest.mark.parametrize(("path", "value", "said"), FAULTS_V2)
def test_each_fault_of_version_2_is_named(path: tuple[str, ...], value: object, said: str) -> None:
    state = json.loads(json.dumps(V2))
    place = state
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UsageError) as caught:
        fit(read_apps_json(json.dumps(state).encode(), "apps.json", ONLY_2), SupervisorVersion(12, 11, 43))
    assert any(said in line.split(": ")[0] for line in str(caught.value).splitlines()[1:])


ID, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@pytest.mark.parametrize(
    ("repositories", "found"),
    [
        ({"balena_supervisor": {"balena_supervisor:v16.1.10": ID}, "alpine": {"alpine:3.20": OTHER}}, (16, 1, 10)),
        ({"balena_supervisor": {"balena_supervisor:v9.1.0": ID, "balena_supervisor:v10.0.0": OTHER}}, (10, 0, 0)),
        ({"balena/aarch64-supervisor": {"balena/aarch64-supervisor:v11.4.1": ID}}, (11, 4, 1)),
        ({"registry:5000/v2/x-supervisor": {f"registry:5000/v2/x-supervisor@{DIGEST}": ID}}, None),
        ({"my/hypervisor": {"my/hypervisor:1.2.3": ID}}, None),
        ({"balena_supervisor": {"balena_supervisor:latest": ID}}, None),
        ({}, None),
    ],
)
def test_the_supervisors_version_by_its_tag(
    repositories: dict[str, dict[str, str]], found: tuple[int, int, int] | None
) -> None:
    expected = None if found is None else SupervisorVersion(*found)
    assert supervisor_in_store(repositories) == expected


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"Labels": {"org.opencontainers.image.version": "14.2.0"}}, SupervisorVersion(14, 2, 0)),
        ({"Env": ["A=b", None, "VERSION=v12.1.3"]}, SupervisorVersion(12, 1, 3)),
        ({"Env": ["VERSION=unknown"], "Labels": None}, None),
        (None, None),
    ],
)
def test_the_supervisors_version_by_its_image(config: object, found: SupervisorVersion | None) -> None:
    repositories = {"balena_supervisor": {"balena_supervisor:latest": ID}}
    configs = {ID: json.dumps({"config": config}).encode(), OTHER: b'{"config": {"Env": ["VERSION=v1.0.0"]}}'}
    assert supervisor_in_store(repositories, configs) == found
    assert supervisor_in_store(repositories, {ID: b"no JSON"}) is None


def test_images_that_would_be_missing_are_told_by_service() -> None:
    apps = read(STATE)
    wanted = f"registry.example/v2/abc@{DIGEST}"
    there = {"registry.example/v2/abc": {wanted: ID}}
    other = {"registry.example/v2/abc": {"registry.example/v2/abc:1": ID}}
    assert images_not_there(apps, there) == ()
    assert images_not_there(apps, {}, [parse_reference(wanted)]) == ()
    assert images_not_there(apps, {}, [parse_reference(f"registry.example/v2/abc:tag@{DIGEST}")]) == ()
    # Another image of the repository is what the Supervisor would take, which is not the one meant.
    assert [service.name for service in images_not_there(apps, other)] == ["main", "other"]


TAGGED = StoreContents(b"docker", names={"balena_supervisor": {"balena_supervisor:v16.1.10": "sha256:" + "1" * 64}})


@pytest.mark.parametrize(
    ("given", "known", "comes", "expected", "warned"),
    [
        (None, TAGGED, False, "16.1.10", ""),
        ("v16.1.10", TAGGED, False, "16.1.10", ""),
        (
            "12.11.43",
            TAGGED,
            False,
            "12.11.43",
            "(the engine's store), but apps.json is written for 12.11.43",
        ),
        ("12.11.43", TAGGED, True, "12.11.43", "has Supervisor 16.1.10"),
        ("12.11.43", StoreContents(b"docker"), False, "12.11.43", "no Supervisor found"),
        ("12.11.43", StoreContents(b"docker"), True, "12.11.43", ""),
        ("12.11.43", None, False, "12.11.43", ""),
    ],
)
def test_who_reads_apps_json_and_what_contradicts_that(
    given: str | None,
    known: StoreContents | None,
    comes: bool,
    expected: str,
    warned: str,
) -> None:
    said: list[str] = []
    assert str(supervisor_of(given, None, Target(), known, said.append, comes=comes).version) == expected
    assert warned in "".join(said)
    assert bool(said) == bool(warned)


def test_a_base_that_nobody_looks_into_has_to_be_told_of() -> None:
    with pytest.raises(UsageError, match="give --base-manifest FILE or --supervisor-version"):
        supervisor_of(None, None, Target(), None, pytest.fail, comes=False)
    with pytest.raises(
        UsageError, match=r"Supervisor on the disk image is not known.*Give it with --supervisor-version"
    ):
        supervisor_of(None, None, Target(), StoreContents(b"docker"), pytest.fail, comes=False)
