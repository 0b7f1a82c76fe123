"""Fleets, releases, devices and target states, as a server with open-balena-api's answers gives them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from tests.support.cloud import CloudFaults, CloudFleet, CloudRelease, serve_cloud
from tests.support.cloud_fixtures import (
    DEVICE,
    DIGEST,
    EMPTY,
    LIGHTS,
    NEWER,
    REGISTRY,
    RUNNING,
    SUPERVISOR,
    TOKEN,
    client_of,
    content,
    service,
)

from drypoint.balena.cloud import (
    CloudModel,
    device_state,
    find_device,
    find_fleet,
    find_release,
    find_supervisor_image,
    fleet_state,
    make_apps_json,
)
from drypoint.balena.supervisor_image import supervisor_tags, version_in_tag
from drypoint.balena.supervisor_version import parse_supervisor_version
from drypoint.errors import AuthenticationError, DrypointError, SourceError, TransferError, UsageError


@pytest.mark.parametrize("name", ["myorg/lights", "MyOrg/Lights", LIGHTS.uuid, str(LIGHTS.id), " myorg/lights "])
@pytest.mark.parametrize("models", [("v6", "v7"), ("v6",)])
def test_a_fleet_by_slug_uuid_and_id(name: str, models: tuple[str, ...]) -> None:
    with serve_cloud(content(), faults=CloudFaults(models=models)) as cloud, client_of(cloud) as client:
        fleet = find_fleet(CloudModel(client), name)
    assert (fleet.id, fleet.uuid, fleet.slug, fleet.running) == (LIGHTS.id, LIGHTS.uuid, LIGHTS.slug, RUNNING)
    assert (fleet.device_type.slug, fleet.device_type.arch) == ("raspberrypi4-64", "aarch64")


@pytest.mark.parametrize(
    ("wanted", "commit"),
    [("current", RUNNING), ("latest", NEWER), (RUNNING, RUNNING), ("deadc0", RUNNING), ("DEADBEEF", NEWER)],
)
def test_a_release_by_word_commit_and_prefix(wanted: str, commit: str) -> None:
    with serve_cloud(content()) as cloud, client_of(cloud) as client:
        model = CloudModel(client)
        assert find_release(model, find_fleet(model, LIGHTS.slug), wanted) == commit


def test_the_current_release_of_a_fleet_that_runs_none_is_the_latest() -> None:
    given = content()
    given.fleets[0] = replace(LIGHTS, running=None)
    with serve_cloud(given) as cloud, client_of(cloud) as client:
        model = CloudModel(client)
        assert find_release(model, find_fleet(model, LIGHTS.slug)) == NEWER


@pytest.mark.parametrize(
    ("fleet", "wanted", "kind", "said"),
    [
        ("myorg/lights", "dead", UsageError, "several releases of myorg/lights begin with dead: deadbeef"),
        ("myorg/lights", "f00d", SourceError, "its status is 'failed'"),
        ("myorg/lights", "abcd", SourceError, "no release whose commit begins with abcd"),
        ("myorg/lights", "v1.2", UsageError, "expected 'current', 'latest', or a commit"),
        ("myorg/empty", "current", SourceError, "no successful release that is final.*balena push myorg/empty"),
        ("myorg/none", "current", SourceError, "no fleet 'myorg/none' that this login can see"),
        ("lightss", "current", SourceError, "as ORGANISATION/FLEET"),
        ("other/secret", "current", SourceError, "no fleet 'other/secret'"),
        ("it's", "current", SourceError, "no fleet"),
        ("a\x00b", "current", UsageError, "is not a valid name"),
    ],
)
def test_what_there_is_not(fleet: str, wanted: str, kind: type[DrypointError], said: str) -> None:
    with serve_cloud(content()) as cloud, client_of(cloud) as client:
        model = CloudModel(client)
        with pytest.raises(kind, match=said):
            find_release(model, find_fleet(model, fleet), wanted)


@pytest.mark.parametrize(
    ("token", "said"),
    [("", r"not logged in.*balena login.*BALENA_API_TOKEN"), ("stale-token", "does not accept the token from")],
)
def test_who_is_not_logged_in_hears_that(token: str, said: str) -> None:
    with serve_cloud(content()) as cloud, client_of(cloud, token) as client:
        with pytest.raises(AuthenticationError, match=said) as caught:
            find_fleet(CloudModel(client), "myorg/lights")
    assert not token or token not in str(caught.value)


def test_an_apps_json_is_what_the_supervisor_wants() -> None:
    with serve_cloud(content()) as cloud, client_of(cloud) as client:
        fleet = find_fleet(CloudModel(client), LIGHTS.slug)
        apps = make_apps_json(fleet_state(client, fleet, RUNNING), "the fleet's", pin_device=True)
        assert cloud.requests[-1].query == (("releaseUuid", RUNNING),)
    main, web = (
        {
            "composition": {"restart": "always"},
            "environment": {"WHO": name},
            "id": number,
            "image": f"{REGISTRY}/v2/{name}{number}@{DIGEST}",
            "image_id": 1000 + number,
            "labels": {"io.balena.features.dbus": "1"},
        }
        for name, number in (("main", 1), ("web", 2))
    )
    release = {"id": 10, "services": {"main": main, "web": web}, "volumes": {"data": {}}}
    app = {"id": LIGHTS.id, "name": "lights", "is_host": False, "class": "fleet", "releases": {RUNNING: release}}
    assert json.loads(apps.content) == {
        "apps": {LIGHTS.uuid: app},
        "config": {"RESIN_SUPERVISOR_POLL_INTERVAL": "900000"},
        "pinDevice": True,
    }
    assert apps.pin_device
    assert [service.name for service in apps.services] == ["main", "web"]


def test_the_order_of_an_answer_does_not_matter() -> None:
    given = content()
    with serve_cloud(given) as cloud, client_of(cloud) as client:
        fleet = find_fleet(CloudModel(client), LIGHTS.slug)
        first = make_apps_json(fleet_state(client, fleet, RUNNING), "it")
        release = replace(LIGHTS.releases[0], services=tuple(reversed(LIGHTS.releases[0].services)))
        given.fleets[0] = replace(LIGHTS, releases=[release])
        assert make_apps_json(fleet_state(client, fleet, RUNNING), "it").content == first.content


def test_a_server_without_target_states_of_fleets_is_too_old() -> None:
    with serve_cloud(content(), faults=CloudFaults(fleet_states=False)) as cloud, client_of(cloud) as client:
        fleet = find_fleet(CloudModel(client), LIGHTS.slug)
        with pytest.raises(SourceError, match=r"open-balena-api 7\.13\.1 or later"):
            fleet_state(client, fleet, RUNNING)


def test_a_state_that_the_login_may_not_read() -> None:
    given = content()
    with serve_cloud(given) as cloud, client_of(cloud) as client:
        fleet = find_fleet(CloudModel(client), LIGHTS.slug)
        given.fleets[0] = replace(LIGHTS, members=frozenset())
        with pytest.raises(AuthenticationError, match="the login has no permission"):
            fleet_state(client, fleet, RUNNING)
        given.users.clear()
        with pytest.raises(AuthenticationError, match="does not accept the token"):
            fleet_state(client, fleet, RUNNING)


def test_a_devices_state_has_the_users_app_only() -> None:
    with serve_cloud(content()) as cloud, client_of(cloud) as client:
        device = find_device(CloudModel(client), DEVICE.uuid[:8])
        assert (device.uuid, device.name, device.device_type.arch) == (DEVICE.uuid, "kitchen", "aarch64")
        apps = make_apps_json(device_state(client, device), "the device's")
    assert {service.app_uuid for service in apps.services} == {LIGHTS.uuid}


@pytest.mark.parametrize(
    ("uuid", "kind", "said"),
    [
        ("0" * 32, SourceError, "has no device"),
        ("kitchen", UsageError, "not a device's uuid"),
        ("dec1ce", UsageError, "7 to 64"),
    ],
)
def test_devices_that_there_are_not(uuid: str, kind: type[DrypointError], said: str) -> None:
    with serve_cloud(content()) as cloud, client_of(cloud) as client:
        with pytest.raises(kind, match=said):
            find_device(CloudModel(client), uuid)


def test_a_frozen_device_and_two_that_begin_alike() -> None:
    given = content()
    given.devices.append(replace(DEVICE, uuid=DEVICE.uuid[:-1] + "1", is_frozen=True))
    with serve_cloud(given) as cloud, client_of(cloud) as client:
        model = CloudModel(client)
        with pytest.raises(UsageError, match="2 devices begin"):
            find_device(model, DEVICE.uuid[:8])
        with pytest.raises(SourceError, match="frozen, or was deleted"):
            device_state(client, find_device(model, given.devices[1].uuid))


def test_a_server_that_is_busy_is_asked_again() -> None:
    with serve_cloud(content(), faults=CloudFaults(failures=1)) as cloud, client_of(cloud) as client:
        assert find_fleet(CloudModel(client), LIGHTS.slug).id == LIGHTS.id
    with serve_cloud(content(), faults=CloudFaults(failures=9)) as cloud, client_of(cloud) as client:
        with pytest.raises(TransferError, match="status 503: Too Many Requests; failed 2 times"):
            find_fleet(CloudModel(client), LIGHTS.slug)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            400,
            "Malformed url: '/v7/application?x'",
            r"status 400: Malformed url: '/v7/application\?x'; a retry would not help",
        ),
        (400, f"no {TOKEN}\x1b[2J", r"status 400: no …\\x1b\[2J; a retry would not help"),
        (422, b"plain words", "status 422: plain words; a retry would not help"),
        (422, b"<html>an error page</html>", "status 422; a retry would not help"),
        (400, "x" * 5000, "status 400: x{300}…; a retry would not help"),
        (400, b"y" * (1 << 20), "status 400; a retry would not help"),
        (400, None, "status 400; a retry would not help"),
        (403, "Forbidden by rule 7", r"\(status 403: Forbidden by rule 7\); use a token with more rights"),
        (500, None, r"status 500; failed 2 times\. The server failed, not the network"),
        (502, "bad gateway", r"status 502: bad gateway; failed 2 times\. The server failed, not the network"),
    ],
)
def test_what_a_refusal_says_is_passed_on(status: int, body: object, said: str) -> None:
    faults = CloudFaults(failures=2, failure_status=status, failure_body=body)
    with serve_cloud(content(), faults=faults) as cloud, client_of(cloud) as client:
        with pytest.raises(SourceError, match=said) as caught:
            find_fleet(CloudModel(client), LIGHTS.slug)
    assert TOKEN not in str(caught.value)


def test_a_resource_that_is_not_there_is_no_matter_of_the_login() -> None:
    with serve_cloud(content()) as cloud, client_of(cloud) as client:
        with pytest.raises(
            SourceError,
            match=r"/v7/nosuch: the server has no such resource, or none for this login.* is not a user's login",
        ) as caught:
            CloudModel(client).rows("nosuch", dict, [])
    assert not isinstance(caught.value, AuthenticationError)


def test_who_asks_too_often_waits_or_hears_how_long() -> None:
    short = CloudFaults(failures=1, failure_status=429, retry_after="0")
    with serve_cloud(content(), faults=short) as cloud, client_of(cloud) as client:
        assert find_fleet(CloudModel(client), LIGHTS.slug).id == LIGHTS.id
    long = CloudFaults(failures=1, failure_status=429, retry_after="900")
    with serve_cloud(content(), faults=long) as cloud, client_of(cloud) as client:
        with pytest.raises(TransferError, match=r"too many requests .* try again in 900 seconds"):
            find_fleet(CloudModel(client), LIGHTS.slug)


def test_the_token_goes_to_no_other_server() -> None:
    with serve_cloud(content()) as thief, serve_cloud(content(), faults=CloudFaults(redirect=thief.url)) as cloud:
        with client_of(cloud) as client:
            with pytest.raises(TransferError, match="to which the token is not sent"):
                find_fleet(CloudModel(client), LIGHTS.slug)
        assert [request.authorization for request in cloud.requests] == [f"Bearer {TOKEN}"]
        assert [request.authorization for request in thief.requests] == [""]


def test_a_login_page_is_no_answer() -> None:
    with serve_cloud(content(), faults=CloudFaults(garbage=True)) as cloud, client_of(cloud) as client:
        with pytest.raises(SourceError, match="does not answer as balena's API"):
            find_fleet(CloudModel(client), LIGHTS.slug)


def supervisor(number: int, semver: str, **given: object) -> CloudRelease:
    return CloudRelease(
        id=number, commit=f"{number:032x}", semver=semver, services=[service("supervisor", number)], **given  # type: ignore[arg-type]
    )  # fmt: skip


SUPERVISORS = replace(
    SUPERVISOR,
    releases=[
        supervisor(50, "16.1.10"),
        supervisor(51, "17.0.0"),
        supervisor(52, "17.0.0", revision=1),
        supervisor(53, "17.0.0", revision=2, is_invalidated=True),
        supervisor(54, "17.1.0+esr.1"),
        supervisor(55, "17.2.0", is_invalidated=True),
        supervisor(56, "18.0.0", status="failed"),
        supervisor(57, "18.1.0", revision=None, created_at="2024-05-01T00:00:00.000Z"),
        supervisor(58, "18.1.0", revision=None, created_at="2024-06-01T00:00:00.000Z"),
        supervisor(59, "18.2.0", created_at="2024-06-01T00:00:00.000Z"),
        supervisor(60, "18.2.0", revision=None, created_at="2024-07-01T00:00:00.000Z"),
    ],
)


@pytest.mark.parametrize(
    ("version", "number", "tag"),
    [
        ("v16.1.10", 50, "v16.1.10"),
        ("17.0.0", 52, "v17.0.0"),
        ("v17.0.0+rev1", 52, "v17.0.0_rev1"),
        ("v17.0.0_rev1", 52, "v17.0.0_rev1"),
        ("17.1.0+esr.1", 54, "v17.1.0_esr.1"),
        ("18.1.0", 58, "v18.1.0"),
        ("18.1.0-1714521600000", 57, "v18.1.0-1714521600000"),
        ("18.2.0", 59, "v18.2.0"),
    ],
)
def test_a_supervisor_is_found_as_the_server_finds_it(version: str, number: int, tag: str) -> None:
    given = content()
    given.fleets.append(SUPERVISORS)
    given.fleets.remove(SUPERVISOR)
    with serve_cloud(given) as cloud, client_of(cloud, "") as client:
        found = find_supervisor_image(client, version, "aarch64")
    assert str(found) == f"{REGISTRY}/v2/supervisor{number}:{tag}@{DIGEST}"
    # And through to the store, and to the file that it reads.
    assert [str(one) for one in supervisor_tags(found, version)][1] == f"balena_supervisor:{tag}"
    assert version_in_tag(found) == tag
    assert str(parse_supervisor_version(tag)) == re.split(r"[-+_]", version.removeprefix("v"))[0]


@pytest.mark.parametrize("version", ["17.0.0+rev2", "17.2.0", "18.0.0", "99.0.0", "17.1.0"])
def test_a_supervisor_that_failed_or_was_invalidated_is_none(version: str) -> None:
    given = content()
    given.fleets[3] = SUPERVISORS
    with serve_cloud(given) as cloud, client_of(cloud, "") as client:
        with pytest.raises(SourceError, match="or only one that failed or was invalidated"):
            find_supervisor_image(client, version, "aarch64")


def test_an_app_of_another_kind_gives_no_supervisor() -> None:
    """Only a public app of balena_os called …-supervisor does, for a device type of that architecture."""
    for wrong in ({"slug": "evil_os/aarch64-supervisor"}, {"slug": "balena_os/aarch64"}, {"is_host": True}, {"arch": "rpi"},
                  {"is_public": False, "members": LIGHTS.members}):  # fmt: skip
        given = content()
        given.fleets[3] = replace(SUPERVISORS, **wrong)
        with serve_cloud(given) as cloud, client_of(cloud) as client:
            with pytest.raises(SourceError, match=r"has no Supervisor v16\.1\.10 for aarch64"):
                find_supervisor_image(client, "16.1.10", "aarch64")


def test_an_older_server_has_a_resource_of_supervisors() -> None:
    given = content()
    given.supervisor_releases = {
        ("v15.0.0", "aarch64"): f"{REGISTRY}/v2/other@{DIGEST}",
        ("v10.6.33", "rpi"): "balena/rpi-supervisor",
    }
    with serve_cloud(given) as cloud, client_of(cloud, "") as client:
        assert str(find_supervisor_image(client, "15.0.0", "aarch64")) == f"{REGISTRY}/v2/other:v15.0.0@{DIGEST}"
        assert str(find_supervisor_image(client, "v10.6.33", "rpi")) == "balena/rpi-supervisor:v10.6.33"
        with pytest.raises(SourceError, match=r"has no Supervisor v16\.1\.10 for rpi"):
            find_supervisor_image(client, "v16.1.10", "rpi")
    for version, arch in (("latest", "rpi"), ("v1.2", "rpi"), ("v1.2.3", "AArch 64"), ("v1.2.3' or 1 eq 1", "rpi")):
        with pytest.raises(UsageError):
            find_supervisor_image(client, version, arch)


def named(number: int, slug: str, name: str = "", *members: str, is_public: bool = False) -> CloudFleet:
    return CloudFleet(
        id=number, uuid=f"{number:032x}", slug=slug, name=name, members=frozenset(members), is_public=is_public
    )  # fmt: skip


NAMED = [
    named(100, "myorg/lamps", "Lamps", "somebody"), named(101, "team/lamps", "Lamps", "somebody"),
    named(102, "team/solo", "Solo", "somebody"), named(103, "other/solo", "Solo", "other"),
    named(104, "a/mixed", "Mixed", "somebody"), named(105, "b/mixed", "mixed", "somebody"),
    named(106, "myorg/12345", "12345", "somebody"), named(107, "myorg/99999999999", "99999999999", "somebody"),
    named(108, "shop/tools", "Tools", is_public=True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Solo", "team/solo"), ("solo", "team/solo"), (" SOLO ", "team/solo"), ("Mixed", "a/mixed"), ("mixed", "b/mixed"),
        ("12345", "myorg/12345"), ("106", "myorg/12345"), ("99999999999", "myorg/99999999999"), ("lights", "myorg/lights"),
    ],
)  # fmt: skip
def test_a_fleet_by_its_name_alone(name: str, slug: str) -> None:
    given = content()
    given.fleets += NAMED
    given.public_is_direct = False
    with serve_cloud(given) as cloud, client_of(cloud) as client:
        assert find_fleet(CloudModel(client), name).slug == slug


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("Lamps", UsageError, "2 fleets are called 'Lamps'; give one with its organisation: myorg/lamps, team/lamps$"),
        ("MIXED", UsageError, "2 fleets are called 'MIXED'.*: a/mixed, b/mixed$"),
        ("Tools", UsageError, "no fleet of its own called 'Tools'.*: shop/tools$"),
        ("secret", SourceError, "has no fleet 'secret'"),
        ("2147483648", SourceError, "has no fleet '2147483648'.*a fleet's id is at most 2147483647"),
        ("9" * 400, UsageError, "is not a valid name"),
        ("2147483647", SourceError, "has no fleet '2147483647' that this login can see\\. "),
    ],
)
def test_a_name_that_means_no_single_fleet(name: str, kind: type[DrypointError], said: str) -> None:
    given = content()
    given.fleets += NAMED
    given.public_is_direct = False
    with serve_cloud(given) as cloud, client_of(cloud) as client:
        with pytest.raises(kind, match=said):
            find_fleet(CloudModel(client), name)
        assert not any("id eq 2147483648" in value for request in cloud.requests for _, value in request.query)
    with serve_cloud(given) as cloud, client_of(cloud, "") as client:
        if kind is SourceError:
            with pytest.raises(AuthenticationError, match="not logged in"):
                find_fleet(CloudModel(client), name)


@pytest.mark.parametrize("kind", ["fleet", "app", "block"])
@pytest.mark.parametrize("system", ["fleet", "app", "block"])
def test_the_app_of_a_device_is_its_fleets_whatever_the_classes(kind: str, system: str) -> None:
    given = content()
    given.fleets[0] = replace(LIGHTS, kind=kind)
    given.devices = [replace(DEVICE, system=[replace(one, kind=system) for one in DEVICE.system])]
    with serve_cloud(given) as cloud, client_of(cloud) as client:
        device = find_device(CloudModel(client), DEVICE.uuid)
        assert device.fleet.slug == LIGHTS.slug
        assert set(device_state(client, device)["apps"] or ()) == {LIGHTS.uuid}  # type: ignore[arg-type]


def test_a_device_in_a_fleet_without_a_release() -> None:
    given = content()
    given.devices = [replace(DEVICE, fleet=EMPTY.uuid)]
    with serve_cloud(given) as cloud, client_of(cloud) as client:
        with pytest.raises(
            SourceError, match=r"fleet myorg/empty, which has no release to run.*balena push myorg/empty"
        ):
            device_state(client, find_device(CloudModel(client), DEVICE.uuid))


def test_fleets_are_as_the_stand_in_says_only_for_those_who_may_see_them() -> None:
    """The judge itself: nobody sees what is not public."""
    with serve_cloud(content()) as cloud, client_of(cloud, "") as client:
        assert find_fleet(CloudModel(client), SUPERVISOR.slug).id == SUPERVISOR.id
        with pytest.raises(AuthenticationError):
            find_fleet(CloudModel(client), EMPTY.slug)
