"""Connection profiles for NetworkManager."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.balena.network import (
    MAX_CONNECTION_BYTES,
    NetworkConnection,
    check_distinct,
    read_connection,
    static_ip_connection,
)
from drypoint.errors import UsageError

SECRET = "super secret password"
WIFI = f"""# a comment
[connection]
id = my wifi
type=wifi
uuid=5A1C0C9E-0000-4000-8000-000000000001

[wifi]
ssid=My Network

[wifi-security]
psk={SECRET}

[connection]
type=802-11-wireless
""".encode()


def test_a_profile_is_taken_as_it_is() -> None:
    assert read_connection("my-wifi", WIFI, "f") == NetworkConnection(
        "my-wifi", WIFI, "my wifi", "5A1C0C9E-0000-4000-8000-000000000001"
    )
    assert read_connection("x.nmconnection", WIFI.replace(b"\n", b"\r\n"), "f").id == "my wifi"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "id is missing"),
        (b"[connection]\nid=x\n", "type is missing"),
        (b"[connection]\nid=\ntype=wifi\n", "id is missing"),
        (b"[wifi]\nid=x\ntype=wifi\n", "id is missing"),
        (b"id=x\n[connection]\ntype=wifi\n", r"line 1 is not a \[group\]"),
        (b"[connection]\nid=x\ntype=wifi\n[wifi-security]\npsk " + SECRET.encode(), r"line 5 is not key=value"),
        (b"[connection]\nid=x\ntype=wifi\n=" + SECRET.encode(), "line 4"),
        (b"[connection\nid=x\ntype=wifi\n", r"line 1 is not a \[group\]"),
        (b"[connection]\nid=x\0\ntype=wifi\n", "line 2"),
        (b'{"id": "' + SECRET.encode() + b'"}', "line 1"),
        (b"[connection]\nid=x\ntype=wifi\npsk=\xff", "UTF-8"),
        (bytes(MAX_CONNECTION_BYTES + 1), "more than 65536 bytes"),
    ],
)
def test_what_is_no_profile_is_refused_without_repeating_it(content: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        read_connection("wifi", content, "./wifi")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        ".hidden",
        "wifi~",
        "ca.pem",
        "ca.DER",
        "balena-sample.ignore",
        "wifi.office",
        "wifi.A1b2C3",
        "wifi?",
        "a/b/../c",
        "nul",
        "x" * 256,
    ],
)
def test_names_that_would_not_work_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        read_connection(name, WIFI, "./file")


@pytest.mark.parametrize("name", ["wifi", "wifi.conf", "wifi.nmconnection", "my wifi", "wifi.offices", "größe"])
def test_names_that_work_are_taken(name: str) -> None:
    assert read_connection(name, WIFI, "./file").name == name


def test_the_static_address_is_the_only_one() -> None:
    connection = static_ip_connection("10.0.0.1/24")
    assert connection.name == "static_ip"
    assert connection.content.decode() == (
        "[connection]\nid=static_ip\ntype=ethernet\n\n[ipv4]\nmethod=manual\naddress1=10.0.0.1/24\n\n[ipv6]\nmethod=link-local\n"
    )
    assert read_connection("static_ip", connection.content, "x") == connection
    assert b"address1=10.0.0.1/24,10.0.0.254\n" in static_ip_connection("10.0.0.1/24, 10.0.0.254").content
    assert b"address1=10.0.0.0/31,10.0.0.1\n" in static_ip_connection("10.0.0.0/31,10.0.0.1").content
    assert b"address1=192.168.7.7/32\n" in static_ip_connection("192.168.7.7/32").content
    assert b"address1=10.0.0.1/24\n" in static_ip_connection("10.0.0.1/255.255.255.0").content


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected ADDRESS/PREFIX"),
        ("10.0.0.1", "expected ADDRESS/PREFIX"),
        ("10.0.0.1/33", "expected ADDRESS/PREFIX"),
        ("10.0.0.1/24,", "expected ADDRESS/PREFIX"),
        ("10.0.0.1/24,10.0.0.2,10.0.0.3", "expected ADDRESS/PREFIX"),
        ("10.0.0.1/24\n[x]", "expected ADDRESS/PREFIX"),
        ("fd00::1/64", "for IPv6 write a profile"),
        ("10.0.0.0/24", "stands for the whole of"),
        ("10.0.0.255/24", "for all in it"),
        ("10.0.0.1/0", "prefix of 0"),
        ("127.0.0.1/8", "no interface can have"),
        ("224.0.0.1/4", "no interface can have"),
        ("0.0.0.1/8", "no interface can have"),
        ("255.255.255.255/32", "no interface can have"),
        ("10.0.0.1/24,10.0.1.1", "not another address in 10.0.0.0/24"),
        ("10.0.0.1/24,10.0.0.1", "not another address"),
        ("10.0.0.1/24,10.0.0.255", "for all in it"),
    ],
)
def test_what_no_interface_can_have_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=rf"(?s)^--static-ip .*{why}"):
        static_ip_connection(text)


def test_no_profile_takes_anothers_place() -> None:
    mine = read_connection("Static_IP", WIFI, "f")
    with pytest.raises(UsageError, match="same uuid"):
        check_distinct([mine, read_connection("other", WIFI, "f")])
    plain = read_connection("other", b"[connection]\nid=my wifi\ntype=wifi\n", "f")
    with pytest.raises(UsageError, match="file name 'static_ip'"):
        check_distinct([plain, mine, static_ip_connection("10.0.0.1/24")])
    check_distinct([plain, static_ip_connection("10.0.0.1/24")])


@given(st.text(max_size=30), st.binary(max_size=80))
def test_hostile_files_raise_only_what_is_documented(text: str, content: bytes) -> None:
    with suppress(UsageError):
        read_connection(text, content, "x")
    with suppress(UsageError):
        static_ip_connection(text)
