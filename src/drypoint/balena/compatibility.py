"""Which apps.json the Supervisor on a disk image can read.

Sources: balena-supervisor's tags. Up to 6 it reads version 1, one container an app. From 7.0.0 to 12.11.43 it reads version 2;
``pinDevice`` is heeded from 7.11.0 on. From 13.0.0 on it reads version 3, and version 2 too, but for that it has to ask the
API for the uuid of each app, so that an apps.json of version 2 is of no use without a network. For none of them there is a
version that serves both sides, so the Supervisor's version has to be known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from ..digest import Digest
from ..engine import StoreState, read_state
from ..engine.layout import config_path
from ..engine.reading import StoreReader
from ..errors import UsageError
from ..fstree import TreeReader
from ..go_json import JsonError, decode_go
from ..oci.manifest import MAX_CONFIG_BYTES
from .apps_json import ONLY_2, AppsJson, AppsJsonVersion, parse_state, read_apps_json
from .apps_json_v2 import to_version_2
from .supervisor_image import REPOSITORY, is_supervisor, version_in_config

_VERSION = re.compile(r"v?([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})(?:[-+_.].*)?", re.DOTALL)
_FIRST_OF_VERSION_2 = (7, 0, 0)
_FIRST_TO_PIN = (7, 11, 0)
_FIRST_OF_VERSION_3 = (13, 0, 0)
_VERSION_LABEL = "org.opencontainers.image.version"


class SupervisorVersion(msgspec.Struct, frozen=True, order=True):
    """A release of the Supervisor; what follows the three numbers does not matter here."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def numbers(self) -> tuple[int, int, int]:
        return self.major, self.minor, self.patch


def parse_supervisor_version(text: str) -> SupervisorVersion:
    """Read ``v16.1.10`` or ``16.1.10``.

    Raises:
        UsageError: it is no version.
    """
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text[:80]!r} is no version of the Supervisor; one looks like v16.1.10")
    return SupervisorVersion(int(match[1]), int(match[2]), int(match[3]))


def supervisor_in_store(state: StoreState, configs: Mapping[str, bytes] | None = None) -> SupervisorVersion | None:
    """The version of the Supervisor in a store, None if it cannot be told.

    balenaOS tags the image as ``balena_supervisor:v<version>``. Where it does not (before 2.89.13), a tag of the repository
    that the image comes from tells; then the image's config: ``ENV VERSION``, or a label. Of
    several Supervisors the newest is meant: it is what an update left to run.

    Args:
        configs: configs of images by image id, as far as they are at hand.
    """
    by_tag = supervisor_by_tag(state.repositories)
    if by_tag is not None:
        return by_tag
    ids = _supervisor_ids(state.repositories)
    found = [version for image_id in ids if (version := _in_config((configs or {}).get(image_id, b""))) is not None]
    return max(found, default=None)


def supervisor_by_tag(repositories: Mapping[str, Mapping[str, str]]) -> SupervisorVersion | None:
    """The same, by what repositories.json says alone."""
    found = list(_tagged(repositories.get(REPOSITORY, {})))
    if not found:
        found = [version for references in _other_supervisors(repositories) for version in _tagged(references)]
    return max(found, default=None)


def read_supervisor(reader: TreeReader, data_root: bytes) -> SupervisorVersion | None:
    """The version of the Supervisor in the store at *data_root* of the tree *reader*, None if it cannot be told.

    Raises:
        StoreError: the store cannot be read.
    """
    state = read_state(reader, data_root)
    by_tag = supervisor_by_tag(state.repositories)
    if by_tag is not None:
        return by_tag
    store = StoreReader(reader, data_root)
    ids = _supervisor_ids(state.repositories) & state.images.keys()
    return supervisor_in_store(
        state, {image_id: store.content(config_path(Digest(image_id)), MAX_CONFIG_BYTES) or b"" for image_id in ids}
    )


def version_for(supervisor: SupervisorVersion) -> AppsJsonVersion:
    """The version of apps.json that *supervisor* reads, without a network too.

    Raises:
        UsageError: it is too old.
    """
    if supervisor.numbers < _FIRST_OF_VERSION_2:
        raise UsageError(
            f"the disk image has the Supervisor {supervisor}, which knows one container only and reads an apps.json of "
            "version 1; 7.0.0 or later is needed. Take a newer balenaOS"
        )
    return 2 if supervisor.numbers < _FIRST_OF_VERSION_3 else 3


def fit(apps: AppsJson, supervisor: SupervisorVersion, what: str = "apps.json") -> AppsJson:
    """*apps* as *supervisor* can read it: as it is, or made into version 2.

    Args:
        what: how errors name it.

    Raises:
        UsageError: it cannot be; the reason is told.
    """
    wanted = version_for(supervisor)
    if wanted == 3 and apps.version == 2:
        raise UsageError(
            f"{what} is of version 2, and the disk image has the Supervisor {supervisor}, which reads such a file only when it "
            "can ask the API for each app's uuid, and not offline. Get one of version 3 (--fleet, or --save-apps-json)"
        )
    if apps.pin_device and supervisor.numbers < _FIRST_TO_PIN:
        raise UsageError(
            f"{what} pins the device to its release, of which the disk image's Supervisor {supervisor} knows nothing: "
            "{}.{}.{} or later is needed. Take a newer balenaOS, or do not pin".format(*_FIRST_TO_PIN)
        )
    if wanted == apps.version:
        return apps
    made = to_version_2(parse_state(apps.content, what))
    return read_apps_json(
        msgspec.json.encode(made, order="sorted"), f"{what} for the Supervisor {supervisor} (version 2)", ONLY_2
    )


def _supervisor_ids(repositories: Mapping[str, Mapping[str, str]]) -> set[str]:
    named = [repositories.get(REPOSITORY, {}), *_other_supervisors(repositories)]
    return {image_id for references in named for image_id in references.values()}


def _other_supervisors(repositories: Mapping[str, Mapping[str, str]]) -> list[Mapping[str, str]]:
    return [
        references for name, references in sorted(repositories.items()) if name != REPOSITORY and is_supervisor(name)
    ]


def _tagged(references: Iterable[str]) -> Iterable[SupervisorVersion]:
    for reference in references:
        if "@" in reference:
            continue
        match = _VERSION.fullmatch(reference.rpartition(":")[2])
        if match is not None:
            yield SupervisorVersion(int(match[1]), int(match[2]), int(match[3]))


class _RawContainerConfig(msgspec.Struct, rename="pascal"):
    labels: dict[str, str] | None = None


class _RawConfig(msgspec.Struct):
    config: _RawContainerConfig | None = None


def _in_config(content: bytes) -> SupervisorVersion | None:
    # The Supervisor's Dockerfile sets the variable. A label comes second: it may be that of the image it was built on.
    for text in (version_in_config(content) or "", _label(content)):
        if (match := _VERSION.fullmatch(text)) is not None:
            return SupervisorVersion(int(match[1]), int(match[2]), int(match[3]))
    return None


def _label(content: bytes) -> str:
    try:
        config = decode_go(content, _RawConfig).config
    except JsonError:
        return ""
    labels = config.labels if config is not None else None
    return (labels or {}).get(_VERSION_LABEL, "")
