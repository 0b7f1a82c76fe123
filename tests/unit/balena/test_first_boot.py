"""What a person is told of a device's first boot, by the Supervisor's version and by config.json."""

from __future__ import annotations

import json
from typing import Any

import pytest

from drypoint.balena.apps_json import ANY_VERSION, AppsJson, read_apps_json
from drypoint.balena.compatibility import fit
from drypoint.balena.first_boot import Fate, fate, first_boot, pinned_release, pinning_warning
from drypoint.balena.supervisor_version import SupervisorVersion
from drypoint.digest import digest_of
from drypoint.oci import Descriptor, Image, Layer, parse_config

from .test_apps_json import APP, STATE

NEW, OLD = SupervisorVersion(16, 1, 10), SupervisorVersion(12, 11, 43)


def apps(*, pinned: bool = False, release_id: object = 12) -> AppsJson:
    state: dict[str, Any] = json.loads(json.dumps(STATE))
    state["pinDevice"] = pinned
    # Version 2 has no such names.
    del state["config"]["HOST_CONFIG:dtparam"]
    for app in state["apps"].values():
        for release in app["releases"].values():
            release["id"] = release_id
    return read_apps_json(json.dumps(state).encode(), "apps.json", ANY_VERSION)


def app_id(state: AppsJson) -> int:
    return int(next(iter(json.loads(state.content)["apps"].values()))["id"])


@pytest.mark.parametrize("release_id", [4711, "4711", 4711.0])
@pytest.mark.parametrize("supervisor", [NEW, OLD], ids=str)
def test_the_release_that_a_flasher_pins_to_is_found_in_both_versions(
    supervisor: SupervisorVersion, release_id: object
) -> None:
    assert pinned_release(fit(apps(pinned=True, release_id=release_id), supervisor)) == 4711
    assert pinned_release(fit(apps(release_id=release_id), supervisor)) is None


def test_a_block_is_not_what_a_device_is_pinned_to() -> None:
    state: dict[str, Any] = json.loads(apps(pinned=True).content)
    fleet = next(iter(state["apps"].values()))
    block = {**json.loads(json.dumps(fleet)), "class": "block", "id": 99}
    block["releases"] = {"b10c" * 8: {**next(iter(fleet["releases"].values())), "id": 1}}
    state["apps"] = {"b" * 32: block, **state["apps"]}
    assert pinned_release(read_apps_json(json.dumps(state).encode(), "apps.json")) == 12


def only_blocks(*, pinned: bool) -> AppsJson:
    state: dict[str, Any] = json.loads(apps(pinned=pinned).content)
    for app in state["apps"].values():
        app["class"] = "block"
    return read_apps_json(json.dumps(state).encode(), "apps.json")


def test_blocks_alone_are_never_pinned() -> None:
    pinned = only_blocks(pinned=True)
    assert pinned_release(pinned) is None
    assert fate(pinned, None) == Fate.FOLLOWS
    assert "is pinned" not in first_boot(pinned, NEW, installs=False)
    assert "the device will not be pinned" in (pinning_warning(pinned) or "")
    for fine in (only_blocks(pinned=False), apps(pinned=True), apps()):
        assert pinning_warning(fine) is None


@pytest.mark.parametrize("supervisor", [NEW, SupervisorVersion(12, 11, 14), SupervisorVersion(14, 0, 21)], ids=str)
def test_services_that_shall_not_run_are_not_said_to_start(supervisor: SupervisorVersion) -> None:
    state: dict[str, Any] = json.loads(apps().content)
    release = next(iter(next(iter(state["apps"].values()))["releases"].values()))
    service = release["services"]["main"]
    release["services"] = {"main": {**service, "running": False}}

    def told() -> str:
        return first_boot(
            fit(read_apps_json(json.dumps(state).encode(), "apps.json"), supervisor), supervisor, installs=False
        )

    assert "starts none of these services: it only creates their containers" in told()
    assert "(running: false)" in told()
    assert "If a service does not start" not in told()
    release["services"]["web"] = {**service, "id": 77, "running": True}
    assert "starts these services, but not those with 'running: false': it only creates their containers" in told()
    assert told().count("(running: false)") == 1
    release["services"]["main"]["running"] = True
    assert "starts these services. For that" in told()


@pytest.mark.parametrize("supervisor", [SupervisorVersion(12, 11, 15), OLD, SupervisorVersion(14, 0, 20)], ids=str)
def test_supervisors_that_start_a_service_whose_running_is_false(supervisor: SupervisorVersion) -> None:
    """balena-supervisor, src/types/state.ts: the default, true, stands for whatever JavaScript takes for false."""
    state: dict[str, Any] = json.loads(apps().content)
    release = next(iter(next(iter(state["apps"].values()))["releases"].values()))
    release["services"]["main"]["running"] = False
    fitting = fit(read_apps_json(json.dumps(state).encode(), "apps.json"), supervisor)
    report = first_boot(fitting, supervisor, installs=False)
    assert "and starts these services. For that it needs no network." in report
    assert "If a service does not start" in report


