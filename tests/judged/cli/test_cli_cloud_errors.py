"""What a user is told when something fails between the command line and the server: each typed as a user types it."""

from __future__ import annotations

import logging
import os
import signal
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from tests.support.certificates import self_signed
from tests.support.cloud import CloudFaults, TestCloud, serve_cloud
from tests.support.cloud_fixtures import EMPTY, FOREIGN, LIGHTS, NEWER, RUNNING, TOKEN, content

from drypoint.cli.app import run
from drypoint.errors import AuthenticationError, SourceError, TransferError, UsageError
from drypoint.samples.disk_images import build_disk_image
from drypoint.samples.registry import Access, RegistryContent, serve_registry

AMD64 = replace(LIGHTS, device_type="genericx86-64-ext", arch="amd64")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base.img"
    build_disk_image(path)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in os.environ:
        if name.startswith("BALENA"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DRYPOINT_CACHE", str(tmp_path / "cache"))
    (tmp_path / ".balena").mkdir()
    (tmp_path / ".balena/token").write_text(TOKEN + "\n")
    return tmp_path


@pytest.fixture
def cloud(home: Path) -> Iterator[TestCloud]:
    given = content()
    given.fleets = [AMD64, EMPTY, FOREIGN]
    with serve_cloud(given, faults=CloudFaults()) as served:
        (home / ".balenarc.yml").write_text(f"apiUrl: {served.url}\n")
        yield served


class Said:
    """Runs the program and keeps what it said."""

    def __init__(self, base: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self._base = base
        self._capfd = capfd

    def __call__(self, *arguments: str, command: str = "plan", code: int) -> str:
        given = [command, str(self._base), "-v", "-v", *arguments]
        with pytest.raises(SystemExit) as ended:
            run(given)
        assert ended.value.code == code
        out, err = self._capfd.readouterr()
        assert out == ""
        assert TOKEN not in err
        assert "Traceback" in err
        return err.rpartition("drypoint: ")[2].strip().replace("\n", " ")


@pytest.fixture
def said(base: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Said]:
    # The program takes them over, for good.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield Said(base, capfd)
    for number, handler in before.items():
        signal.signal(number, handler)
    # What set_up has put there belongs to the program.
    logging.getLogger().handlers.clear()


def exit_code(kind: type[Exception]) -> int:
    code: int = kind.exit_code  # type: ignore[attr-defined]
    return code


USAGE, REFUSED, SOURCE, TRANSFER = map(exit_code, (UsageError, AuthenticationError, SourceError, TransferError))


def test_nobody_is_logged_in(cloud: TestCloud, home: Path, said: Said) -> None:
    (home / ".balena/token").unlink()
    text = said("--fleet", "myorg/lights", code=REFUSED)
    assert text.startswith("not logged in to 127.0.0.1:")
    assert "balena login" in text
    assert "BALENA_API_TOKEN" in text


def test_a_token_that_has_lapsed_is_told_by_where_it_lay(
    cloud: TestCloud, home: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.content.users.clear()
    assert f"does not accept the token from {home}/.balena/token" in said("--fleet", "myorg/lights", code=REFUSED)
    monkeypatch.setenv("BALENA_API_TOKEN", TOKEN + "2")
    assert "does not accept the token from BALENA_API_TOKEN" in said("--fleet", "myorg/lights", code=REFUSED)
    assert "from --token" in said("--fleet", "myorg/lights", "--token", TOKEN + "3", code=REFUSED)


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--fleet", "myorg/none"], SOURCE, ["has no fleet 'myorg/none' that this login can see", "balena fleet list"]),
        (["--fleet", "lightss"], SOURCE, ["by name and as ORGANISATION/FLEET"]),
        (["--fleet", "other/secret"], SOURCE, ["has no fleet 'other/secret' that this login can see"]),
        (
            ["--fleet", "myorg/empty"],
            SOURCE,
            ["myorg/empty has no successful release", "balena push myorg/empty"],
        ),
        (["--fleet", "myorg/lights", "--commit", "dead"], USAGE, [RUNNING, NEWER, "Give more digits"]),
        (["--fleet", "myorg/lights", "--commit", "f00d"], SOURCE, ["was not built: its status is 'failed'"]),
        (["--fleet", "myorg/lights", "--commit", "abcd"], SOURCE, ["no release whose commit begins with abcd"]),
        (["--fleet", "myorg/lights", "--commit", "v1"], USAGE, ["expected 'current', 'latest', or a commit"]),
        (["--fleet", "myorg/lights"], USAGE, ["Supervisor on the disk image is not known", "--supervisor-version"]),
        (["--fleet", "myorg/lights", "--supervisor-version", "6.0.0"], USAGE, ["Use a newer balenaOS"]),
        (
            ["--fleet", "myorg/lights", "--supervisor-version", "7.0.0", "--pin-device-to-release"],
            USAGE,
            ["or do not pin"],
        ),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_names_and_releases(cloud: TestCloud, said: Said, arguments: list[str], code: int, expected: list[str]) -> None:
    text = said(*arguments, code=code)
    assert all(part in text for part in expected), text


def test_images_that_the_login_may_not_pull(cloud: TestCloud, said: Said) -> None:
    with serve_registry(RegistryContent(), access=Access(scheme="token")) as registry:
        services = [replace(one, location=f"{registry.host}/v2/{one.name}") for one in AMD64.releases[0].services]
        release = replace(AMD64.releases[0], services=services)
        cloud.content.fleets[0] = replace(AMD64, releases=[release])
        cloud.faults.withheld = frozenset(("v2/main", "v2/web"))
        text = said("--fleet", "myorg/lights", "--supervisor-version", "16.1.10", code=REFUSED)
    assert "does not let this login pull" in text


@pytest.mark.parametrize(
    ("scheme", "realm", "expected"),
    [
        ("token", "/auth/v1/token", "run 'balena login'"),
        ("token", None, "run: docker login"),
        ("basic", None, "run: docker login"),
    ],
)
def test_nobody_is_logged_in_to_a_registry(
    cloud: TestCloud, home: Path, said: Said, scheme: Literal["basic", "token"], realm: str | None, expected: str
) -> None:
    (home / ".balena/token").unlink()
    access = Access(scheme=scheme, users={"a": "b"}, realm=None if realm is None else cloud.url + realm)
    with serve_registry(RegistryContent(), access=access) as registry:
        text = said("--image", f"{registry.host}/v2/main", code=REFUSED)
    assert expected in text
    assert ("docker login" in text) != ("balena login" in text)


def test_a_server_that_is_too_old_or_is_none(cloud: TestCloud, said: Said) -> None:
    cloud.faults.fleet_states = False
    text = said("--fleet", "myorg/lights", code=SOURCE)
    assert "open-balena-api 7.13.1 or later is needed" in text
    assert "--apps-json" in text
    cloud.faults.garbage = True
    assert "check that it is the address of an API server" in said("--fleet", "myorg/lights", code=SOURCE)


def test_a_server_that_limits_requests(cloud: TestCloud, said: Said) -> None:
    cloud.faults.failures, cloud.faults.failure_status, cloud.faults.retry_after = 1, 429, "3600"
    assert "too many requests (status 429); try again in 3600 seconds" in said("--fleet", "myorg/lights", code=TRANSFER)


def test_a_name_without_a_server(cloud: TestCloud, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALENARC_BALENA_URL", "lan.invalid")
    text = said("--fleet", "myorg/lights", code=TRANSFER)
    assert "api.lan.invalid/v7/application: no such host" in text


def test_a_certificate_that_nobody_knows(home: Path, said: Said) -> None:
    certificate, key = self_signed("api.lan.example", "127.0.0.1").write(home, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serve_registry(RegistryContent(), tls=context) as server:
        given = ("--fleet", "myorg/lights", "--api-url", server.url)
        text = said(*given, code=TRANSFER)
        assert "the certificate is not trusted" in text
        assert "--add-certificate" in text
        assert server.count("") == 0
        # With it the server is heard, which here is none of balena's.
        assert "is" in said(*given, "--add-certificate", str(certificate), code=SOURCE)
        assert server.count("application") > 0


def test_a_server_of_plain_http_by_https(cloud: TestCloud, said: Said) -> None:
    address = cloud.url.removeprefix("http://")
    text = said("--fleet", "myorg/lights", "--api-url", f"https://{address}", code=TRANSFER)
    assert "the server does not speak TLS" in text
    assert text.endswith(f"Give the server's address as http://{address}, with --api-url")
    assert "failed" not in text
    assert cloud.requests == []


def test_plain_http_is_refused_before_the_token_goes_out(home: Path, said: Said) -> None:
    text = said("--fleet", "myorg/lights", "--api-url", "http://api.lan.example", code=USAGE)
    assert "would send the token unencrypted" in text
    assert "--insecure-registry api.lan.example" in text


def test_another_device_type_is_refused_and_may_be_asked_for(cloud: TestCloud, said: Said) -> None:
    cloud.content.fleets[0] = LIGHTS
    text = said("--fleet", "myorg/lights", code=USAGE)
    assert "the fleet myorg/lights is for raspberrypi4-64 (aarch64)" in text
    assert "--dont-check-arch" in text
    # On to the next thing that is missing.
    assert "version of the Supervisor on the disk image is not known" in said(
        "--fleet", "myorg/lights", "--dont-check-arch", code=USAGE
    )
