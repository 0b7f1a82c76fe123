"""Redirects, TLS, plain http and proxies, on loopback."""

from __future__ import annotations

import select
import shutil
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.support import certificates

from drypoint.balena.cloud import CloudClient, CloudSettings
from drypoint.errors import AuthenticationError, DrypointError, ImageNotFoundError, TransferError, UsageError
from drypoint.oci import Image, Platform, parse_reference
from drypoint.samples.images import BuiltImage, Compression, add_to_registry, build_image, build_layer
from drypoint.samples.registry import Access, Faults, RegistryContent, TestRegistry, serve_registry
from drypoint.sources.registry import Credentials, RegistryOptions, RegistrySource, RetryPolicy, StaticCredentials

AMD64 = Platform("linux", "amd64")
QUICK = RegistryOptions(
    credentials=StaticCredentials({}),
    certs_directory=Path("/nonexistent"),
    environment={},
    connect_timeout=5.0,
    read_timeout=5.0,
    retry=RetryPolicy(attempts=2, first_wait=0.001),
)
USERS = {"ann": "hush-password"}
BUILT: BuiltImage = build_image([build_layer(b"not really a tar" * 1000, Compression.NONE)])


def holding() -> RegistryContent:
    content = RegistryContent()
    add_to_registry(content, "team/app", "1.0", BUILT)
    return content


def resolve(host: str, options: RegistryOptions = QUICK) -> Image:
    with RegistrySource(options) as source:
        return source.resolve(parse_reference(f"{host}/team/app:1.0"), AMD64)


def logged_in(host: str, options: RegistryOptions = QUICK) -> RegistryOptions:
    return replace(options, credentials=StaticCredentials({host: Credentials("ann", "hush-password")}))


# --- redirects ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_blobs_may_live_on_another_host_which_gets_no_secret(status: int) -> None:
    with serve_registry(holding()) as store:
        faults = Faults(redirect_blobs=store.url, redirect_status=status)
        with serve_registry(holding(), access=Access(scheme="basic", users=USERS), faults=faults) as registry:
            assert resolve(registry.host, logged_in(registry.host)).image_id == BUILT.image_id
        [asked] = [request for request in registry.requests if "/blobs/" in request.path]
        assert asked.authorization is not None
        [stored] = store.requests
        assert stored.authorization is None
        assert stored.query == f"X-Signature=signed-{registry.port}"
        assert stored.headers["user-agent"].startswith("drypoint/")


def test_another_host_by_name_is_another_host() -> None:
    with serve_registry(holding(), access=Access(scheme="basic", users=USERS)) as registry:
        registry.faults.redirect_blobs = f"http://localhost:{registry.port}"
        # localhost is no new redirect: the signature in the query lets the blob through.
        with pytest.raises(TransferError, match="more than 5 redirects"):
            resolve(registry.host, logged_in(registry.host))
        blobs = [request for request in registry.requests if "/blobs/" in request.path]
        assert [request.authorization is None for request in blobs] == [False, *[True] * 5]


@pytest.mark.parametrize(
    "target", ["ftp://example.com", "file://", "http://ann:hush@127.0.0.1", "http://[x", "http://a:x"]
)
def test_redirects_to_what_is_no_registry_are_refused(target: str) -> None:
    with serve_registry(holding(), faults=Faults(redirect_blobs=target)) as registry:
        with pytest.raises(TransferError, match="redirects to an address") as caught:
            resolve(registry.host)
    assert "hush" not in str(caught.value)


