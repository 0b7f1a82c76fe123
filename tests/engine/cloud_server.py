"""A cloud with a real registry that checks its tokens, as a user's program sees it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from drypoint.samples.applications import sample_images
from drypoint.samples.images import BuiltImage, build_image, build_layer, registry_content
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.program import static_program
from tests.support.cloud import (
    CloudContent,
    CloudFleet,
    CloudRelease,
    CloudService,
    CloudUser,
    TestCloud,
    serve_cloud,
)
from tests.support.docker_registry import DockerRegistry, TokenAuth
from tests.support.token_signing import TokenSigner
from tests.support.unprivileged import NOBODY

TOKEN = "a-session-token"
FLEET_ID = 1
FLEET_UUID = "c0ffee" * 5 + "00"
RELEASE_ID = 4711
COMMIT = "deadbeef" * 4
SUPERVISOR_OUTPUT = "a stand-in for the Supervisor\n"
PATHS = {
    "demo/weather:1.0": "v2/1f0e3dad99908345f7439f8ffabdffc4",
    "demo/gateway:1.0": "v2/98f13708210194c475687be6106a3b84",
}
"""Where balena's builder would have put them: a name of 32 digits under v2."""
SUPERVISOR_PATH = "v2/5d41402abc4b2a76b9719d911017c592"
LEEWAY = 60
"""Seconds by which the registry lets clocks differ."""


@dataclass(frozen=True, slots=True)
class CloudServer:
    """A server, its registry, and the fleet myorg/lights whose release is in it.

    Attributes:
        address: the registry's, as images are named.
    """

    server: TestCloud
    registry: DockerRegistry
    address: str
    images: dict[str, BuiltImage] = field(repr=False)

    def log_in(self, home: Path, token: str = TOKEN) -> None:
        """Leave in *home* what ``balena login`` does, and which server it was."""
        (home / ".balena").mkdir(exist_ok=True)
        (home / ".balena/token").write_text(token)
        (home / ".balenarc.yml").write_text(f"# as balena-cli reads it\napiUrl: '{self.server.url}'\n")
        for path in (home / ".balena", home / ".balena/token", home / ".balenarc.yml"):
            shutil.chown(path, NOBODY, NOBODY)

    def reference(self, service: str) -> str:
        name = f"demo/{service}:1.0"
        return f"{self.address}/{PATHS[name]}@{self.images[name].digest}"


@contextmanager
def cloud_server(*, open_to_all: bool = False, relayed: bool = False) -> Iterator[CloudServer]:
    """Serve until the end of the block.

    Args:
        open_to_all: the registry wants no tokens.
        relayed: clients reach the registry through a line that is slow and cuts them off.
    """
    images = sample_images()
    supervisor = LayerBuilder().directory("data").file("supervisor", static_program(SUPERVISOR_OUTPUT[:-1]), mode=0o755)
    supervisor_image = build_image([build_layer(supervisor.finish())], config={"Cmd": ["/supervisor"]})
    content = CloudContent(users={TOKEN: CloudUser("somebody")})
    with ExitStack() as stack:
        signer = stack.enter_context(TokenSigner())
        server = stack.enter_context(serve_cloud(content, signer=signer))
        auth = TokenAuth(
            f"{server.url}/auth/v1/token", content.audience, content.issuer, signer.certificate, server.push_token
        )
        registry = stack.enter_context(DockerRegistry(token_auth=None if open_to_all else auth))
        pushed = {f"{PATHS[name]}:latest": image for name, image in images.items()}
        registry.push(registry_content({**pushed, f"{SUPERVISOR_PATH}:latest": supervisor_image}))
        address = stack.enter_context(_relay(registry.address)) if relayed else registry.address
        services = [
            CloudService(
                name=name.partition("/")[2].partition(":")[0], id=number, image_id=1000 + number,
                location=f"{address}/{PATHS[name]}", content_hash=images[name].digest,
                environment={"WHO": name}, labels={"io.balena.features.dbus": "1"}, composition={"restart": "always"},
            )
            for number, name in enumerate(images, 1)
        ]  # fmt: skip
        release = CloudRelease(id=RELEASE_ID, commit=COMMIT, services=services, volumes={"data": {}}, networks={})
        main = CloudService(
            name="main", id=77, image_id=1077, location=f"{address}/{SUPERVISOR_PATH}",
            content_hash=supervisor_image.digest,
        )  # fmt: skip
        supervisors = [
            CloudRelease(id=700 + number, commit=f"{number:032x}", semver=version, services=[main])
            for number, version in enumerate(("12.11.43", "13.0.0", "13.1.6", "16.1.10"))
        ]
        content.fleets += [
            CloudFleet(
                id=FLEET_ID, uuid=FLEET_UUID, slug="myorg/lights", device_type="genericx86-64-ext", arch="amd64",
                running=COMMIT, releases=[release], members=frozenset(("somebody",)),
            ),
            CloudFleet(
                id=7, uuid="7" * 32, slug="balena_os/amd64-supervisor", is_public=True, kind="app",
                device_type="generic-amd64", arch="amd64", releases=supervisors,
            ),
        ]  # fmt: skip
        yield CloudServer(server, registry, address, images)


def config_json(server: TestCloud) -> bytes:
    """What the dashboard gives for the fleet."""
    return json.dumps({"applicationId": FLEET_ID, "applicationName": "lights", "apiEndpoint": server.url}).encode()


@contextmanager
def _relay(target: str) -> Iterator[str]:
    """A way to *target* at 2 MiB/s that cuts each connection after 3 MiB of answers; its address."""
    host, _, port = target.partition(":")
    closing = threading.Event()
    threads: list[threading.Thread] = []

    def carry(client: socket.socket) -> None:
        with client, socket.create_connection((host, int(port))) as server:
            asking = threading.Thread(target=_copy, args=(client, server, 1 << 40, 0.0))
            asking.start()
            _copy(server, client, 3 << 20, 1 / (2 << 20))
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            asking.join()

    def accept() -> None:
        while not closing.is_set():
            try:
                client = listener.accept()[0]
            except TimeoutError:
                continue
            client.settimeout(30)
            thread = threading.Thread(target=carry, args=(client,))
            thread.start()
            threads.append(thread)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            closing.set()
            for thread in (accepting, *threads):
                thread.join(30)


def _copy(source: socket.socket, target: socket.socket, limit: int, seconds_a_byte: float) -> None:
    """Up to *limit* bytes, until one of them ends."""
    done = 0
    with contextlib.suppress(OSError):
        while done < limit and (chunk := source.recv(min(64 << 10, limit - done))):
            target.sendall(chunk)
            done += len(chunk)
            time.sleep(len(chunk) * seconds_a_byte)
