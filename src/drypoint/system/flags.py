"""The command-line flags of the engine, from the system's init configuration.

Formats: systemd.unit(5), systemd.service(5), systemd.exec(5) for ExecStart and the variables in it; the variable DOCKER_OPTS
of etc/default/docker, as in Debian's unit and the init scripts before systemd.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from ..fstree import TreeReader, join
from .files import names_in, text_of

_UNIT_DIRECTORIES = (
    b"etc/systemd/system",
    b"usr/local/lib/systemd/system",
    b"usr/lib/systemd/system",
    b"lib/systemd/system",
)
"""systemd's directories in order of precedence: a unit or drop-in in an earlier one replaces that of the same name."""
_DEFAULTS = (b"etc/default/docker", b"etc/conf.d/docker")
"""The files for init scripts: Debian's and, on OpenRC, Alpine's."""
_PROGRAMS = ("dockerd", "balenad", "balena-engine-daemon")
_LINE_CONTINUED = re.compile(r"\\\r?\n")
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


def engine_flags(reader: TreeReader, root: bytes, unit: bytes) -> tuple[str, ...]:
    """The arguments of the engine in the service *unit*; empty if unknown.

    Args:
        root: the directory of *reader*'s tree that is the running system's ``/``.
        unit: such as ``docker.service``.
    """
    commands: list[str] = []
    variables: dict[str, str] = {}
    texts = list(_unit_texts(reader, root, unit))
    for text in texts:
        for key, value in _service_lines(text):
            match key:
                case "ExecStart":
                    # An empty one resets those before it.
                    commands = [*commands, value] if value else []
                case "Environment":
                    variables.update(_assignments(_words(value)))
                case "EnvironmentFile":
                    content = text_of(reader, root, value.lstrip("-").lstrip("/").encode("utf-8", "replace"))
                    variables.update(_assignments(_environment_words(content or "")))
                case _:
                    pass
    if not texts and unit == b"docker.service":
        for path in _DEFAULTS:
            variables.update(_assignments(_environment_words(text_of(reader, root, path) or "")))
        commands = ["dockerd $DOCKER_OPTS"]
    found = [argument for command in commands for argument in _arguments(command, variables)]
    if "DOCKER_DRIVER" in variables:
        # It takes precedence over every other setting of the driver.
        found.append(f"--storage-driver={variables['DOCKER_DRIVER']}")
    return tuple(found)


def _unit_texts(reader: TreeReader, root: bytes, unit: bytes) -> Iterator[str]:
    """The unit's file, then its drop-ins by name."""
    for directory in _UNIT_DIRECTORIES:
        text = text_of(reader, root, join(directory, unit))
        if text is not None:
            yield text
            break
    drop_ins: dict[bytes, bytes] = {}
    for directory in _UNIT_DIRECTORIES:
        for name in names_in(reader, root, join(directory, unit + b".d")):
            if name.endswith(b".conf"):
                drop_ins.setdefault(name, join(directory, unit + b".d", name))
    for name in sorted(drop_ins):
        text = text_of(reader, root, drop_ins[name])
        if text is not None:
            yield text


def _service_lines(text: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in _LINE_CONTINUED.sub(" ", text).splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line
        elif section == "[Service]" and not line.startswith(("#", ";")) and "=" in line:
            key, _, value = line.partition("=")
            yield key.strip(), value.strip()


def _arguments(command: str, variables: dict[str, str]) -> Sequence[str]:
    """The words after the engine's program in *command*. As in systemd, a word that is a variable is split into words."""
    words: list[str] = []
    for word in _words(command):
        whole = re.fullmatch(r"\$(\w+)", word)
        if whole is not None:
            words += _words(variables.get(whole[1], ""))
        elif " " in word and any(program in word for program in _PROGRAMS):
            # A script of ``sh -c``.
            words += _words(word)
        else:
            words.append(_VARIABLE.sub(lambda found: variables.get(found[1] or found[2], ""), word))
    for position, word in enumerate(words):
        if word.rpartition("/")[2] in _PROGRAMS:
            return words[position + 1 :]
    return ()


def _environment_words(text: str) -> list[str]:
    return [word for line in text.splitlines() if not line.lstrip().startswith("#") for word in _words(line)]


def _assignments(words: Sequence[str]) -> dict[str, str]:
    return {name: value for name, equals, value in (word.partition("=") for word in words) if equals}


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        # An open quote, which neither a shell nor systemd accepts.
        return []
