"""Target states from a server and from files, and tokens for the registries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.cloud import CloudFleet, TestCloud, serve_cloud
from tests.support.cloud_fixtures import (
    DEVICE,
    LIGHTS,
    NEWER,
    QUICK,
    REGISTRY,
    RUNNING,
    TOKEN,
    content,
    service,
)

from drypoint.balena.apps_json import AppsJson, read_apps_json
from drypoint.balena.architecture import NeededArchitecture
from drypoint.balena.cloud import StateRequest
from drypoint.balena.cloud_states import CloudServer, CloudStates, cloud_states
from drypoint.errors import AuthenticationError, DrypointError, UsageError
from drypoint.http.zones import Zone

from .test_apps_json import STATE

BLOCK = CloudFleet(
    id=8, uuid="8b" * 16, slug="myorg/block", kind="block", running="b10c" * 8, members=LIGHTS.members, arch="amd64",
    releases=[replace(LIGHTS.releases[1], id=80, commit="b10c" * 8, services=[service("block", 80)])],
)  # fmt: skip


def states(cloud: TestCloud, files: Sequence[tuple[str, AppsJson]] = (), **given: object) -> CloudStates:
    server = CloudServer(given.pop("token", TOKEN), cloud.url)  # type: ignore[arg-type]
    with cloud_states(StateRequest(**given), server, QUICK, files) as found:  # type: ignore[arg-type]
        return found


def apps_of(found: CloudStates) -> dict[str, Any]:
    assert found.apps is not None
    state: dict[str, Any] = json.loads(found.apps.content)
    return state


def test_from_a_fleet_to_apps_json_and_tokens() -> None:
    with serve_cloud(content()) as cloud:
        with cloud_states(StateRequest(("myorg/lights",)), CloudServer(TOKEN, cloud.url), QUICK) as found:
            assert found.apps is not None
            token = found.token_provider(REGISTRY, ("repository:v2/main1:pull",), None, "https://auth.example/token")
            assert token == cloud.tokens[0]
            assert cloud.count("/auth/v1/token") == 1
    assert found.needs == (NeededArchitecture("myorg/lights", "raspberrypi4-64", "aarch64"),)
    assert found.notes == (f"myorg/lights at release {RUNNING}: 2 services",)
    assert not found.apps.pin_device
    # Its content serves without a server.
    assert read_apps_json(found.apps.content, "saved") == found.apps


def test_a_fleet_with_a_block_and_a_file_beside_it() -> None:
    given = content()
    given.fleets.append(BLOCK)
    app = {**next(iter(STATE["apps"].values())), "class": "app"}
    file = read_apps_json(json.dumps({"apps": {"a" * 32: app}, "config": {"X": "y"}}).encode(), "file")
    with serve_cloud(given) as cloud:
        found = states(cloud, [("file", file)], fleets=("myorg/lights", "myorg/block"), pin_device=True)
        state = apps_of(found)
        assert set(state["apps"]) == {LIGHTS.uuid, BLOCK.uuid, "a" * 32}
        assert state["config"] == {**LIGHTS.config, "X": "y"}
        assert state["pinDevice"] is True
        assert [need.arch for need in found.needs] == ["aarch64", "amd64"]
        other = read_apps_json(json.dumps({"apps": {"a" * 32: {**app, "class": "fleet"}}}).encode(), "file")
        with pytest.raises(UsageError, match="of class fleet: lights"):
            states(cloud, [("file", other)], fleets=("myorg/lights",))


def test_a_device() -> None:
    with serve_cloud(content()) as cloud:
        found = states(cloud, device=DEVICE.uuid)
    assert set(apps_of(found)["apps"]) == {LIGHTS.uuid}
    assert found.needs[0].arch == "aarch64"


def test_a_release_of_ones_choice() -> None:
    with serve_cloud(content()) as cloud:
        found = states(cloud, fleets=("myorg/lights",), commit="deadbeef")
    assert found.apps is not None
    assert {one.release_uuid for one in found.apps.services} == {NEWER}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fleets": ("a/b",), "device": "d"}, "give --device or --fleet"),
        ({"commit": "current"}, "give --fleet with it"),
        ({"device": "d", "commit": "current"}, "give --fleet with it"),
        ({"fleets": ("a/b", "c/d"), "commit": "abcd"}, "belongs to one fleet"),
        ({"fleets": ("a/b",), "api_url": "ftp://x"}, "--api-url"),
    ],
)
def test_options_that_contradict_each_other(given: dict[str, object], said: str) -> None:
    server = CloudServer(api_url=given.pop("api_url", None))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=said):
        with cloud_states(StateRequest(**given), server, QUICK):  # type: ignore[arg-type]
            pass


def test_without_a_fleet_nobody_is_asked_and_files_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".balenarc.yml").write_text("- what nobody can read")
    file = read_apps_json(json.dumps(STATE, indent=3).encode(), "file")
    with cloud_states(StateRequest(), CloudServer(), QUICK, [("file", file)]) as found:
        assert found.apps == file
    with cloud_states(StateRequest(), CloudServer(), QUICK) as found:
        assert found.apps is None
        assert found.token_provider("docker.io", ("repository:a:pull",), None, "https://auth.example/token") is None
        # Here the login matters, and so does what is wrong with it.
        with pytest.raises(UsageError, match="balenarc"):
            found.token_provider("registry2.example", ("repository:a:pull",), None, "https://auth.example/token")


def test_an_apps_json_from_a_file_is_pulled_with_the_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with cloud_states(StateRequest(), CloudServer("t", "https://api.example.invalid"), QUICK) as found:
        assert (
            found.token_provider(
                "registry2.other.example", ("repository:v2/x:pull",), None, "https://auth.example/token"
            )
            is None
        )
        with pytest.raises(DrypointError, match=r"api\.example\.invalid"):
            found.token_provider(
                "registry2.example.invalid", ("repository:v2/x:pull",), None, "https://auth.example/token"
            )


def test_a_registry_of_the_callers_that_names_the_server_gets_the_login_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    scope, named = ("repository:v2/main1:pull",), ("any.name:5000",)
    with serve_cloud(content()) as cloud, serve_cloud(content()) as other:
        realm, elsewhere = f"{cloud.url}/auth/v1/token", f"{other.url}/auth/v1/token"
        server = CloudServer(TOKEN, cloud.url)
        with cloud_states(StateRequest(), server, QUICK, callers=named) as found:
            assert found.token_provider("any.name:5000", scope, None, elsewhere) is None
            assert found.token_provider("any.name:5000", scope, None, "nonsense") is None
            assert cloud.requests == []
            token = found.token_provider("any.name:5000", scope, None, realm)
            assert token == cloud.tokens[0]
            assert cloud.requests[-1].query == (("service", "any.name:5000"), ("scope", *scope))
        with cloud_states(StateRequest(("myorg/lights",)), server, QUICK, callers=named) as found:
            assert found.token_provider("any.name:5000", scope, None, realm) == cloud.tokens[1]
            assert found.token_provider("any.name:5000", scope, None, elsewhere) is None
        with cloud_states(StateRequest(), CloudServer(None, cloud.url), QUICK, callers=named) as found:
            # Nobody is logged in: what is public is had by the common dialogue.
            assert found.token_provider("any.name:5000", scope, None, realm) is None
        assert other.requests == []


@pytest.mark.parametrize("fleets", [(), ("myorg/lights",)])
@pytest.mark.parametrize("evil", ["evil.example", "registry2.evil.example"])
def test_no_token_goes_to_a_registry_that_a_file_alone_names(
    evil: str, fleets: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = file_naming(evil)
    with serve_cloud(content()) as cloud:
        realm, scope = f"{cloud.url}/auth/v1/token", ("repository:v2/main1:pull",)
        server = CloudServer(TOKEN, cloud.url)
        with cloud_states(StateRequest(fleets), server, QUICK, [("file", file)]) as found:
            assert found.token_provider(evil, scope, None, realm) is None
            assert cloud.tokens == []
            if fleets:
                assert found.token_provider(REGISTRY, scope, None, realm) == cloud.tokens[0]


def file_naming(registry: str) -> AppsJson:
    """An apps.json whose image is in *registry*."""
    app = {**next(iter(STATE["apps"].values())), "class": "app"}
    text = json.dumps({"apps": {"a" * 32: app}, "config": {}})
    names = dict.fromkeys(str(image) for image in read_apps_json(text.encode(), "file").images)
    for name in names:
        text = text.replace(name, f"{registry}/v2/main1@sha256:{'a' * 64}")
    return read_apps_json(text.encode(), "file")


def test_who_names_a_registry_decides_where_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = file_naming("other.example")
    with serve_cloud(content()) as cloud:
        asked = StateRequest(("myorg/lights",))
        with cloud_states(asked, CloudServer(TOKEN, cloud.url), QUICK, [("file", file)]) as found:
            assert found.named_from == {REGISTRY: Zone.LOOPBACK, "other.example": Zone.PUBLIC}
        with cloud_states(asked, CloudServer(TOKEN, cloud.url), QUICK, callers=[REGISTRY]) as found:
            assert found.named_from == {}
    own = file_naming("registry2.corp.example")
    with cloud_states(StateRequest(), CloudServer(TOKEN, "https://api.corp.example"), QUICK, [("own", own)]) as found:
        assert found.named_from == {}


def test_nobody_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with serve_cloud(content()) as cloud:
        with pytest.raises(AuthenticationError, match="balena login"):
            states(cloud, token=None, fleets=("myorg/lights",))


@pytest.mark.parametrize(
    ("commit", "running", "note"),
    [
        ("d4af", RUNNING, f"the release {'d4af' * 8} of myorg/lights is a draft; '--commit latest' takes"),
        ("1bad" * 8, RUNNING, f"the release {'1bad' * 8} of myorg/lights was invalidated; '--commit latest' takes"),
        (None, "1bad" * 8, f"the release {'1bad' * 8} of myorg/lights was invalidated; '--commit latest' takes"),
        (None, RUNNING, None),
        ("latest", "1bad" * 8, None),
        (NEWER, RUNNING, None),
    ],
)
def test_a_note_says_that_a_release_is_a_draft_or_was_invalidated(
    commit: str | None, running: str, note: str | None
) -> None:
    given = content()
    given.fleets = [replace(LIGHTS, running=running)]
    with serve_cloud(given) as cloud:
        found = states(cloud, fleets=("myorg/lights",), commit=commit)
    assert [one.startswith(note or "") for one in found.notes[1:]] == ([] if note is None else [True])


def test_a_note_says_that_a_device_runs_a_release_that_was_invalidated() -> None:
    given = content()
    release = replace(LIGHTS.releases[-1], services=[service("main", 4)])
    given.fleets = [replace(LIGHTS, running=release.commit, releases=[release])]
    given.devices = [replace(DEVICE, system=())]
    with serve_cloud(given) as cloud:
        found = states(cloud, device=DEVICE.uuid)
    assert found.notes[1].startswith(f"the release {'1bad' * 8} of myorg/lights was invalidated")


def test_a_fleet_by_several_names_counts_once() -> None:
    with serve_cloud(content()) as cloud:
        found = states(cloud, fleets=("myorg/lights", LIGHTS.uuid, "lights", str(LIGHTS.id)))
        assert len(found.notes) == len(found.needs) == 1
        # Which is why a commit may be given, too.
        assert states(cloud, fleets=("myorg/lights", LIGHTS.uuid), commit="latest").needs == found.needs
