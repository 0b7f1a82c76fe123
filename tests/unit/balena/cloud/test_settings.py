"""Where the token and the server's address come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.balena.cloud import find_settings
from drypoint.balena.cloud.settings import read_plain_yaml
from drypoint.errors import AuthenticationError, UsageError


def home_with(directory: Path, *, token: str | None = None, yaml: str | None = None) -> Path:
    if token is not None:
        (directory / ".balena").mkdir()
        (directory / ".balena/token").write_text(token)
    if yaml is not None:
        (directory / ".balenarc.yml").write_text(yaml)
    return directory


def test_without_anything_it_is_balena_cloud_and_nobody(tmp_path: Path) -> None:
    settings = find_settings({}, tmp_path)
    assert settings.api_url == "https://api.balena-cloud.com"
    assert (settings.host, settings.token) == ("api.balena-cloud.com", "")
    assert settings.registry == "registry2.balena-cloud.com"


def test_the_token_comes_from_the_argument_then_the_environment_then_the_file(tmp_path: Path) -> None:
    home = home_with(tmp_path, token=" from-file\n")
    elsewhere = tmp_path / "data"
    elsewhere.mkdir()
    (elsewhere / "token").write_text("from-elsewhere")
    environment = {"BALENA_API_TOKEN": "from-environment", "BALENARC_DATA_DIRECTORY": str(elsewhere)}
    assert find_settings(environment, home, token="from-argument").token == "from-argument"
    assert find_settings(environment, home).token == "from-environment"
    del environment["BALENA_API_TOKEN"]
    assert find_settings(environment, home).token == "from-elsewhere"
    settings = find_settings({}, home)
    assert (settings.token, settings.token_origin) == ("from-file", str(home / ".balena/token"))
    assert "from-file" not in repr(settings)


@pytest.mark.parametrize(
    ("given_url", "environment", "yaml", "expected"),
    [
        ("https://api.one.example/", {"BALENARC_BALENA_URL": "two.example"}, None, "https://api.one.example"),
        ("api.one.example:8443", {}, None, "https://api.one.example:8443"),
        ("http://127.0.0.1:99", {}, None, "http://127.0.0.1:99"),
        (None, {"BALENARC_BALENA_URL": "two.example"}, "balenaUrl: three.example", "https://api.two.example"),
        (
            None,
            {"BALENARC_API_URL": "https://four.example", "BALENARC_BALENA_URL": "x.y"},
            None,
            "https://four.example",
        ),
        (
            None,
            {},
            "---\n# mine\nprojectsDirectory: /x y\nbalenaUrl: 'three.example' # here\n",
            "https://api.three.example",
        ),
        (None, {}, 'apiUrl: "https://api.five.example"\nbalenaUrl: three.example\n', "https://api.five.example"),
    ],
)
def test_the_server(
    tmp_path: Path, given_url: str | None, environment: dict[str, str], yaml: str | None, expected: str
) -> None:
    assert find_settings(environment, home_with(tmp_path, yaml=yaml), api_url=given_url).api_url == expected


def test_the_data_directory_may_be_named_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("there")
    assert find_settings({}, home_with(tmp_path, yaml=f"dataDirectory: {tmp_path}\n")).token == "there"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://api.example.com", "plain http"),
        ("https://api.example.com/v7", "without a path"),
        ("https://user:secret@api.example.com", "not a server's address"),
        ("ftp://api.example.com", "not a server's address"),
        ("https://", "not a server's address"),
        ("https://[", "not a server's address"),
    ],
)
def test_addresses_that_are_refused(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        find_settings({}, tmp_path, api_url=url)
    assert "secret" not in str(caught.value)


def test_plain_http_may_be_allowed(tmp_path: Path) -> None:
    settings = find_settings({}, tmp_path, api_url="http://api.lan.example", insecure_hosts=("api.lan.example",))
    assert settings.api_url == "http://api.lan.example"


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "", "umläut", "x" * 70_000])
def test_tokens_that_cannot_be_any(tmp_path: Path, token: str) -> None:
    with pytest.raises(AuthenticationError, match=r"does not hold a token|more than the") as caught:
        find_settings({}, home_with(tmp_path, token=token))
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    "yaml",
    [
        "balenaUrl:\n  nested: x",
        "- list",
        "a: [1]",
        "a: &b c",
        "a: |",
        'a: "es\\cape"',
        "a: 'open",
        "key value",
        "? x",
        "a: b: c",
    ],
)
def test_more_than_lines_of_keys_and_values_is_told(tmp_path: Path, yaml: str) -> None:
    with pytest.raises(UsageError, match=r"line [12]: expected 'key: value'.*--api-url"):
        find_settings({}, home_with(tmp_path, yaml=yaml))
    # What is given otherwise needs no file.
    assert find_settings({}, tmp_path, token="t", api_url="api.example.com").token == "t"


@given(st.binary(max_size=200))
def test_any_file_is_read_or_refused(content: bytes) -> None:
    try:
        values = read_plain_yaml(content, "file")
    except UsageError:
        return
    assert all(isinstance(value, str) for value in values.values())
