"""The whole way: a login, a fleet, its apps.json, tokens for the registry, a preload, and a real engine, offline.

The server is a stand-in that answers as open-balena-api does; the registry is the real one, and checks the tokens itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import urllib3

import drypoint
from drypoint.balena.apps_json_images import images_not_there
from drypoint.balena.architecture import check_architecture
from drypoint.balena.cloud import StateRequest
from drypoint.balena.cloud_states import CloudServer, CloudStates, cloud_states
from drypoint.balena.compatibility import fit
from drypoint.balena.device_type import DeviceType
from drypoint.balena.running_supervisor import supervisor_in_store
from drypoint.balena.supervisor_version import parse_supervisor_version
from drypoint.disk import FileDevice, Window
from drypoint.disk.ext4.read.reader import Ext4Reader
from drypoint.samples.applications import sample_images
from drypoint.samples.images import registry_content
from drypoint.sources.registry import RegistryOptions, RetryPolicy, StaticCredentials
from drypoint.stores.overlay2 import StoreState, read_state
from tests.support.cloud import (
    CloudContent,
    CloudFleet,
    CloudRelease,
    CloudService,
    CloudUser,
    TestCloud,
    serve_cloud,
)
from tests.support.docker_engine import DockerEngine
from tests.support.docker_registry import DockerRegistry, TokenAuth
from tests.support.token_signing import TokenSigner
from tests.support.userland import SUPERVISOR_VERSION

from .conftest import ServedImages
from .judging import OUTPUT, base_with_supervisor, check_filesystem, data_partition, mounted_data

pytestmark = [pytest.mark.engine, pytest.mark.needs("e2fsck", "sfdisk")]

TOKEN = "a-session-token"
COMMIT = "deadbeef" * 4
PATHS = {
    "demo/weather:1.0": "v2/1f0e3dad99908345f7439f8ffabdffc4",
    "demo/gateway:1.0": "v2/98f13708210194c475687be6106a3b84",
}
"""Where balena's builder would have put them: a name of 32 digits under v2."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """A server, its registry, and the fleet myorg/lights whose release is in it."""

    server: TestCloud
    registry: DockerRegistry
    directory: Path

    def options(self) -> RegistryOptions:
        return RegistryOptions(
            credentials=StaticCredentials({}), retry=RetryPolicy(attempts=2, first_wait=0.05), environment={}
        )

    @contextmanager
    def states(self, **given: object) -> Iterator[CloudStates]:
        request = StateRequest(("myorg/lights",), **given)  # type: ignore[arg-type]
        with cloud_states(request, CloudServer(TOKEN, self.server.url), self.options()) as found:
            yield found

    def preload(self, found: CloudStates, base: Path, out: Path, content: bytes) -> drypoint.Result:
        assert found.apps is not None
        options = replace(self.options(), token_provider=found.token_provider)
        with drypoint.RegistrySource(options) as registry:
            request = drypoint.PreloadRequest(
                [drypoint.ImageRequest(image, registry) for image in found.apps.images],
                drypoint.parse_platform("linux/amd64"),
                files=[drypoint.ExtraFile(b"apps.json", content)],
            )
            return drypoint.preload(base, out, request)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    images = sample_images()
    content = CloudContent(users={TOKEN: CloudUser("somebody")})
    with ExitStack() as stack:
        signer = stack.enter_context(TokenSigner())
        server = stack.enter_context(serve_cloud(content, signer=signer))
        auth = TokenAuth(
            f"{server.url}/auth/v1/token", content.audience, content.issuer, signer.certificate, server.push_token
        )
        registry = stack.enter_context(DockerRegistry(token_auth=auth))
        registry.push(registry_content({f"{PATHS[name]}:latest": image for name, image in images.items()}))
        services = [
            CloudService(
                name=name.partition("/")[2].partition(":")[0], id=number, image_id=1000 + number,
                location=f"{registry.address}/{PATHS[name]}", content_hash=images[name].digest,
            )
            for number, name in enumerate(images, 1)
        ]  # fmt: skip
        release = CloudRelease(id=10, commit=COMMIT, services=services, volumes={"data": {}}, networks={})
        content.fleets.append(
            CloudFleet(
                id=1, uuid="c0ffee" * 5 + "00", slug="myorg/lights", device_type="genericx86-64-ext", arch="amd64",
                running=COMMIT, releases=[release], members=frozenset(("somebody",)),
            )
        )  # fmt: skip
        yield Cloud(server, registry, tmp_path)


