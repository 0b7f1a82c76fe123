"""The findings of a verification as text and as JSON."""

from __future__ import annotations

import re
from itertools import groupby

from .. import KINDS, Finding, ImageVerdict, Report
from . import render

_SHORT = 19
"""``sha256:`` and twelve digits, as ``docker images`` shows."""
_SHOWN = 5
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
_CACHE_ID = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}")


def show_verification(report: Report, verbosity: render.Verbosity) -> None:
    """The findings of a verification, the worst first; then what the device will do, unless *verbosity* is quiet.

    Of each kind of finding a few are shown; all if it is verbose.
    """
    verbose = verbosity.is_verbose
    for code, group in groupby(sorted(report.findings, key=_by_kind), key=lambda one: one.code):
        _show_kind(code, list(group), verbose=verbose)
    if verbosity.quiet:
        return
    _show_file_systems(report)
    if report.images:
        rows = [(one.image_id[:_SHORT], _fate(one), _names(one, verbose=verbose)) for one in report.images]
        render.table(("image", "on the device", "names"), rows)
        render.line()
    if report.services:
        services = [
            (one.service, "starts offline" if one.starts_offline else "waits for a download", _shortened(one.reference))
            for one in report.services
        ]
        render.table(("app/service", "on the device", "image"), services)
        render.line()
    render.line(_summary(report))


def verification_object(report: Report) -> dict[str, object]:
    """The report as ``verify --json`` prints it; documented in docs/reference/json.md."""
    return {
        "sound": report.sound,
        "layers": report.layers,
        "tar_bytes": report.tar_bytes,
        "disk_image": _disk_image(report.disk_image),
        "file_systems": [
            {
                "disk_image": _disk_image(one.disk_image),
                "partition": one.partition,
                "label": one.label,
                "kind": one.kind,
                "verdict": one.verdict,
            }
            for one in report.file_systems
        ],
        "images": [
            {"id": verdict.image_id, "references": list(verdict.references), "loads": verdict.loads}
            for verdict in report.images
        ],
        "services": [
            {
                "service": verdict.service,
                "reference": verdict.reference,
                "image_id": verdict.image_id,
                "starts_offline": verdict.starts_offline,
            }
            for verdict in report.services
        ],
        "findings": [
            {
                "code": finding.code,
                "severity": finding.severity.value,
                "disk_image": _disk_image(finding.disk_image),
                "partition": finding.partition,
                "path": _path(finding),
                "text": finding.text,
                "remedy": finding.remedy,
            }
            for finding in report.findings
        ],
    }


def _show_file_systems(report: Report) -> None:
    """One table; a second one for the disk image inside, if there is one."""
    for disk_image, group in groupby(report.file_systems, key=lambda one: one.disk_image):
        if disk_image:
            render.line(f"in the disk image inside, /{_text(disk_image)}:")
        checked = [(str(one.partition), one.label or "-", one.kind, one.verdict) for one in group]
        render.table(("partition", "label", "file system", "check"), checked)
        render.line()


def _show_kind(code: str, findings: list[Finding], *, verbose: bool) -> None:
    first = findings[0]
    times = f" ({len(findings)} times)" if len(findings) > 1 else ""
    render.line(f"{first.severity}: {KINDS[code].meaning} [{code}]{times}")
    shown = findings if verbose else findings[:_SHOWN]
    for one in shown:
        where = _where(one)
        path = _path(one) if verbose else _CACHE_ID.sub(r"\1…", _path(one))
        text = one.text if verbose else _shortened(one.text)
        # The output of a checking program has several lines.
        indented = "\n      ".join(line for line in text.splitlines() if line.strip())
        render.line(f"  {where}{path}{': ' if path else ''}{indented}")
    if len(findings) > len(shown):
        render.line(f"  and {len(findings) - len(shown)} more; -v shows all")
    render.line(f"  remedy: {first.remedy}")
    render.line()


def _by_kind(one: Finding) -> tuple[int, str]:
    return ("error", "warning", "note").index(one.severity.value), one.code


def _where(one: Finding) -> str:
    inside = "disk image inside" if one.disk_image else ""
    partition = f"partition {one.partition}" if one.partition is not None else ""
    where = ", ".join(filter(None, (inside, partition)))
    return f"{where}: " if where else ""


def _disk_image(path: bytes) -> str | None:
    return _text(path) if path else None


def _path(one: Finding) -> str:
    return _text(one.path)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _fate(verdict: ImageVerdict) -> str:
    return "loads" if verdict.loads else "is dropped and fetched again"


def _names(verdict: ImageVerdict, *, verbose: bool) -> str:
    if not verdict.references:
        return "(none)"
    # Tags before digests: users know those.
    names = sorted(verdict.references, key=lambda name: ("@" in name, name))
    if verbose:
        return " ".join(names)
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return _shortened(names[0]) + more


def _shortened(text: str) -> str:
    return _DIGEST.sub(r"\1…", text)


def _summary(report: Report) -> str:
    counts = {
        name: sum(finding.severity.value == name for finding in report.findings)
        for name in ("error", "warning", "note")
    }
    counted = ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items() if count)
    checked = (
        f"{report.layers} layer{'s' if report.layers != 1 else ''} checked ({render.size(report.tar_bytes)} of tar)"
    )
    if not report.sound:
        return f"{checked}: {counted}"
    return f"{checked}: no errors{f' ({counted})' if counted else ''}"
