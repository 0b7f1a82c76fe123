"""The images that a Compose file names.

Format: the Compose Specification (docs.docker.com/reference/compose-file): ``services.NAME.image``, with its interpolation of
``$VAR``, ``${VAR}`` and the ``:-`` ``-`` ``:?`` ``?`` ``:+`` ``+`` forms, nested ones too. What only Compose itself can work
out (``extends``, ``include``) is refused where it matters; ``docker compose config`` writes a file without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from ..errors import InvalidReferenceError, UsageError
from ..oci import Reference, parse_reference

MAX_BYTES = 1 << 20
_MAX_DEPTH = 16
_MAX_TEXT = 4096
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESOLVE = "docker compose config writes a file in which all is resolved: give that one"


class ComposeImages(msgspec.Struct, frozen=True):
    """What a Compose file comes to.

    Attributes:
        images: of the services that start by default, in the file's order, each once.
        left_out: services that start only with a profile, and so are not preloaded.
    """

    images: tuple[Reference, ...]
    left_out: tuple[str, ...]


def read_compose(content: bytes, what: str, environment: Mapping[str, str]) -> ComposeImages:
    """Read a Compose file; *what* names it in messages, *environment* fills its variables.

    Raises:
        UsageError: it is too large, no YAML, no Compose file; a service has no image or one that cannot be told from the file
            alone; a variable that has to be set is not.
    """
    services = _services(content, what)
    images: dict[Reference, None] = {}
    left_out: list[str] = []
    for name, service in services.items():
        where = f"{what}: service {str(name)[:80]!r}"
        if not isinstance(service, dict):
            raise UsageError(f"{where}: expected a mapping")
        if service.get("profiles"):
            left_out.append(str(name))
            continue
        images[_image(service, where, environment)] = None
    return ComposeImages(tuple(images), tuple(left_out))


def read_environment(content: bytes, what: str) -> dict[str, str]:
    """The variables of a ``.env`` file: ``NAME=VALUE`` lines, quotes around the value taken off, ``#`` lines passed over.

    Raises:
        UsageError: it is too large, or a line is none of these.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(_decode(content, what).splitlines(), 1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or _NAME.fullmatch(name.strip()) is None:
            raise UsageError(f"{what}, line {number}: expected NAME=VALUE")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        else:
            value = re.split(r"\s#", value, maxsplit=1)[0].rstrip()
        found[name.strip()] = value
    return found


def interpolate(text: str, environment: Mapping[str, str], where: str) -> str:
    """*text* with its variables filled in; one that is not set becomes nothing, as in Compose.

    Raises:
        UsageError: a form that Compose does not know, or a variable that has to be set.
    """
    result = "".join(_interpolated(text, environment, where, 0))
    if len(result) > _MAX_TEXT:
        raise UsageError(f"{where}: with its variables filled in it has more than {_MAX_TEXT} characters")
    return result


def _decode(content: bytes, what: str) -> str:
    if len(content) > MAX_BYTES:
        raise UsageError(f"{what} has more than {MAX_BYTES} bytes, too many for a Compose file or its variables")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} is not UTF-8 text: {error}") from error


def _services(content: bytes, what: str) -> dict[object, object]:
    # Loading it takes longer than all else that happens at start.
    import yaml

    try:
        document: object = yaml.safe_load(_decode(content, what))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        shown = " ".join(str(error).split())
        raise UsageError(f"{what} is not well formed: {shown[:300]}") from error
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        raise UsageError(f"{what} is no Compose file: expected a mapping 'services' at the top")
    if isinstance(document, dict) and document.get("include"):
        raise UsageError(f"{what} includes other files, which are not followed; {_RESOLVE}")
    return services


def _image(service: dict[object, object], where: str, environment: Mapping[str, str]) -> Reference:
    image = service.get("image")
    if image is None and "extends" in service:
        raise UsageError(f"{where} gets its image from another service (extends), which is not followed; {_RESOLVE}")
    if image is None and "build" in service:
        raise UsageError(
            f"{where} is built and names no image: build it, push it to a registry, and give it an image: name"
        )
    if not isinstance(image, str) or not image:
        raise UsageError(f"{where}: expected an image, as a text")
    text = interpolate(image[:_MAX_TEXT], environment, where)
    try:
        return parse_reference(text)
    except InvalidReferenceError as error:
        unset = "" if text == image else f" (from {image[:100]!r})"
        raise UsageError(f"{where}: {error}{unset}") from error


def _interpolated(text: str, environment: Mapping[str, str], where: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise UsageError(f"{where}: its variables are nested more than {_MAX_DEPTH} deep")
    position = 0
    while True:
        dollar = text.find("$", position)
        if dollar < 0:
            yield text[position:]
            return
        yield text[position:dollar]
        if text.startswith("$$", dollar):
            yield "$"
            position = dollar + 2
        elif text.startswith("${", dollar):
            end = _closing(text, dollar + 2, where)
            yield _braced(text[dollar + 2 : end], environment, where, depth)
            position = end + 1
        elif (name := _NAME.match(text, dollar + 1)) is not None:
            yield environment.get(name[0], "")
            position = name.end()
        else:
            yield "$"
            position = dollar + 1


def _closing(text: str, start: int, where: str) -> int:
    """Where the brace that opened before *start* closes."""
    depth = 1
    for position in range(start, len(text)):
        if text.startswith("${", position):
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
    raise UsageError(f"{where}: ${{ without a closing brace in {text[:100]!r}")


def _braced(expression: str, environment: Mapping[str, str], where: str, depth: int) -> str:
    name = _NAME.match(expression)
    if name is None:
        raise UsageError(f"{where}: ${{{expression[:100]}}} names no variable")
    rest = expression[name.end() :]
    value = environment.get(name[0])
    if not rest:
        return value or ""
    operator, operand = (rest[:2], rest[2:]) if rest[0] == ":" else (rest[:1], rest[1:])
    present = value if operator[0] != ":" else value or None

    def filled() -> str:
        return "".join(_interpolated(operand, environment, where, depth + 1))

    match operator[-1:]:
        case "-":
            return filled() if present is None else present
        case "+":
            return "" if present is None else filled()
        case "?":
            if present is None:
                raise UsageError(f"{where}: the variable {name[0]} has to be set: {filled()[:200] or 'it is required'}")
            return present
        case _:
            raise UsageError(f"{where}: Compose knows no form ${{{expression[:100]}}}")
