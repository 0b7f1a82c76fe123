"""The image of a version of the Supervisor, by name, or by the files that a build of balenaOS has."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..disk.host.input_files import read_file
from ..errors import UsageError
from ..oci import Reference
from ..progress import SILENT, Progress
from ..sources.registry import RegistryOptions
from .cloud_states import CloudServer, cloud_client
from .device_type import parse_device_type

_DEVICE_TYPE_FILES = ("device-type.json", "device_type.json")
_MAX_BYTES = 1 << 20


class SupervisorRequest(msgspec.Struct, frozen=True):
    """Which Supervisor.

    Attributes:
        version: for example ``v16.1.10``.
        arch: the device's processor in balena's words, for example ``aarch64``.
    """

    version: str
    arch: str


def supervisor_request(version: str | None, arch: str | None, directory: Path | None) -> SupervisorRequest:
    """The request for *version* and *arch*; what is None comes from *directory*: from ``VERSION`` and ``device-type.json``.

    Raises:
        UsageError: one of them is not given, and not in *directory*; or a file there cannot be read.
        DiskImageError: ``device-type.json`` is malformed.
    """
    if directory is not None:
        version = version or _version_in(directory)
        arch = arch or _arch_in(directory)
    if version is None or arch is None:
        raise UsageError("give --version and --arch, or --from DIR")
    return SupervisorRequest(version, arch)


def supervisor_image(
    request: SupervisorRequest,
    server: CloudServer | None = None,
    options: RegistryOptions | None = None,
    *,
    progress: Progress = SILENT,
) -> Reference:
    """The image of the Supervisor, by the API server's answer.

    Raises:
        UsageError: the version or the processor is malformed, or the login is.
        SourceError, ContentError: the server does not answer, or has no such Supervisor.
    """
    from .cloud import check_supervisor_version, find_supervisor_image

    check_supervisor_version(request.version, request.arch)
    with cloud_client(server or CloudServer(), options or RegistryOptions()) as client:
        step = progress.begin(f"asking {client.settings.host}")
        image = find_supervisor_image(client, request.version, request.arch)
        step.end()
    return image


def _version_in(directory: Path) -> str:
    path = directory / "VERSION"
    content = _read(path)
    if content is None:
        raise UsageError(
            f"there is no {path}: expected the Supervisor's version in it, for example v16.1.10; or give --version"
        )
    return content.decode("utf-8", "replace").strip()


def _arch_in(directory: Path) -> str:
    for name in _DEVICE_TYPE_FILES:
        content = _read(directory / name)
        if content is None:
            continue
        device_type = parse_device_type(content, str(directory / name))
        if device_type is None:
            raise UsageError(f"{directory / name} does not say the device's processor ('arch'); give --arch")
        return device_type.arch
    raise UsageError(f"there is no {directory / _DEVICE_TYPE_FILES[0]}; or give --arch")


def _read(path: Path) -> bytes | None:
    try:
        content = read_file(path, _MAX_BYTES)
    except UsageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise
    if len(content) > _MAX_BYTES:
        raise UsageError(f"{path} has more than the {_MAX_BYTES} bytes allowed")
    return content