# --- TLS ---


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own, and a server's certificate by it."""

    ca: Path
    certificate: Path
    key: Path

    def server_context(self, client_ca: Path | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    directory = tmp_path_factory.mktemp("tls")
    ca = certificates.authority("test authority")
    names = ("127.0.0.1", "registry.test", "registry-1.docker.io", "auth.docker.io")
    server = certificates.issued_by(ca, "server", *names)
    return Authority(ca.write(directory, "ca")[0], *server.write(directory, "server"))


def test_an_unknown_authority_is_refused_and_not_tried_again(authority: Authority) -> None:
    with serve_registry(holding(), tls=authority.server_context()) as registry:
        with pytest.raises(
            TransferError, match=r"the certificate is not trusted: .*issuer certificate.*/nonexistent/127"
        ) as caught:
            resolve(registry.host)
        assert registry.requests == []
        assert str(registry.port) in str(caught.value)


def test_a_given_authority_is_trusted(authority: Authority) -> None:
    options = replace(QUICK, ca_files=(authority.ca,))
    with serve_registry(holding(), tls=authority.server_context()) as registry:
        assert resolve(registry.host, options).image_id == BUILT.image_id
        assert registry.url.startswith("https://")
        # The certificate is for 127.0.0.1 and not for this name.
        with pytest.raises(TransferError, match="not trusted: Hostname mismatch"):
            resolve(f"localhost:{registry.port}", options)


def test_dockers_directory_of_certificates_counts(authority: Authority, tmp_path: Path) -> None:
    options = replace(QUICK, certs_directory=tmp_path)
    with serve_registry(holding(), tls=authority.server_context(authority.ca)) as registry:
        directory = tmp_path / registry.host
        directory.mkdir()
        shutil.copy(authority.ca, directory / "ca.crt")
        # The server wants a client's certificate too.
        with pytest.raises(TransferError):
            resolve(registry.host, options)
        shutil.copy(authority.certificate, directory / "client.cert")
        shutil.copy(authority.key, directory / "client.key")
        assert resolve(registry.host, options).image_id == BUILT.image_id


@pytest.mark.parametrize("name", ["ca.crt", "client.cert"])
def test_a_certificate_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "127.0.0.1:1"
    directory.mkdir()
    (directory / name).write_text("no certificate")
    with pytest.raises(UsageError, match=name):
        resolve("127.0.0.1:1", replace(QUICK, certs_directory=tmp_path))
    with pytest.raises(UsageError, match="missing"):
        resolve("127.0.0.1:1", replace(QUICK, ca_files=(tmp_path / "missing",)))


def test_https_does_not_lead_to_plain_http(authority: Authority) -> None:
    with serve_registry(holding()) as store:
        with serve_registry(holding(), tls=authority.server_context(), faults=Faults()) as registry:
            with forwarding({"registry.test:443": registry.port, "store.test:80": store.port}) as proxy:
                options = replace(QUICK, ca_files=(authority.ca,), environment=proxy.environment)
                registry.faults.redirect_blobs = "http://store.test"
                with pytest.raises(TransferError, match=r"from https to plain http, to store\.test/v2/team"):
                    resolve("registry.test", options)
                # Nor to this machine's own ports.
                registry.faults.redirect_blobs = store.url
                with pytest.raises(TransferError, match="from https to plain http"):
                    resolve("registry.test", options)
                assert store.requests == []
                registry.faults.redirect_blobs = "http://store.test"
                allowed = replace(options, insecure_registries=("store.test",))
                assert resolve("registry.test", allowed).image_id == BUILT.image_id
            # From loopback to loopback it may.
            registry.faults.redirect_blobs = store.url
            trusting = replace(QUICK, ca_files=(authority.ca,))
            assert resolve(registry.host, trusting).image_id == BUILT.image_id


# --- plain http ---


def test_plain_http_is_for_loopback_and_for_those_named(authority: Authority) -> None:
    with serve_registry(holding()) as registry:
        assert resolve(registry.host).image_id == BUILT.image_id
        assert resolve(f"localhost:{registry.port}").image_id == BUILT.image_id
        with forwarding({"registry.test:5000": registry.port}, refuse_tunnels=True) as proxy:
            options = replace(QUICK, environment=proxy.environment)
            with pytest.raises(TransferError, match="proxy"):
                resolve("registry.test:5000", options)
            assert [method for method, _ in proxy.asked] == ["CONNECT"] * 2
            insecure = replace(options, insecure_registries=("registry.test:5000",))
            assert resolve("registry.test:5000", insecure).image_id == BUILT.image_id


def test_an_insecure_registry_that_speaks_tls_is_asked_by_tls(authority: Authority) -> None:
    with serve_registry(holding(), tls=authority.server_context()) as registry:
        with forwarding({"registry.test:5000": registry.port}) as proxy:
            insecure = replace(
                QUICK,
                environment=proxy.environment,
                insecure_registries=("registry.test:5000",),
                ca_files=(authority.ca,),
            )
            assert resolve("registry.test:5000", insecure).image_id == BUILT.image_id
            assert {method for method, _ in proxy.asked} == {"CONNECT"}
            # Insecure allows plain http; certificates stay what they are.
            with pytest.raises(TransferError, match="not trusted"):
                resolve("registry.test:5000", replace(insecure, ca_files=()))


def test_a_registry_of_plain_http_by_tls_is_asked_once() -> None:
    with serve_registry(holding()) as registry, forwarding({"registry.test:5000": registry.port}) as proxy:
        with pytest.raises(
            TransferError, match=r"does not speak TLS.*--insecure-registry registry\.test:5000"
        ) as caught:
            resolve("registry.test:5000", replace(QUICK, environment=proxy.environment))
        assert len(proxy.asked) == 1
    assert "failed" not in str(caught.value)
    assert registry.requests == []


def test_a_balena_server_of_plain_http_by_tls_is_asked_once() -> None:
    with serve_registry(holding()) as server, forwarding({"api.test:5000": server.port}) as proxy:
        options = replace(QUICK, environment=proxy.environment)
        with CloudClient(CloudSettings("https://api.test:5000"), options) as client:
            with pytest.raises(
                TransferError, match=r"http://api\.test:5000, with --api-url, and .* --insecure-registry api\.test:5000"
            ):
                client.check_login()
        assert len(proxy.asked) == 1


def test_a_proxy_of_plain_http_by_tls_is_asked_once() -> None:
    with forwarding({}) as proxy:
        environment = {"HTTPS_PROXY": f"https://127.0.0.1:{proxy.port}"}
        with pytest.raises(TransferError, match=r"the proxy does not speak TLS.*HTTPS_PROXY") as caught:
            resolve("registry.test", replace(QUICK, environment=environment))
    assert "failed" not in str(caught.value)


def test_there_is_no_host_of_this_name() -> None:
    with pytest.raises(TransferError, match=r"registry\.invalid/.*no such host|resolved"):
        resolve("registry.invalid")


# --- proxies ---


@dataclass
class Forwarder:
    """A proxy that knows a few names: what it was asked, and by whom."""

    ports: dict[str, int]
    refuse_tunnels: bool
    asked: list[tuple[str, str]] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)
    port: int = 0

    @property
    def environment(self) -> dict[str, str]:
        address = f"http://ann:hush%40proxy@127.0.0.1:{self.port}"
        return {"HTTP_PROXY": address, "https_proxy": address}