def store_of(image: Path) -> StoreState:
    start, size = data_partition(image)
    with FileDevice(image) as device:
        return read_state(Ext4Reader(Window(device, start, size)), b"docker")


def test_from_a_login_to_services_that_run_offline(cloud: Cloud, served: ServedImages, tmp_path: Path) -> None:
    base, out = base_with_supervisor(tmp_path, served).path, tmp_path / "out.img"
    supervisor = supervisor_in_store(store_of(base).repositories)
    assert supervisor == parse_supervisor_version(SUPERVISOR_VERSION)
    with cloud.states(pin_device=True) as found:
        assert found.apps is not None
        check_architecture(DeviceType("genericx86-64-ext", "amd64"), found.needs)
        apps = fit(found.apps, supervisor)
        cloud.preload(found, base, out, apps.content)
    assert len(cloud.server.tokens) == 1, "one token for all images"
    assert {request.authorization for request in cloud.server.requests} == {f"Bearer {TOKEN}"}
    check_filesystem(out)
    assert images_not_there(apps, store_of(out).repositories) == ()

    with mounted_data(out, writable=True) as point:
        written = json.loads((point / "apps.json").read_bytes())
        assert written == json.loads(found.apps.content)
        assert written["pinDevice"] is True
        services = written["apps"]["c0ffee" * 5 + "00"]["releases"][COMMIT]["services"]
        with DockerEngine(point / "docker", offline=True) as engine:
            for name, service in services.items():
                assert engine.run(service["image"]) == OUTPUT[f"demo/{name}:1.0"]
            assert engine.complaints() == ()


def test_the_registry_refuses_who_has_no_token(cloud: Cloud) -> None:
    """The judge itself."""
    path = f"/v2/{PATHS['demo/weather:1.0']}/manifests/latest"
    answer = urllib3.request("GET", f"http://{cloud.registry.address}{path}", retries=False)
    assert answer.status == 401
    assert cloud.server.url in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("fault", ["lapsed", "other scope", "withheld"])
def test_tokens_that_do_not_serve_are_refused(cloud: Cloud, tmp_path: Path, fault: str) -> None:
    match fault:
        case "lapsed":
            # More than the minute by which the registry lets clocks differ.
            cloud.server.faults.token_seconds = -120.0
            said = r"access denied \(status 401"
        case "other scope":
            cloud.server.faults.other_scope = "v2/" + "0" * 32
            said = r"access denied \(status 401"
        case _:
            cloud.server.faults.withheld = frozenset(PATHS.values())
            said = "does not let this login pull"
    with cloud.states() as found:
        assert found.apps is not None
        options = replace(cloud.options(), token_provider=found.token_provider)
        with (
            drypoint.RegistrySource(options) as registry,
            pytest.raises(drypoint.AuthenticationError, match=said) as caught,
        ):
            registry.resolve(found.apps.images[0], drypoint.parse_platform("linux/amd64"))
    assert not any(token in str(caught.value) for token in (TOKEN, *cloud.server.tokens))


def test_an_image_is_still_pulled_when_its_first_token_has_lapsed(cloud: Cloud) -> None:
    with cloud.states() as found:
        assert found.apps is not None
        options = replace(cloud.options(), token_provider=found.token_provider)
        with drypoint.RegistrySource(options) as registry:
            cloud.server.faults.token_seconds = -120.0
            image = found.apps.images[0]
            scope = (f"repository:{image.path}:pull",)
            lapsed = found.token_provider(image.domain, scope, None, "")
            cloud.server.faults.token_seconds = 3600.0
            registry.resolve(image, drypoint.parse_platform("linux/amd64"))
    assert cloud.server.tokens[0] == lapsed
    assert len(cloud.server.tokens) == 2
