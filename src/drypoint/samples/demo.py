"""What the demo preloads: a disk image, two applications, and a registry that serves them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ..errors import OutputError
from ..fstree.extra_file import ExtraFile
from ..jobs.request import ImageRequest, PreloadRequest
from ..oci import Platform, parse_reference
from ..sources.registry import RegistryOptions, RegistrySource, StaticCredentials
from .applications import sample_images
from .disk_images import EPOCH, RASPBERRY_PI_4, build_disk_image
from .images import registry_content
from .registry import serve_registry

_PLATFORM = Platform("linux", "arm64")


class DemoFiles(msgspec.Struct, frozen=True):
    """The demo's files in *directory*."""

    directory: Path

    @property
    def base(self) -> Path:
        return self.directory / "base.img"

    @property
    def apps_json(self) -> Path:
        return self.directory / "apps.json"

    @property
    def out(self) -> Path:
        return self.directory / "preloaded.img"


class DemoRegistry(msgspec.Struct, frozen=True):
    """A registry that serves the applications.

    Attributes:
        host: where it listens.
        references: the images.
        request: preloads them and their apps.json.
    """

    host: str
    references: tuple[str, ...]
    request: PreloadRequest


def make_base(directory: Path) -> DemoFiles:
    """Make the disk image, with the layout of balenaOS for a Raspberry Pi 4 and an empty store, in an empty directory.

    Raises:
        OutputError: *directory* cannot be made, or has more than the files of an earlier demo, and is not touched then.
    """
    files = DemoFiles(directory)
    own = (files.base, files.apps_json, files.out)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in directory.iterdir() if path not in own)
        if others:
            raise OutputError(
                f"{directory} holds {others[0]!r}, which is not a file of the demo; choose another directory"
            )
        for path in own:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {directory}: {error.strerror}") from error
    build_disk_image(files.base, device_type=RASPBERRY_PI_4)
    return files


@contextmanager
def demo_registry(files: DemoFiles) -> Iterator[DemoRegistry]:
    """Serve the applications on loopback, and write the apps.json that names them."""
    images = sample_images(_PLATFORM)
    with serve_registry(registry_content(images)) as registry:
        references = tuple(f"{registry.host}/{name.partition(':')[0]}@{image.digest}" for name, image in images.items())
        files.apps_json.write_text(json.dumps(_target_state(references), indent=2))
        options = RegistryOptions(credentials=StaticCredentials({}), environment={})
        with RegistrySource(options) as source:
            request = PreloadRequest(
                [ImageRequest(parse_reference(reference), source) for reference in references],
                _PLATFORM,
                files=(ExtraFile(b"apps.json", files.apps_json.read_bytes()),),
                timestamp=EPOCH,
            )
            yield DemoRegistry(registry.host, references, request)


def _target_state(references: tuple[str, ...]) -> dict[str, object]:
    services = {
        reference.rpartition("/")[2].partition("@")[0]: {
            "id": number,
            "image_id": number,
            "image": reference,
            "environment": {},
            "labels": {},
            "composition": {},
        }
        for number, reference in enumerate(references, 1)
    }
    release = {"id": 1, "services": services, "volumes": {}, "networks": {}}
    app = {"id": 1, "name": "demo", "is_host": False, "class": "fleet", "releases": {"cafe" * 8: release}}
    return {"apps": {"beef" * 8: app}, "config": {}, "pinDevice": False}