@contextmanager
def forwarding(ports: dict[str, int], *, refuse_tunnels: bool = False) -> Iterator[Forwarder]:
    proxy = Forwarder(ports, refuse_tunnels)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_CONNECT(self) -> None:
            self.remember(self.path)
            if proxy.refuse_tunnels or self.path not in proxy.ports:
                self.send_error(403)
                return
            with socket.create_connection(("127.0.0.1", proxy.ports[self.path])) as target:
                self.send_response(200)
                self.end_headers()
                self.pump(self.connection, target)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self.remember(f"{parts.hostname}:{parts.port or 80}")
            with socket.create_connection(("127.0.0.1", proxy.ports[proxy.asked[-1][1]])) as target:
                lines = [f"GET {parts.path}?{parts.query} HTTP/1.1", "Connection: close"]
                lines += [f"{name}: {value}" for name, value in self.headers.items() if "proxy" not in name.lower()]
                target.sendall("\r\n".join([*lines, "", ""]).encode())
                while data := target.recv(1 << 16):
                    self.connection.sendall(data)
            self.close_connection = True

        def remember(self, name: str) -> None:
            proxy.asked.append((self.command, name))
            proxy.logins.append(self.headers.get("Proxy-Authorization"))

        def pump(self, left: socket.socket, right: socket.socket) -> None:
            other = {left: right, right: left}
            while True:
                for ready in select.select(list(other), [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    other[ready].sendall(data)

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass

    assert issubclass(Server, socketserver.ThreadingMixIn)
    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


def test_https_goes_through_a_tunnel(authority: Authority) -> None:
    with serve_registry(holding(), tls=authority.server_context()) as registry:
        with forwarding({"registry.test:443": registry.port}) as proxy:
            options = replace(QUICK, ca_files=(authority.ca,), environment=proxy.environment)
            assert resolve("registry.test", options).image_id == BUILT.image_id
            assert proxy.asked == [("CONNECT", "registry.test:443")]
            # The login of the address, its %40 read.
            assert proxy.logins == ["Basic YW5uOmh1c2hAcHJveHk="]
            direct = replace(options, environment={**proxy.environment, "NO_PROXY": ".test"})
            with pytest.raises(DrypointError):
                resolve("registry.test", direct)
            assert len(proxy.asked) == 1


def test_what_the_proxy_wants_to_know_the_registry_does_not_hear(authority: Authority) -> None:
    with serve_registry(holding(), tls=authority.server_context()) as registry:
        with forwarding({"registry.test:443": registry.port}) as proxy:
            resolve("registry.test", replace(QUICK, ca_files=(authority.ca,), environment=proxy.environment))
    assert not [request for request in registry.requests if "proxy-authorization" in request.headers]


def test_a_proxy_that_refuses_is_told_without_its_login(authority: Authority) -> None:
    with forwarding({}) as proxy:
        with pytest.raises(TransferError, match="proxy") as caught:
            resolve("registry.test", replace(QUICK, environment=proxy.environment))
    assert "hush" not in str(caught.value)
    with pytest.raises(TransferError, match=r"the proxy failed: cannot connect \(Connection refused\)"):
        resolve("registry.test", replace(QUICK, environment=proxy.environment))


def test_docker_hub_lives_under_another_name(authority: Authority) -> None:
    content = RegistryContent()
    add_to_registry(content, "library/alpine", "latest", BUILT)
    access = Access(scheme="token", users=USERS, realm="https://auth.docker.io/token")
    with serve_registry(content, tls=authority.server_context(), access=access) as registry:
        ports = {"registry-1.docker.io:443": registry.port, "auth.docker.io:443": registry.port}
        with forwarding(ports) as proxy:
            options = replace(QUICK, ca_files=(authority.ca,), environment=proxy.environment)
            with RegistrySource(logged_in("docker.io", options)) as source:
                found = source.resolve(parse_reference("alpine"), AMD64)
            assert {name for _, name in proxy.asked} == set(ports)
            assert [reference.familiar for reference in found.references] == [
                "alpine:latest",
                f"alpine@{BUILT.digest}",
            ]
            assert found.repository is not None
            assert found.repository.name == "docker.io/library/alpine"
            with pytest.raises(AuthenticationError, match=r"auth\.docker\.io/token refuses .* docker login docker\.io"):
                with RegistrySource(options) as source:
                    source.resolve(parse_reference("alpine"), AMD64)


def test_a_missing_image_is_missing_by_tls_too(authority: Authority) -> None:
    with serve_registry(RegistryContent(), tls=authority.server_context()) as registry:
        with pytest.raises(ImageNotFoundError):
            resolve(registry.host, replace(QUICK, ca_files=(authority.ca,)))


def test_blobs_as_files_are_served_by_tls(authority: Authority, tmp_path: Path) -> None:
    content = holding()
    blob = BUILT.layers[0].descriptor.digest
    held = content.blobs[blob]
    assert isinstance(held, bytes)
    content.blobs[blob] = tmp_path / "blob"
    (tmp_path / "blob").write_bytes(held)
    registry: TestRegistry
    with serve_registry(content, tls=authority.server_context(), faults=Faults(breaks=1, fault_after=5000)) as registry:
        # On a busy machine a kept connection may be gone as well by the time it is used again.
        patient = replace(QUICK, ca_files=(authority.ca,), retry=RetryPolicy(attempts=6, first_wait=0.01))
        with RegistrySource(patient) as source:
            found = source.resolve(parse_reference(f"{registry.host}/team/app:1.0"), AMD64)
            registry.faults.breaks = 1
            assert b"".join(source.open_layer(found, found.layers[0])) == held
