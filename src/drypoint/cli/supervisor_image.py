"""``drypoint supervisor-image``: which image the Supervisor of a version is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..balena.cloud_states import CloudServer, cloud_client
from ..errors import UsageError
from . import render
from .cloud_options import server_options

if TYPE_CHECKING:
    from ..balena.device_type import DeviceType

_DEVICE_TYPE_FILES = ("device-type.json", "device_type.json")
_MAX_BYTES = 1 << 20
_EXAMPLES = """\b
Examples:
  drypoint supervisor-image --version v16.1.10 --arch aarch64
  drypoint supervisor-image --from in
  drypoint preload base.img -o out.img --supervisor-image "$(drypoint supervisor-image --from in)"
"""


@click.command("supervisor-image", epilog=_EXAMPLES)
@click.option("--version", metavar="VERSION", help="The Supervisor's version, for example v16.1.10.")
@click.option("--arch", metavar="ARCH", help="The device's processor: aarch64, amd64, armv7hf, i386 or rpi.")
@click.option(
    "--from", "directory", type=click.Path(path_type=Path), metavar="DIR",
    help="Take both from DIR: the version from the file VERSION, the processor from device-type.json.",
)  # fmt: skip
@server_options
@click.option(
    "--insecure-registry", "insecure_registries", multiple=True, metavar="HOST[:PORT]",
    help="A server that may be accessed by plain http. This machine always may. May be repeated.",
)  # fmt: skip
@click.option(
    "--add-certificate", "certificates", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="A PEM file of certificate authorities to trust in addition to the system's. May be repeated.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@render.output_options
def command(
    version: str | None,
    arch: str | None,
    directory: Path | None,
    server: CloudServer,
    insecure_registries: tuple[str, ...],
    certificates: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Print the name of the Supervisor's image, from balena's API, as the build of balenaOS does.

    The name is for --supervisor-image of preload. No login is needed on balenaCloud.
    """
    from ..balena.cloud import check_supervisor_version, find_supervisor_image
    from ..sources.registry import RegistryOptions

    render.set_up(verbose)
    if directory is not None:
        version = version or _version_in(directory)
        arch = arch or _device_type_in(directory).arch
    if version is None or arch is None:
        raise UsageError("give --version and --arch, or --from DIR")
    check_supervisor_version(version, arch)
    options = RegistryOptions(insecure_registries=insecure_registries, ca_files=certificates)
    with render.progress(quiet=quiet or as_json) as progress, cloud_client(server, options) as client:
        step = progress.begin(f"asking {client.settings.host}")
        image = find_supervisor_image(client, version, arch)
        step.end()
    if as_json:
        render.json({"image": str(image), "version": version, "arch": arch})
    else:
        render.line(str(image))


def _version_in(directory: Path) -> str:
    path = directory / "VERSION"
    content = _read(path)
    if content is None:
        raise UsageError(
            f"there is no {path}: expected the Supervisor's version in it, for example v16.1.10; or give --version"
        )
    return content.decode("utf-8", "replace").strip()


def _device_type_in(directory: Path) -> DeviceType:
    from ..balena.device_type import parse_device_type

    for name in _DEVICE_TYPE_FILES:
        content = _read(directory / name)
        if content is None:
            continue
        device_type = parse_device_type(content, str(directory / name))
        if device_type is None:
            raise UsageError(f"{directory / name} does not say the device's processor ('arch'); give --arch")
        return device_type
    raise UsageError(f"there is no {directory / _DEVICE_TYPE_FILES[0]}; or give --arch")


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise UsageError(f"{path} has more than the {_MAX_BYTES} bytes allowed")
    return content
