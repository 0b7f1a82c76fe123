"""Which hosts others may name: by the address that is connected to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.support.raw_server import RawRequest, RawServer, answer, raw_server

from drypoint.errors import DrypointError, TransferError
from drypoint.http.retry import TransientError
from drypoint.http.transport import Transport
from drypoint.http.zones import Zone, written_address, zone_of
from drypoint.oci import Platform, parse_reference
from drypoint.sources.registry import Credentials, RegistryOptions, RegistrySource, RetryPolicy, StaticCredentials

QUICK = RegistryOptions(
    credentials=StaticCredentials({}),
    certs_directory=Path("/nonexistent"),
    environment={},
    connect_timeout=0.3,
    read_timeout=5.0,
    retry=RetryPolicy(attempts=1),
)
METADATA = "169.254.169.254"


@pytest.mark.parametrize(
    ("address", "zone"),
    [
        ("8.8.8.8", Zone.PUBLIC),
        ("2606:4700::1111", Zone.PUBLIC),
        ("10.1.2.3", Zone.PRIVATE),
        ("172.16.0.1", Zone.PRIVATE),
        ("192.168.1.1", Zone.PRIVATE),
        ("100.64.0.1", Zone.PRIVATE),
        ("224.0.0.1", Zone.PRIVATE),
        ("255.255.255.255", Zone.PRIVATE),
        ("fd00::1", Zone.PRIVATE),
        ("fec0::1", Zone.PRIVATE),
        ("ff02::1", Zone.PRIVATE),
        ("::7f00:1", Zone.PRIVATE),
        ("64:ff9b:1::7f00:1", Zone.PRIVATE),
        ("127.0.0.1", Zone.LOOPBACK),
        ("127.9.9.9", Zone.LOOPBACK),
        ("0.0.0.0", Zone.LOOPBACK),
        ("::", Zone.LOOPBACK),
        ("[::1]", Zone.LOOPBACK),
        (METADATA, Zone.LINK_LOCAL),
        ("fe80::1%eth0", Zone.LINK_LOCAL),
        # Addresses of IPv6 that stand for one of IPv4.
        ("::ffff:127.0.0.1", Zone.LOOPBACK),
        ("::ffff:a9fe:a9fe", Zone.LINK_LOCAL),
        ("64:ff9b::10.0.0.1", Zone.PRIVATE),
        ("2002:7f00:1::", Zone.LOOPBACK),
        ("64:ff9b::8.8.8.8", Zone.PUBLIC),
    ],
)
def test_where_addresses_lie(address: str, zone: Zone) -> None:
    assert zone_of(address) is zone


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
def test_every_spelling_of_an_address_is_one(host: str) -> None:
    assert written_address(host) == "127.0.0.1"
    assert written_address("localhost") is written_address("1.example") is None


@dataclass
class Names:
    """What names resolve to, in turn; addresses stand for themselves."""

    answers: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    found, resolve, connect = Names(), socket.getaddrinfo, socket.socket.connect

    def getaddrinfo(host: str, *rest: object) -> object:
        if written_address(host) is None:
            found.asked.append(host)
            turns = found.answers[host]
            host = turns.pop(0) if len(turns) > 1 else turns[0]
        return resolve(host, *rest)  # type: ignore[arg-type]

    class Socket(socket.socket):
        def connect(self, address: tuple[str, int]) -> None:  # type: ignore[override]
            found.connected.append(address[0])
            connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "socket", Socket)
    return found


@contextmanager
def public_server(target: str) -> Iterator[tuple[RawServer, RegistryOptions]]:
    """A server of http://public.test that redirects to *target*. It is reached through a proxy, so it may be anywhere."""
    with raw_server(lambda request: answer(302, b"", f"Location: {target}")) as server:
        yield server, replace(QUICK, environment={"http_proxy": f"http://{server.host}"})


def get(url: str, options: RegistryOptions, named_from: Zone | None = None) -> bytes:
    transport = Transport("public.test", options)
    try:
        with closing(transport.fetch("GET", url, {}, named_from=named_from)) as got:
            return got.read_all(1 << 20)
    finally:
        transport.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", METADATA, "10.0.0.1", "[::1]", "[::ffff:169.254.169.254]", "0.0.0.0"]
)
def test_a_public_server_leads_to_no_address_that_is_not(host: str) -> None:
    with public_server(f"http://{host}:9/secret") as (server, options):
        with pytest.raises(TransferError, match=r"nothing was sent there.*--allow-host") as caught:
            get("http://public.test/", options)
        assert host in str(caught.value)
        assert server.targets() == ["http://public.test/"]


