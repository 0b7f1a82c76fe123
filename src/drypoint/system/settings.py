"""The settings of a system's engine about its store.

Formats: daemon.json (moby, daemon/config) and dockerd's flags (moby, cmd/dockerd), the latter in systemd units. dockerd refuses
a flag with the same key in daemon.json; here the flag takes precedence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from ..fstree import TreeReader
from ..go_json import JsonError, decode_go
from ..text import printable
from .files import text_of
from .flags import engine_flags

_MAX_TEXT = 4096
"""Characters of a path or a setting: Linux's limit."""
_ENGINES = (
    (b"etc/docker/daemon.json", (b"docker.service",)),
    (b"etc/balena-engine/daemon.json", (b"balena.service", b"balena-engine.service")),
)
_FLAGS = {
    "--data-root": "data-root",
    "--graph": "data-root",
    "-g": "data-root",
    "--storage-driver": "storage-driver",
    "-s": "storage-driver",
    "--userns-remap": "userns-remap",
    "--config-file": "config-file",
    "--feature": "feature",
}
_SNAPSHOTTER = "containerd-snapshotter"


class _DaemonJson(
    msgspec.Struct,
    rename={"data_root": "data-root", "storage_driver": "storage-driver", "userns_remap": "userns-remap"},
):
    """The relevant directives of daemon.json; ``graph`` is the name of data-root before Docker 23."""

    graph: str = ""
    data_root: str = ""
    storage_driver: str = ""
    userns_remap: str = ""
    features: dict[str, bool] | None = None


class Setting(msgspec.Struct, frozen=True):
    """A value, and the file that it comes from, as a path from the system's root."""

    value: str
    source: str


class EngineSettings(msgspec.Struct, frozen=True):
    """The settings for the place and kind of an engine's store; None where not set.

    Attributes:
        data_root: an absolute path on the running system.
        storage_driver: the graph driver, such as ``overlay2``.
        userns_remap: the user that containers' root is mapped to.
        containerd_store: set if containerd's snapshotters hold the images.
        unreadable: files with which dockerd would not start, with the reason.
    """

    data_root: Setting | None = None
    storage_driver: Setting | None = None
    userns_remap: Setting | None = None
    containerd_store: Setting | None = None
    unreadable: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return self == EngineSettings()


def read_settings(reader: TreeReader, root: bytes) -> EngineSettings:
    """The engine's settings in the system whose ``/`` is the directory *root*, for Docker or balenaEngine."""
    found: dict[str, Setting] = {}
    unreadable: list[str] = []
    for config_file, units in _ENGINES:
        flags: dict[str, Setting] = {}
        for unit in units:
            source = unit.decode()
            flags.update({key: Setting(value, source) for key, value in _known_flags(engine_flags(reader, root, unit))})
        chosen = flags.pop("config-file", None)
        path = config_file if chosen is None else chosen.value.lstrip("/").encode("utf-8", "replace")
        text = text_of(reader, root, path)
        if text is not None:
            source = printable(path.decode("utf-8", "replace"))[:_MAX_TEXT]
            try:
                found.update({key: Setting(value, source) for key, value in _directives(text)})
            except JsonError as error:
                unreadable.append(f"{source} is not well formed ({error}), and the engine does not start on that")
        found.update(flags)
    return EngineSettings(
        found.get("data-root"),
        found.get("storage-driver"),
        found.get("userns-remap"),
        found.get(_SNAPSHOTTER),
        tuple(unreadable),
    )


def _directives(text: str) -> Iterator[tuple[str, str]]:
    """The relevant directives of a daemon.json, without empty and null ones.

    Raises:
        JsonError: the engine would refuse it.
    """
    text = text.removeprefix("\ufeff").strip(" \t\r\n")
    if not text:
        return
    config = decode_go(text.encode(), _DaemonJson, first=True)
    for directive, value in (
        ("data-root", config.graph),
        ("data-root", config.data_root),
        ("storage-driver", config.storage_driver),
        ("userns-remap", config.userns_remap),
    ):
        if value:
            yield directive, _checked(value)
    if _SNAPSHOTTER in (config.features or {}):
        yield _SNAPSHOTTER, "true" if (config.features or {})[_SNAPSHOTTER] else "false"


def _known_flags(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The relevant flags, in pflag's forms: ``--name=value``, ``--name value``, ``-n value``, ``-nvalue``."""
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        name, equals, value = argument.partition("=")
        if name not in _FLAGS and argument[:2] in ("-g", "-s") and not argument.startswith("--"):
            name, equals, value = argument[:2], "=", argument[2:].removeprefix("=")
        key = _FLAGS.get(name)
        if key is None:
            continue
        if not equals:
            value = arguments[position] if position < len(arguments) else ""
            position += 1
        if key == "feature":
            feature, given, state = value.partition("=")
            if feature == _SNAPSHOTTER:
                yield _SNAPSHOTTER, "true" if not given or state.lower() in ("1", "t", "true") else "false"
        elif value:
            yield key, value[:_MAX_TEXT].replace("\0", "")


def _checked(value: str) -> str:
    if len(value) > _MAX_TEXT or "\0" in value:
        raise JsonError("a setting in it is too long or holds a NUL character")
    return value
