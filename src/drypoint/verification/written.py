"""Read back what was written, and verify it."""

from __future__ import annotations

from itertools import chain

import msgspec

from ..digest import Digest
from ..disk import Device
from ..errors import VerificationError
from ..oci import Reference
from ..progress import Progress
from ..stores import detect
from ..volumes.volume import Volume
from . import Finding, LayerProcesses, RequiredImagesReader, Severity, check_file_system, verify_store
from .filesystem import checkers
from .kinds import SECTIONS

_SHOWN = 3
_ASKED_FOR = frozenset(SECTIONS["What the device will ask for"])
_NOT_SAVED = frozenset({"cut-off-tar", "not-rebuildable"})


class WrittenStore(msgspec.Struct, frozen=True):
    """A store that was written, and what must be in it.

    Attributes:
        root: the engine's data root, a clean path.
        references: names that must resolve to an image that loads.
        layers: chain-ids whose content is rebuilt and hashed; None for all.
        known: (code, path) of findings that the base had before: this job did not cause them, and they do not stop it.
    """

    root: bytes
    references: tuple[Reference, ...] = ()
    layers: frozenset[Digest] | None = None
    known: frozenset[tuple[str, bytes]] = frozenset()


def verify_written(
    volume: Volume,
    store: WrittenStore,
    *,
    around: Device | None = None,
    required_images: RequiredImagesReader | None = None,
    processes: LayerProcesses | None = None,
    progress: Progress,
) -> None:
    """Verify *store* in *volume*, and the file system.

    Args:
        around: the file system that holds the disk image of *volume* as a file, if one does; it is checked too.
        required_images: finds the images that the device will ask for: each of them must be there.
        processes: processes to read layers with, where that pays off; otherwise threads of this one do it.

    Raises:
        VerificationError: something does not read back as it should.
        ToolError: one of the processes was killed.
    """
    step = progress.begin("verifying")
    with checkers() as pool:
        checks = [pool.submit(check_file_system, device) for device in (around, volume.window) if device is not None]
        report = verify_store(
            volume.reader(),
            store.root,
            references=store.references,
            layers=store.layers,
            required_images=required_images,
            processes=processes,
        )
        file_systems = [check.result() for check in checks]
    faults = [
        finding
        for finding in (*chain.from_iterable(file_systems), *report.findings)
        if finding.severity is Severity.ERROR and (finding.code, finding.path) not in store.known
    ]
    step.end()
    own_names = detect(store.root).names_path
    for one in [finding for finding in report.findings if finding.code in _NOT_SAVED][:_SHOWN]:
        progress.note(
            f"warning: {_shown(one)}. The image runs, but saves, pushes and deltas of that layer fail on any engine"
        )
    if faults:
        shown = "; ".join(map(_shown, faults[:_SHOWN]))
        if all(fault.code in _ASKED_FOR and fault.path != own_names for fault in faults):
            raise VerificationError(
                f"the device will ask for images that are missing, in {len(faults)} places: {shown}. No output was made. To "
                f"fix this: {'; '.join(dict.fromkeys(fault.remedy for fault in faults))}"
            )
        raise VerificationError(
            f"what was written does not read back as it should, in {len(faults)} places: {shown}. "
            "No output was made. If e2fsck -fn finds nothing wrong with the base, please report this, "
            "with the images' names"
        )


def _shown(finding: Finding) -> str:
    return f"{finding.path.decode('utf-8', 'backslashreplace')}: {finding.text}"
