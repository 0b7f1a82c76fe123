"""The images that a Compose file names.

Format: the Compose Specification (docs.docker.com/reference/compose-file): ``services.NAME.image``, with variables expanded.
What only Compose can resolve (``extends``, ``include``) is refused if it affects an image; ``docker compose config`` writes a
file without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import msgspec

from ..errors import InvalidReferenceError, UsageError
from ..oci import Reference, parse_reference
from . import yaml_nodes
from .interpolation import interpolate
from .yaml_nodes import Items, Node, Scalar, load_yaml, values_of

MAX_BYTES = 1 << 20
_MAX_TEXT = 4096
_FIELDS = ("services", "include", "image", "extends", "build", "profiles")
_RESOLVE = "run docker compose config, which writes a file without it, and use that file"


class ComposeImages(msgspec.Struct, frozen=True):
    """The images that a Compose file names.

    Attributes:
        images: of the services that start by default, in the file's order, each once.
        left_out: services that start only with a profile, and so are not preloaded.
    """

    images: tuple[Reference, ...]
    left_out: tuple[str, ...]


def read_compose(content: bytes, what: str, environment: Mapping[str, str]) -> ComposeImages:
    """Parse a Compose file; *what* is its name in messages, *environment* has the values of variables.

    Raises:
        UsageError: it is too large, is not YAML, or is not a Compose file; a service has no image, or one that only Compose can
            resolve; a required variable is not set.
    """
    services = _services(content, what)
    images: dict[Reference, None] = {}
    left_out: list[str] = []
    for name, service in services.items():
        where = f"{what}: service {name[:80]!r}"
        if not isinstance(service, yaml_nodes.Mapping):
            raise UsageError(f"{where}: expected a mapping")
        if not _is_empty(service.fields.get("profiles")):
            left_out.append(name)
            continue
        images[_image(service, where, environment)] = None
    return ComposeImages(tuple(images), tuple(left_out))


def _decode(content: bytes, what: str) -> str:
    if len(content) > MAX_BYTES:
        raise UsageError(f"{what} has more than {MAX_BYTES} bytes, too many for a Compose file")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} is not UTF-8 text: {error}") from error


def _services(content: bytes, what: str) -> dict[str, Node]:
    document = load_yaml(_decode(content, what), what, _FIELDS)
    services = document.fields.get("services") if isinstance(document, yaml_nodes.Mapping) else None
    if not isinstance(services, yaml_nodes.Mapping):
        raise UsageError(f"{what} is not a Compose file: expected a mapping 'services' at the top")
    if isinstance(document, yaml_nodes.Mapping) and not _is_empty(document.fields.get("include")):
        raise UsageError(f"{what} includes other files, which are not followed; {_RESOLVE}")
    return values_of(services)


def _is_empty(node: Node | None) -> bool:
    match node:
        case None:
            return True
        case Scalar():
            return node.kind == "null" or not node.text
        case Items():
            return not node.nodes
        case yaml_nodes.Mapping():
            return not (node.own or node.merged)
        case _:
            assert_never(node)


def _image(service: yaml_nodes.Mapping, where: str, environment: Mapping[str, str]) -> Reference:
    node = service.fields.get("image")
    is_missing = node is None or (isinstance(node, Scalar) and node.kind == "null")
    if is_missing and "extends" in service.fields:
        raise UsageError(f"{where} gets its image from another service (extends), which is not followed; {_RESOLVE}")
    if is_missing and "build" in service.fields:
        raise UsageError(
            f"{where} is built and names no image: build it, push it to a registry, and add an image: line"
        )
    if not isinstance(node, Scalar) or node.kind != "str" or not node.text:
        raise UsageError(f"{where}: expected image: to be a text")
    image = node.text
    text = interpolate(image[:_MAX_TEXT], environment, where)
    try:
        return parse_reference(text)
    except InvalidReferenceError as error:
        unset = "" if text == image else f" (from {image[:100]!r})"
        raise UsageError(f"{where}: {error}{unset}") from error
