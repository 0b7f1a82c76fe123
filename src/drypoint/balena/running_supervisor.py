"""Finding the Supervisor that a device starts.

Sources: meta-balena, start-balena-supervisor: it starts the image that supervisor.conf names, whatever else is in the store.
docker-disk/files/entry.sh tags the image when the OS is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ..digest import Digest
from ..disk import Device
from ..errors import InvalidReferenceError
from ..fstree import TreeReader
from ..go_json import JsonError, decode_go
from ..oci import parse_reference
from ..stores import Names, detect
from .os_root import SupervisorConf, read_supervisor_conf
from .supervisor_image import REPOSITORY, is_supervisor, version_in_config
from .supervisor_version import SupervisorVersion, version_in

_VERSION_LABEL = "org.opencontainers.image.version"


class RunningSupervisor(msgspec.Struct, frozen=True):
    """The Supervisor that reads apps.json.

    Attributes:
        said_by: the source of its version, for messages.
        note: a sentence if another source has a different version; else empty.
    """

    version: SupervisorVersion
    said_by: str
    note: str = ""


def find_supervisor(device: Device, reader: TreeReader, data_root: bytes) -> RunningSupervisor | None:
    """The Supervisor that the balenaOS on *device* starts; None if unknown.

    supervisor.conf of the root file system decides; without one, the store at *data_root* of *reader*, the tree of the data
    partition.

    Raises:
        DiskImageError: the partition table is damaged.
        StoreError: the store cannot be read.
    """
    store = detect(data_root).read(reader)
    names, images = store.contents.names, store.contents.images
    conf = read_supervisor_conf(device)
    named = None if conf is None else _image_of(conf, names)
    ids = (_supervisor_ids(names) | ({named} if named is not None else set())) & images.keys()
    configs = {image_id: store.config(reader, Digest(image_id)) or b"" for image_id in ids}
    return supervisor_by(conf, names, configs)


def supervisor_by(
    conf: SupervisorConf | None,
    names: Names,
    configs: Mapping[str, bytes] | None = None,
) -> RunningSupervisor | None:
    """The Supervisor that *conf* starts, or without it the one in a store; None if neither names one.

    The version is that of the image that *conf* names, if the store has it, else the one in *conf*.

    Args:
        names: those in the store.
        configs: configs of images by image id, as far as available.
    """
    stored = supervisor_in_store(names, configs)
    named = None if conf is None else _image_of(conf, names)
    said = None if conf is None else version_in(conf.version)
    own = None if named is None else _version_of(named, names, configs or {})
    version = own or said
    if conf is None or version is None:
        return None if stored is None else RunningSupervisor(stored, "the engine's store")
    if own is not None and said is not None and own != said:
        note = f"{conf.place} says {said}, but the image that it names is {own}"
    elif stored is not None and stored != version:
        note = f"the engine's store has the Supervisor {stored}, but {conf.place} starts {version}"
    else:
        note = ""
    return RunningSupervisor(version, conf.place, note)


def _image_of(conf: SupervisorConf, names: Names) -> str | None:
    """The id of the image that *conf* names; None if the store does not have it."""
    try:
        reference = parse_reference(conf.image)
    except InvalidReferenceError:
        return None
    exact = reference if reference.digest is None else reference.with_digest(reference.digest)
    return names.get(reference.familiar_name, {}).get(exact.familiar)


def _version_of(image_id: str, names: Names, configs: Mapping[str, bytes]) -> SupervisorVersion | None:
    """The version of an image, from its config, else from its tags."""
    tags = [text for references in names.values() for text, one in references.items() if one == image_id]
    return max(_tagged(tags), default=None) or _in_config(configs.get(image_id, b""))


def supervisor_in_store(names: Names, configs: Mapping[str, bytes] | None = None) -> SupervisorVersion | None:
    """The version of the Supervisor in a store; None if unknown.

    balenaOS tags the image as ``balena_supervisor:v<version>``. If it does not (before 2.89.13), the version is from a tag of
    the image's repository, else from its config: ``ENV VERSION``, or a label. Of several Supervisors, the newest counts.

    Args:
        names, configs: see :func:`supervisor_by`.
    """
    found = list(_tagged(names.get(REPOSITORY, {})))
    if not found:
        found = [version for references in _other_supervisors(names) for version in _tagged(references)]
    if not found:
        ids = _supervisor_ids(names)
        found = [version for one in ids if (version := _in_config((configs or {}).get(one, b""))) is not None]
    return max(found, default=None)


def _supervisor_ids(names: Names) -> set[str]:
    named = [names.get(REPOSITORY, {}), *_other_supervisors(names)]
    return {image_id for references in named for image_id in references.values()}


def _other_supervisors(names: Names) -> list[Mapping[str, str]]:
    return [references for name, references in sorted(names.items()) if name != REPOSITORY and is_supervisor(name)]


def _tagged(references: Iterable[str]) -> Iterable[SupervisorVersion]:
    for reference in references:
        if "@" in reference:
            continue
        version = version_in(reference.rpartition(":")[2])
        if version is not None:
            yield version


class _RawContainerConfig(msgspec.Struct, rename="pascal"):
    labels: dict[str, str] | None = None


class _RawConfig(msgspec.Struct):
    config: _RawContainerConfig | None = None


def _in_config(content: bytes) -> SupervisorVersion | None:
    # The Supervisor's Dockerfile sets the variable. A label comes second: it may be from the base image.
    for text in (version_in_config(content) or "", _label(content)):
        if (version := version_in(text)) is not None:
            return version
    return None


def _label(content: bytes) -> str:
    try:
        config = decode_go(content, _RawConfig).config
    except JsonError:
        return ""
    labels = config.labels if config is not None else None
    return (labels or {}).get(_VERSION_LABEL, "")
