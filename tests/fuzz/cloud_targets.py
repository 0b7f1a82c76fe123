"""What a server of balena's may answer, what lies in a user's settings, and target states of any version."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence

from drypoint.balena.apps_json import ANY_VERSION, read_apps_json
from drypoint.balena.cloud import (
    CloudClient,
    CloudModel,
    CloudSettings,
    RegistryTokens,
    device_state,
    find_device,
    find_fleet,
    find_release,
    find_supervisor_image,
    fleet_state,
    make_apps_json,
)
from drypoint.balena.cloud.client import CloudAnswer
from drypoint.balena.cloud.settings import read_plain_yaml
from drypoint.balena.compatibility import fit
from drypoint.balena.merge import merge_apps_json
from drypoint.balena.supervisor_version import SupervisorVersion
from drypoint.errors import ContentError, SourceError, UsageError
from drypoint.oci import parse_reference
from drypoint.sources.registry import RegistryOptions

from .target import PropertyError, Target

_SEPARATOR = b"\n--\n"
_OPTIONS = RegistryOptions(environment={})
_UUID = "c0ffee" * 5 + "00"
_IMAGE = "registry2.example.com/v2/abc@sha256:" + "ab" * 32


class _Answering(CloudClient):
    """A client whose every question is answered by the next of *answers*, and by nothing when they are used up."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        super().__init__(CloudSettings("https://api.example.com", "token", "--token"), _OPTIONS)
        self._answers = iter(answers)

    def get(
        self, path: str, query: Sequence[tuple[str, str]] = (), *, expected: frozenset[int] = frozenset()
    ) -> CloudAnswer:
        return CloudAnswer(200, next(self._answers, b""))


def ask_any_server(data: bytes) -> None:
    kind, answers = data[:1], data[1:].split(_SEPARATOR)
    with _Answering(answers) as client:
        model = CloudModel(client)
        match kind:
            case b"f":
                fleet = find_fleet(model, "org/fleet")
                commit = find_release(model, fleet, "latest")
                apps = make_apps_json(fleet_state(client, fleet, commit), "state")
                if read_apps_json(apps.content, "again") != apps:
                    raise PropertyError("an apps.json that reads back as another")
            case b"d":
                make_apps_json(device_state(client, find_device(model, _UUID)), "state")
            case b"s":
                find_supervisor_image(client, "v1.2.3", "rpi")
            case _:
                image = parse_reference(_IMAGE)
                tokens = RegistryTokens(client, [image])
                tokens(image.domain, (f"repository:{image.path}:pull",), None, "")


def _answers() -> Iterator[bytes]:
    device_type = [{"slug": "raspberrypi4-64", "is_of__cpu_architecture": [{"slug": "aarch64"}]}]
    fleet = {"id": 1, "uuid": _UUID, "slug": "org/fleet", "is_for__device_type": device_type}
    release = {"commit": "deadbeef", "status": "success"}
    state = {_UUID: {"name": "x", **_state_3()}}
    for kind, answers in (
        (b"f", [{"d": [fleet]}, {"d": [release]}, state]),
        (
            b"d",
            [{"d": [{"uuid": _UUID, "device_name": "x", "is_of__device_type": device_type}]}, {"d": [fleet]}, state],
        ),
        (b"s", [{"d": [{"image_name": "balena/rpi-supervisor"}]}]),
        (b"s", [{"d": []}, {"d": [{"release_image": [{"image": [{"is_stored_at__image_location": "a.b/c"}]}]}]}]),
        (b"t", [{"token": _token({"iat": 1, "exp": 9, "access": [{"name": "v2/abc", "actions": ["pull"]}]})}]),
        (b"t", [{"token": _token({})}]),
        (b"t", [{"token": "opaque"}]),
    ):
        yield kind + _SEPARATOR.join(json.dumps(one).encode() for one in answers)


def _token(claims: object) -> str:
    return "a." + base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode() + ".c"


def read_any_settings(data: bytes) -> None:
    for key, value in read_plain_yaml(data, "file").items():
        if not key.isascii() or "\n" in value:
            raise PropertyError(f"{key!r} has the value {value!r}")


def _settings() -> Iterator[bytes]:
    yield b"---\n# mine\nbalenaUrl: 'example.com' # here\nprojectsDirectory: /a b\n"
    yield b'apiUrl: "https://api.example.com"\r\nempty:\n'


def fit_any_apps_json(data: bytes) -> None:
    apps = read_apps_json(data, "apps.json", ANY_VERSION)
    if apps.version == 3:
        merge_apps_json([("one", apps), ("two", apps)])
    made = fit(apps, SupervisorVersion(12, 11, 43))
    if (made.version, set(made.images), made.pin_device) != (2, set(apps.images), apps.pin_device):
        raise PropertyError("version 2 says something else than version 3")


def _apps_jsons() -> Iterator[bytes]:
    yield json.dumps(_state_3()).encode()
    yield json.dumps({**_state_3(), "pinDevice": True, "config": None}).encode()
    three = read_apps_json(json.dumps(_state_3()).encode(), "seed")
    yield fit(three, SupervisorVersion(7, 11, 0)).content


def _state_3() -> dict[str, object]:
    service = {
        "id": 1, "image_id": "2", "image": _IMAGE, "environment": {"A": "b"}, "labels": {"io.balena.x": "1"},
        "composition": {"restart": "always"}, "contract": {"type": "sw.container", "slug": "main"},
    }  # fmt: skip
    release = {"id": 3, "services": {"main": service}, "volumes": {"data": {}}, "networks": {}}
    app = {"id": 4, "name": "x", "class": "fleet", "releases": {"deadbeef": release}}
    return {"apps": {_UUID: app}, "config": {"A": "b"}}


TARGETS = (
    Target(
        "cloud_answers",
        ask_any_server,
        _answers,
        ("drypoint.balena.cloud",),
        (SourceError, UsageError, ContentError),
        tokens=(b'{"d":[', b'"token":', b'"apps":', _SEPARATOR),
    ),
    Target("cloud_settings", read_any_settings, _settings, ("drypoint.balena.cloud",), (UsageError,), longest=512),
    Target(
        "apps_json_versions",
        fit_any_apps_json,
        _apps_jsons,
        ("drypoint.balena.compatibility", "drypoint.balena.merge"),
        (UsageError,),
        tokens=(b'"services":', b'"releases":', b'"serviceName":', b'"class":'),
    ),
)