def test_what_config_json_says_decides_about_the_fleet() -> None:
    followed, stays = apps(), apps(pinned=True)
    own = json.dumps({"applicationId": app_id(followed), "apiEndpoint": "https://api.example.com"}).encode()
    other = json.dumps({"applicationId": 99, "apiEndpoint": "https://api.example.com"}).encode()
    assert fate(followed, None) == fate(followed, own) == Fate.FOLLOWS
    assert fate(stays, None) == fate(stays, own) == Fate.STAYS
    assert fate(followed, other) == fate(stays, other) == Fate.LEAVES


def test_the_two_ways_of_config_json_are_told() -> None:
    told = first_boot(apps(pinned=True), NEW, installs=False, config=b'{"deviceType": "x"}')
    assert "names no server" in told
    assert "Configured and online, it registers and is pinned" in told
    assert "names no server" in first_boot(apps(), NEW, installs=False, config=b"no json")
    configured = first_boot(apps(), NEW, installs=False, config=b'{"apiEndpoint": "https://api.example.com"}')
    assert "names no server" not in configured
    assert "As soon as it is online, it registers and follows its fleet" in configured
    assert "installs the preloaded disk image to its own storage" not in configured
    assert "installs the preloaded disk image to its own storage" in first_boot(apps(), NEW, installs=True)


@pytest.mark.parametrize(
    ("version", "said", "not_said"),
    [
        ((19, 0, 1), ["apps.json.preloaded once the Supervisor has taken it", "(version 3)"], ["resin_supervisor"]),
        ((13, 1, 11), ["apps.json.preloaded once the Supervisor has taken it"], ["taken or not"]),
        ((13, 1, 10), ["apps.json.preloaded once the Supervisor has read it, taken or not"], ["resin_supervisor"]),
        ((12, 11, 24), ["taken or not", "resin_supervisor", "(version 2)"], []),
        ((12, 11, 23), ["Preloading complete", "resin_supervisor"], ["apps.json.preloaded"]),
        ((7, 25, 3), ["Loading preloaded apps failed"], ["Preloading complete", "apps.json.preloaded"]),
    ],
)
def test_each_supervisor_does_with_the_file_what_it_does(
    version: tuple[int, int, int], said: list[str], not_said: list[str]
) -> None:
    supervisor = SupervisorVersion(*version)
    # The first character of an app's uuid is not always a digit, on which 13.0.0 to 13.1.10 fail.
    given = read_apps_json(apps().content.replace(APP.encode(), b"ab" * 16), "apps.json")
    told = first_boot(fit(given, supervisor), supervisor, installs=False)
    for text in (*said, "journalctl -n 400 -u balena.service", "balena-engine logs balena_supervisor"):
        assert text in told
    assert not any(text in told for text in not_said)


def test_services_are_told_with_size_and_image() -> None:
    state = apps()
    tagged = read_apps_json(state.content.replace(b"/abc@", b"/abc:v1@"), "apps.json")
    stored = state.images[0]
    config = parse_config(b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}', "image")
    blob = Descriptor("application/vnd.oci.image.layer.v1.tar", digest_of(b"layer"), 5)
    layer = Layer(blob, digest_of(b"layer"), digest_of(b"layer"), None)
    images = {stored: Image((stored,), config, (layer,))}
    for given in (state, tagged):
        told = first_boot(given, NEW, installs=False, images=images, sizes={layer.chain_id: 3 << 20})
        assert f"main   3.0 MiB  {stored.familiar_name}" in told
        assert f"lists {config.image_id.removeprefix('sha256:')[:12]}\n" in told
    # Of what is only planned the sizes are not known.
    assert "MiB" not in first_boot(state, NEW, installs=False, images=images)
    assert f"lists {stored.familiar_name}\n" in first_boot(state, NEW, installs=False)


def test_apps_without_services_and_with_very_many() -> None:
    empty = read_apps_json(b'{"apps": {}, "config": {"A": "b"}}', "apps.json")
    told = first_boot(empty, NEW, installs=False)
    assert "starts nothing: there is no service in it." in told
    assert "these services" not in told
    assert "If a service does not start" not in told
    state: dict[str, Any] = json.loads(apps().content)
    release = next(iter(next(iter(state["apps"].values()))["releases"].values()))
    service = release["services"]["main"]
    release["services"] = {f"s{number}": {**service, "id": number, "image": f"a/{number}:1"} for number in range(1, 41)}
    told = first_boot(read_apps_json(json.dumps(state).encode(), "apps.json"), NEW, installs=False)
    assert "and 20 more services" in told
    assert "and 36 more\n" in told