def test_what_is_allowed_is_reached(names: Names) -> None:
    names.answers = {"inside.test": ["127.0.0.1"], "localhost": ["127.0.0.1"]}
    with raw_server(lambda request: answer(200, b"here")) as inside:
        for allowed in ("127.0.0.0/8", "inside.test", f"inside.test:{inside.port}", inside.host):
            with public_server(f"http://inside.test:{inside.port}/") as (_, options):
                options = replace(options, environment={**options.environment, "no_proxy": "inside.test"})
                assert get("http://public.test/", replace(options, allowed_hosts=(allowed,))) == b"here"
                assert get("http://public.test/", replace(options, insecure_registries=(allowed,))) == b"here"
                with pytest.raises(
                    TransferError, match=rf"127\.0\.0\.1 is this machine's own.*inside\.test:{inside.port}"
                ):
                    get("http://public.test/", replace(options, allowed_hosts=("127.0.0.1:1", "10.0.0.0/8")))


def test_a_name_that_changes_its_meaning_gains_nothing(names: Names) -> None:
    """What is connected to is what was looked at: a second look-up, which would give another address, is not made."""
    names.answers = {"turns.test": ["8.8.8.8", "127.0.0.1"], "inside.test": ["127.0.0.1"]}
    with raw_server(lambda request: answer(200, b"here")) as inside:
        with pytest.raises(TransientError, match="connect"):
            get(f"http://turns.test:{inside.port}/", QUICK, Zone.PUBLIC)
        assert (names.asked, names.connected) == (["turns.test"], ["8.8.8.8"])
        names.connected.clear()
        for name in ("turns.test", "inside.test"):
            with pytest.raises(TransferError, match="this machine's own"):
                get(f"http://{name}:{inside.port}/", QUICK, Zone.PUBLIC)
        assert names.connected == []
        assert inside.requests == []
        # Whoever is on this machine may name it.
        assert get(f"http://inside.test:{inside.port}/", QUICK, Zone.LOOPBACK) == b"here"
        assert get(f"http://inside.test:{inside.port}/", QUICK) == b"here"


def test_a_connection_of_one_who_may_serves_no_other() -> None:
    with raw_server(lambda request: answer(200, b"here")) as inside:
        transport = Transport("public.test", QUICK)
        transport.fetch("GET", f"http://{inside.host}/", {}).discard()
        with pytest.raises(TransferError, match="this machine's own"):
            transport.fetch("GET", f"http://{inside.host}/", {}, named_from=Zone.PUBLIC)
        transport.close()
        assert len(inside.requests) == 1


def test_servers_on_this_machine_name_each_other_but_not_the_link() -> None:
    def respond(request: RawRequest) -> bytes:
        return answer(302, b"", f"Location: http://{METADATA}/latest/meta-data/")

    with raw_server(respond) as link, raw_server(lambda r: answer(302, b"", f"Location: http://{link.host}/")) as first:
        with pytest.raises(TransferError, match="link-local"):
            get(f"http://{first.host}/", QUICK)
        assert len(link.requests) == 1


@pytest.mark.parametrize("realm", [f"https://{METADATA}/token", "https://10.0.0.1/token"])
def test_a_token_server_is_named_by_its_registry(realm: str) -> None:
    challenge = answer(401, b"", f'WWW-Authenticate: Bearer realm="{realm}",service="s"')
    with raw_server(lambda request: challenge) as server:
        # To the proxy's network, which may be the internet.
        options = replace(
            QUICK,
            environment={"https_proxy": f"http://{server.host}", "http_proxy": f"http://{server.host}"},
            insecure_registries=("public.test",),
            credentials=StaticCredentials({"public.test": Credentials("ann", "hush-password")}),
        )
        with RegistrySource(options) as source, pytest.raises(DrypointError) as caught:
            source.resolve(parse_reference("public.test/team/app:1.0"), Platform("linux", "amd64"))
        assert {"public.test" in target for target in server.targets()} == {True}
    assert "nothing was sent there" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_service_for_strangers_reaches_public_addresses_only() -> None:
    strict = replace(QUICK, named_from=Zone.PUBLIC)
    with raw_server(lambda request: answer(404, b"")) as server:
        with RegistrySource(strict) as source, pytest.raises(TransferError, match="this machine's own"):
            source.resolve(parse_reference(f"{server.host}/team/app:1.0"), Platform("linux", "amd64"))
        assert server.requests == []
        allowed = replace(strict, allowed_hosts=(server.host,))
        with RegistrySource(allowed) as source, pytest.raises(DrypointError):
            source.resolve(parse_reference(f"{server.host}/team/app:1.0"), Platform("linux", "amd64"))
        assert server.requests


def test_a_registry_that_a_file_alone_names_is_public() -> None:
    with raw_server(lambda request: answer(404, b"")) as server:
        reference = parse_reference(f"{server.host}/team/app:1.0")
        with RegistrySource(QUICK, {server.host: Zone.PUBLIC}) as source:
            with pytest.raises(TransferError, match=rf"or an apps\.json names it.*--allow-host {server.host}"):
                source.resolve(reference, Platform("linux", "amd64"))
        assert server.requests == []
        with RegistrySource(QUICK, {server.host: Zone.LOOPBACK}) as source, pytest.raises(DrypointError):
            source.resolve(reference, Platform("linux", "amd64"))
        assert server.requests
