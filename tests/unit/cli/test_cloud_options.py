"""What the options about fleets mean together, and the command that names the Supervisor's image."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tests.support.cloud import serve_cloud
from tests.support.cloud_fixtures import (
    DIGEST,
    REGISTRY,
    TOKEN,
    content,
)

from drypoint.balena.cloud_states import CloudServer
from drypoint.cli.app import cli
from drypoint.cli.cloud_options import CloudInputs, cloud_options, cloud_server
from drypoint.errors import DrypointError, UsageError


def test_the_options_come_together() -> None:
    @click.command()
    @cloud_options
    def command(cloud: CloudInputs) -> None:
        seen.append(cloud)

    seen: list[CloudInputs] = []
    command.main(
        ["--fleet", "a/b", "--fleet", "c/d", "--commit", "latest", "--no-pin-device-to-release", "--token", "secret",
         "--api-url", "u", "--save-apps-json", "f", "--dont-check-arch"], standalone_mode=False,
    )  # fmt: skip
    command.main([], standalone_mode=False)
    assert seen == [
        CloudInputs(("a/b", "c/d"), "latest", None, False, "secret", None, "u", Path("f"), True), CloudInputs()
    ]  # fmt: skip
    assert "secret" not in repr(seen[0])
    assert "secret" not in repr(seen[0].server)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["supervisor-image", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_supervisors_image_is_named(tmp_path: Path) -> None:
    image = f"{REGISTRY}/v2/supervisor50:v16.1.10@{DIGEST}"
    (tmp_path / "VERSION").write_text("16.1.10\n")
    (tmp_path / "device_type.json").write_text('{"slug": "raspberrypi4-64", "arch": "aarch64"}')
    with serve_cloud(content()) as cloud:
        server = ("--api-url", cloud.url, "--token", TOKEN, "-q")
        assert run("--version", "v16.1.10", "--arch", "aarch64", *server) == image + "\n"
        assert run("--from", str(tmp_path), *server) == image + "\n"
        assert json.loads(run("--from", str(tmp_path), "--json", *server)) == {
            "image": image, "version": "16.1.10", "arch": "aarch64"
        }  # fmt: skip


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "there is no .*VERSION"),
        ({"VERSION": "v1.2.3"}, "there is no .*device-type.json"),
        ({"VERSION": "v1.2.3", "device-type.json": "{}"}, "does not say the device's processor"),
        ({"VERSION": "v1.2.3", "device-type.json": "x"}, "not well formed"),
        ({"VERSION": "v" * (2 << 20)}, "more than the"),
    ],
)
def test_a_directory_that_lacks_something(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DrypointError, match=said):
        run("--from", str(tmp_path))
    with pytest.raises(UsageError, match="give --version and --arch"):
        run("--arch", "rpi")


@pytest.mark.parametrize(("version", "arch"), [("17", "aarch64"), ("v17.0.0", "AArch 64")])
def test_a_malformed_version_is_refused_before_the_server_is_asked(version: str, arch: str) -> None:
    given = ["supervisor-image", "--version", version, "--arch", arch, "--api-url", "https://api.lan.invalid"]
    done = CliRunner().invoke(cli, given)
    assert isinstance(done.exception, UsageError)
    assert "asking" not in done.output


def test_a_token_comes_from_a_file_or_a_descriptor(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" secret\n")
    assert cloud_server(None, file, "u") == CloudServer("secret", "u")
    reader, writer = os.pipe()
    os.write(writer, b"other\n")
    os.close(writer)
    try:
        assert cloud_server(None, Path(f"/dev/fd/{reader}"), None) == CloudServer("other", None)
    finally:
        os.close(reader)


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"a\nb", b"\xff\xfe", b"a" * (1 << 17), b"a\x1bb"])
def test_what_holds_no_token_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="does not hold a token: expected one word") as refused:
        cloud_server(None, file, None)
    assert "words" not in str(refused.value)


def test_a_token_is_given_once_and_its_file_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give either --token or --token-file"):
        cloud_server("secret", tmp_path / "token", None)
    with pytest.raises(UsageError, match=r"cannot read .*token: No such file"):
        cloud_server(None, tmp_path / "token", None)
