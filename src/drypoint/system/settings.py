"""What a system's files tell its engine about its store.

Formats: daemon.json (moby, daemon/config) and dockerd's flags (moby, cmd/dockerd), the latter in systemd units. A flag and the
same key in daemon.json are an error to dockerd; here the flag counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ..fstree import TreeReader
from .files import text_of
from .flags import engine_flags

DEFAULT_DATA_ROOT = b"docker"
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


class Setting(msgspec.Struct, frozen=True):
    """What is said, and which file says so, a path from the system's root."""

    value: str
    source: str


class EngineSettings(msgspec.Struct, frozen=True):
    """What decides where an engine's store is and of which kind; None where nothing is said.

    Attributes:
        data_root: an absolute path on the running system.
        storage_driver: the graph driver, ``overlay2`` say.
        userns_remap: the user that containers' root is mapped to.
        containerd_store: set where images are kept by containerd's snapshotters.
        unreadable: files that dockerd itself would not start with, with the reason.
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
    """What the system whose ``/`` is the directory *root* tells its engine, be it Docker or balenaEngine."""
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
            source = path.decode("utf-8", "replace")
            try:
                found.update({key: Setting(value, source) for key, value in _directives(text)})
            except ValueError as error:
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
    """The directives of a daemon.json that matter, empty and null ones left out.

    Raises:
        ValueError: it is not a JSON object.
    """
    text = text.removeprefix("\ufeff").lstrip(" \t\r\n")
    if not text:
        return
    try:
        # What follows the first value is passed over, as by Go's Decoder.
        config, _ = json.JSONDecoder().raw_decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if config is None:
        return
    if not isinstance(config, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004  # the one error for what is not a daemon.json
    for key, directive in (
        ("graph", "data-root"),
        ("data-root", "data-root"),
        ("storage-driver", "storage-driver"),
        ("userns-remap", "userns-remap"),
    ):
        value = _member(config, key)
        if isinstance(value, str) and value:
            yield directive, value
    features = _member(config, "features")
    if isinstance(features, dict) and isinstance(features.get(_SNAPSHOTTER), bool):
        yield _SNAPSHOTTER, json.dumps(features[_SNAPSHOTTER])


def _member(config: Mapping[str, object], key: str) -> object:
    """The member *key*, the exact one first, else the last in another case."""
    if key in config:
        return config[key]
    return next((value for name, value in reversed(list(config.items())) if name.lower() == key), None)


def _known_flags(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The flags that matter, as pflag reads them: ``--name=value``, ``--name value``, ``-n value``, ``-nvalue``."""
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
            yield key, value
