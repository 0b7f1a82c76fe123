"""Where docker keeps credentials, and what is made of it."""

from __future__ import annotations

import base64
import json
import traceback
from pathlib import Path

import pytest

from drypoint.errors import AuthenticationError
from drypoint.sources.registry import Credentials, DockerConfigStore, StaticCredentials, credentials

ENCODED = base64.b64encode(b"ann:hush:password").decode()


def store(directory: Path, config: object) -> DockerConfigStore:
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    return DockerConfigStore(path)


def helper(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = directory / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": ENCODED}, Credentials("ann", "hush:password")),
        ({"auth": base64.b64encode(b"ann:pad\0\0").decode()}, Credentials("ann", "pad")),
        ({"username": "ann", "password": "pw"}, Credentials("ann", "pw")),
        ({"auth": f"{ENCODED[:8]}\n{ENCODED[8:]}\r\n"}, Credentials("ann", "hush:password")),
        ({"Auth": ENCODED, "email": None, "IdentityToken": "id"}, Credentials("ann", "hush:password", "id")),
        ({"auth": None, "username": "ann", "password": "pw"}, Credentials("ann", "pw")),
        ({"auth": base64.b64encode(b"ann:\xe9\xff").decode()}, Credentials("ann", "\udce9\udcff")),
        ({"auth": ENCODED, "identitytoken": "id"}, Credentials("ann", "hush:password", "id")),
        ({"identitytoken": "id"}, Credentials(identity_token="id")),
        ({"registrytoken": "rt"}, Credentials(registry_token="rt")),
        ({}, None),
    ],
)
def test_entries_of_auths(tmp_path: Path, entry: dict[str, str], expected: Credentials | None) -> None:
    found = store(tmp_path, {"auths": {"example.com:5000": entry}, "HttpHeaders": {"a": "b"}})
    assert found.get("example.com:5000") == expected
    assert found.get("example.com") is None


def test_files_as_docker_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    nothing = (
        "",
        " \n",
        "null",
        '{"auths": null, "credHelpers": null, "credsStore": null}',
        '{"auths": {"example.com": null}}',
    )
    for text in nothing:
        path.write_text(text)
        assert DockerConfigStore(path).get("example.com") is None
    path.write_text(
        f'{{"AUTHS": {{"example.com": {{"auth": "{ENCODED}"}}}}, "credsstore": ""}} what follows is not read'
    )
    assert DockerConfigStore(path).get("example.com") == Credentials("ann", "hush:password")


def test_docker_hub_has_its_old_key(tmp_path: Path) -> None:
    found = store(tmp_path, {"auths": {"https://index.docker.io/v1/": {"auth": ENCODED}}})
    assert found.get("docker.io") == Credentials("ann", "hush:password")
    assert store(tmp_path, {"auths": {"docker.io": {"auth": ENCODED}}}).get("docker.io") is None


@pytest.mark.parametrize("key", ["https://example.com", "http://example.com/v1/", "https://example.com/v2/"])
def test_keys_of_older_logins_are_addresses(tmp_path: Path, key: str) -> None:
    assert store(tmp_path, {"auths": {key: {"auth": ENCODED}}}).get("example.com") is not None


def test_the_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    assert DockerConfigStore().get("example.com") is None
    (tmp_path / "home/.docker").mkdir(parents=True)
    store(tmp_path / "home/.docker", {"auths": {"example.com": {"username": "home", "password": "p"}}})
    assert DockerConfigStore().get("example.com") == Credentials("home", "p")
    store(tmp_path, {"auths": {"example.com": {"username": "other", "password": "p"}}})
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert DockerConfigStore().get("example.com") == Credentials("other", "p")


def test_a_helper_is_asked_for_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(
        tmp_path,
        monkeypatch,
        f"cat > {tmp_path}/asked; echo $1 >> {tmp_path}/asked\n"
        'echo \'{"ServerURL": "x", "Username": "ann", "Secret": "pw"}\'',
    )
    found = store(tmp_path, {"credsStore": "test", "auths": {"example.com": {"auth": ENCODED}}})
    assert found.get("docker.io") == Credentials("ann", "pw")
    assert (tmp_path / "asked").read_text() == "https://index.docker.io/v1/get\n"


def test_a_helper_of_one_registry_goes_before_the_common_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, 'echo \'{"Username": "<token>", "Secret": "id"}\'')
    found = store(tmp_path, {"credsStore": "absent", "credHelpers": {"example.com": "test"}})
    assert found.get("example.com") == Credentials(identity_token="id")
    with pytest.raises(AuthenticationError, match=r"docker-credential-absent for other\.example is not installed"):
        found.get("other.example")


def test_a_helper_that_has_none_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    found = store(tmp_path, {"credsStore": "test", "auths": {"example.com": {"auth": ENCODED}}})
    assert found.get("example.com") is None


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo hush-secret; echo hush-secret >&2; exit 3", "exit status 3"),
        ('echo \'{"Username": "ann", "Secret": hush-secret}\'', "did not answer with credentials"),
        ("exec sleep 60", "gave no answer"),
    ],
)
def test_a_helper_that_fails_is_told_without_what_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    monkeypatch.setattr(credentials, "HELPER_SECONDS", 0.3)
    helper(tmp_path, monkeypatch, script)
    with pytest.raises(AuthenticationError, match=words) as caught:
        store(tmp_path, {"credsStore": "test"}).get("example.com")
    assert "hush" not in "".join(traceback.format_exception(caught.value.with_traceback(None)))


@pytest.mark.parametrize(
    "config",
    [
        '{"auths": {"example.com": {"auth": "hush-secret"}}}',
        '{"auths": {"example.com": {"auth": "aHVzaC1zZWNyZXQ="}}}',
        '{"auths": {"example.com": {"password": 5, "auth": "hush-secret"}}}',
        '{"auths": {"example.com": {"password": "hush-secret',
        '{"credsStore": "../hush"}'.replace("hush", "elsewhere/x"),
        "[" * 100_000,
        " " * (5 << 20),
    ],
)
def test_a_damaged_file_is_told_without_its_content(tmp_path: Path, config: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(config)
    with pytest.raises(AuthenticationError) as caught:
        DockerConfigStore(path).get("example.com")
    assert "hush" not in "".join(traceback.format_exception(caught.value.with_traceback(None)))


def test_given_credentials_go_before_others(tmp_path: Path) -> None:
    given = StaticCredentials(
        {"a.example": Credentials("ann", "pw")},
        store(tmp_path, {"auths": {"a.example": {"auth": ENCODED}, "b.example": {"auth": ENCODED}}}),
    )
    assert given.get("a.example") == Credentials("ann", "pw")
    assert given.get("b.example") == Credentials("ann", "hush:password")
    assert StaticCredentials({}).get("b.example") is None
