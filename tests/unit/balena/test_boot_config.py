"""config.json: settings, merging, and the warning about another fleet."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.balena.apps_json import read_apps_json
from drypoint.balena.boot_config import (
    MAX_CONFIG_BYTES,
    ConfigApplication,
    Setting,
    check_config,
    config_application,
    merge_config,
    other_fleet_warning,
    parse_setting,
    plain_http_warning,
)
from drypoint.errors import DiskImageError, DrypointError, UsageError

SECRET = "f00dfacesecret"


def merged(content: bytes | None, *settings: str) -> bytes:
    return merge_config(content, [parse_setting(text) for text in settings])


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("hostname=demo", ("hostname",), b'"demo"'),
        ("hostname=", ("hostname",), b'""'),
        ("persistentLogging=true", ("persistentLogging",), b"true"),
        ("appUpdatePollInterval=900000", ("appUpdatePollInterval",), b"900000"),
        ("os.network.connectivity.interval=300", ("os", "network", "connectivity", "interval"), b"300"),
        ('dnsServers="null"', ("dnsServers",), b'"null"'),
        ("dnsServers=null", ("dnsServers",), b"null"),
        ('os.sshKeys=["ssh-rsa AAAA="]', ("os", "sshKeys"), b'["ssh-rsa AAAA="]'),
        ("wifiKey=0123", ("wifiKey",), b'"0123"'),
        ("a=NaN", ("a",), b'"NaN"'),
        ("a=1e999", ("a",), b'"1e999"'),
        ("a=b=c", ("a",), b'"b=c"'),
        (r"files.network\.config=x", ("files", "network.config"), b'"x"'),
        ("größe=é", ("größe",), '"é"'.encode()),
        ("a=" + "[" * 5000, ("a",), b'"' + b"[" * 5000 + b'"'),
    ],
)
def test_settings_are_json_or_text(text: str, key: tuple[str, ...], value: bytes) -> None:
    assert parse_setting(text) == Setting(key, value)


@pytest.mark.parametrize(
    "text", [SECRET, f"={SECRET}", f".a={SECRET}", f"a.={SECRET}", f"a..b={SECRET}", f"{'a.' * 16}a={SECRET}"]
)
def test_what_is_no_setting_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(UsageError, match="KEY=VALUE") as caught:
        parse_setting(text)
    assert SECRET not in str(caught.value)


def test_a_setting_that_is_no_utf8_is_refused() -> None:
    for text in ("a=\udcff", "\udcff=a"):
        with pytest.raises(UsageError, match="UTF-8"):
            parse_setting(text)


def test_keys_that_are_not_named_stay_in_their_order_and_spelling() -> None:
    content = b'{"b":1.50,"a":{"z":"\\u00e9","y":[1,2]},"c":12345678901234567890}'
    assert merged(content, "a.x=1", "b=2", "d.e=f") == (
        b'{"b":2,"a":{"z":"\\u00e9","y":[1,2],"x":1},"c":12345678901234567890,"d":{"e":"f"}}'
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, b'{"x":{"y":1}}'),
        (b"{}", b'{"x":{"y":1}}'),
        (b'{"a":[1]}\n', b'{"a":[1],"x":{"y":1}}\n'),
        (b'{"a": [1]}', b'{"a": [1], "x": {"y": 1}}'),
        (b'{\n  "a": 1\n}\n', b'{\n  "a": 1,\n  "x": {\n    "y": 1\n  }\n}\n'),
        (b'{\r\n    "a": 1}', b'{\n    "a": 1,\n    "x": {\n        "y": 1\n    }\n}'),
        (b'{\n\t"a": 1}', b'{\n    "a": 1,\n    "x": {\n        "y": 1\n    }\n}'),
    ],
)
def test_the_layout_stays(before: bytes | None, after: bytes) -> None:
    assert merged(before, "x.y=1") == after


def test_without_settings_not_one_byte_changes() -> None:
    assert merge_config(b' {"a" :1}', ()) == b' {"a" :1}'


def test_a_later_setting_builds_on_an_earlier_one() -> None:
    assert merged(None, "a=1", 'a={"b":1}', "a.c=2") == b'{"a":{"b":1,"c":2}}'


def test_a_setting_into_something_that_is_no_object_is_refused() -> None:
    with pytest.raises(UsageError, match=r"os\.network\.x cannot be set in config\.json: os\.network exists") as caught:
        merged(json.dumps({"os": {"network": SECRET}}).encode(), "os.network.x=1")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[]", "something else"),
        (b'"' + SECRET.encode() + b'"', "something else"),
        (b'{"apiKey":"' + SECRET.encode() + b'",}', "malformed"),
        (b'{"apiKey":"' + SECRET.encode(), "truncated"),
        (b'{"apiKey":"' + SECRET.encode() + b'\xff"}', "UTF-8"),
        (b'{"a":' + b"[" * 100_000, "nested too deep"),
        (b"\xef\xbb\xbf{}", "malformed"),
        (b"", "truncated"),
    ],
)
def test_what_is_no_config_is_refused_without_repeating_it(content: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        check_config(content, "config.json of mine")
    assert SECRET not in str(caught.value)
    with pytest.raises(DiskImageError, match=why) as there:
        merged(content, "a=1")
    assert SECRET not in str(there.value)


def test_sizes_are_bounded() -> None:
    large = json.dumps({"a": "x" * MAX_CONFIG_BYTES}).encode()
    with pytest.raises(UsageError, match="more than 1048576 bytes"):
        check_config(large, "config.json")
    with pytest.raises(UsageError, match="would have more than"):
        merged(large[: -len(b'"}') - 20] + b'"}', "b=" + "x" * 100)
    with pytest.raises(UsageError, match="the value of a has more than"):
        parse_setting("a=" + "x" * MAX_CONFIG_BYTES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(
    before=st.dictionaries(st.text(), JSON, max_size=4),
    key=st.text(st.characters(exclude_characters=".\\=", exclude_categories=["Cs"]), min_size=1),
    value=JSON,
    indent=st.sampled_from([None, 1, 2, 4]),
)
def test_merging_is_what_a_dictionary_does(
    before: dict[str, object], key: str, value: object, indent: int | None
) -> None:
    content = json.dumps(before, indent=indent).encode()
    after = merged(content, f"{key}={json.dumps(value)}")
    assert json.loads(after) == {**before, key: value}
    assert list(json.loads(after)) == list({**before, key: value})


@given(st.binary(max_size=60), st.text(max_size=40))
def test_hostile_files_and_settings_raise_only_what_is_documented(content: bytes, text: str) -> None:
    try:
        setting = parse_setting(text)
        json.loads(merge_config(content, [setting]))
    except DrypointError:
        pass
    config_application(content)


APP = "0123456789abcdef0123456789abcdef"


def apps_json(*, pin: bool = False, kind: str = "fleet") -> bytes:
    release = {
        "id": 1,
        "services": {
            "main": {
                "id": 1, "image_id": 1, "image": "registry2.balena-cloud.com/v2/abc@sha256:" + "0" * 64,
                "environment": {}, "labels": {}, "composition": {},
            }
        },
        "volumes": {}, "networks": {},
    }  # fmt: skip
    known = {"id": 7, "name": "mine", "is_host": False, "class": kind, "releases": {"f" * 32: release}}
    return json.dumps({"apps": {APP: known}, "config": {}, "pinDevice": pin}).encode()


def warning(config: dict[str, object], content: bytes | None = None) -> str | None:
    return other_fleet_warning(json.dumps(config).encode(), read_apps_json(content or apps_json(), "apps.json"))


CLOUD = {"apiEndpoint": "https://api.balena-cloud.com", "apiKey": SECRET}


def test_another_fleet_is_told_with_what_will_happen() -> None:
    text = warning({**CLOUD, "applicationId": 8, "applicationName": "other"})
    assert text is not None
    assert "join the fleet 'other' (8), but the fleet 'mine' (7) is preloaded" in text
    assert "removes them and their images and downloads" in text
    assert "pinned" not in text
    assert SECRET not in text
    pinned = warning({**CLOUD, "applicationId": "8"}, apps_json(pin=True))
    assert pinned is not None
    assert "join the fleet 8" in pinned
    assert "not be pinned" in pinned


@pytest.mark.parametrize(
    "config",
    [
        {**CLOUD, "applicationId": 7},
        {**CLOUD, "applicationId": "7"},
        CLOUD,
        {**CLOUD, "applicationId": True},
        {"applicationId": 8},
        {"applicationId": 8, "apiEndpoint": ""},
        {"applicationId": 8, "apiEndpoint": None},
    ],
)
def test_no_warning_where_nothing_will_happen(config: dict[str, object]) -> None:
    assert warning(config) is None


def test_blocks_and_missing_configs_are_no_reason_to_warn() -> None:
    assert warning({**CLOUD, "applicationId": 8}, apps_json(kind="app")) is None
    assert other_fleet_warning(None, read_apps_json(apps_json(), "apps.json")) is None
    assert other_fleet_warning(b"[]", read_apps_json(apps_json(), "apps.json")) is None


def test_the_application_of_a_config() -> None:
    assert config_application(b'{"applicationId": 12, "applicationName": "x"}') == ConfigApplication(12, "x")
    assert config_application(b'{"applicationId": "12", "applicationName": 3}') == ConfigApplication(12, "")
    assert config_application(b'{"applicationId": 1.5}') is None
    assert config_application(b"nonsense") is None
    assert config_application(b'{"applicationId": "\xd7"}') is None


@pytest.mark.parametrize(
    ("config", "warns"),
    [
        (b'{"apiEndpoint": "http://api.lan"}', True),
        (b'{"apiEndpoint": " HTTP://api.lan", "applicationId": 1}', True),
        (b'{"apiEndpoint": "https://api.lan"}', False),
        (b'{"apiEndpoint": "httpbin.lan"}', False),
        (b'{"apiEndpoint": 5}', False),
        (b'{"registryEndpoint": "http://x"}', False),
        (b"[]", False),
        (b"no json", False),
        (None, False),
    ],
)
def test_a_server_named_by_plain_http_is_warned_of(config: bytes | None, warns: bool) -> None:
    warning = plain_http_warning(config)
    assert (warning is not None) == warns
    # No value of the file is shown.
    assert "api.lan" not in (warning or "")
