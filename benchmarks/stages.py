"""The speed of each stage of a preload, compared with C programs on the same bytes.

    .venv/bin/python -m benchmarks.stages [--quick] [--rounds N] [--workload NAME ...] [--directory DIR]

Every stage runs alone, in a process of its own, on prepared data; the last rows are the whole job, with a registry on loopback
in another process, and C programs. MB are 10**6 bytes of the uncompressed tar, so that all stages can be compared. CPU seconds
include child processes (resize2fs, e2fsck, the C programs), but not the registry. Figures are medians; the peak is that of the
resident memory of the Python process. There are no goals.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ParamSpec, TypeVar

from drypoint.samples.registry import serve_registry

from . import stage_runs, workloads
from .stage_runs import Repeatable, Run
from .workloads import Workload

P = ParamSpec("P")
T = TypeVar("T")

_SPAWN = multiprocessing.get_context("spawn")
_MAKERS: dict[str, Callable[[Path, float], Workload]] = {
    "small": workloads.small_files,
    "large": workloads.large_files,
    "mixed": workloads.mixed,
}
_QUICK_SCALE = 0.05


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one round: wall and CPU seconds, and the peak resident memory in bytes, 0 if not measured."""

    wall: float
    cpu: float
    peak: int = 0


def main() -> None:
    arguments = _arguments()
    names: list[str] = arguments.workload or list(_MAKERS)
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors: {_processor()}")
    with tempfile.TemporaryDirectory(prefix="drypoint-bench-", dir=arguments.directory) as parent:
        for name in names:
            directory = Path(parent) / name
            directory.mkdir()
            workload = _in_process(_MAKERS[name], directory, _QUICK_SCALE if arguments.quick else 1.0)
            _measure_workload(workload, directory, arguments.rounds, stages=not arguments.whole)
            shutil.rmtree(directory)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="measure each stage of a preload")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_SCALE:.0%} of the data, to see that it runs")
    parser.add_argument("--rounds", type=int, default=3, help="how often each stage runs (default: 3)")
    parser.add_argument("--workload", action="append", choices=list(_MAKERS), help="only this one; can be repeated")
    parser.add_argument("--whole", action="store_true", help="only the whole job and the C programs")
    parser.add_argument(
        "--directory", type=Path, help="where the data goes, up to 8 GB (default: a temporary directory)"
    )
    return parser.parse_args()


def _measure_workload(workload: Workload, directory: Path, rounds: int, *, stages: bool) -> None:
    print(
        f"\n{workload.name}: {workload.what}\n{workload.entries} entries, tar {workload.tar_bytes / 1e6:.0f} MB, "
        f"gzip {workload.blob_bytes / 1e6:.0f} MB, zstd {workload.zstd_bytes / 1e6:.0f} MB; {rounds} rounds\n\n"
        f"{'stage':<40}{'wall s':>8}{'CPU s':>8}{'MB/s':>8}{'entries/s':>11}{'peak MiB':>10}",
        flush=True,
    )
    with _registry(workload) as host:
        for stage in stage_runs.stages(workload, host, directory) if stages else ():
            figures = _in_process(_measure, stage.prepare, rounds)
            _print_row(stage.label, figures, workload, entries=stage.counts)
        base = directory / "base.img"
        _in_process(stage_runs.make_base, base)
        job = partial(stage_runs.whole_job, base, directory / "out.img", host)
        # The job and the floor take turns, each time the job in a new process: its memory is part of the result.
        whole: list[Figures] = []
        verified: list[Figures] = []
        floor: list[Figures] = []
        for _ in range(rounds):
            whole += _in_process(_measure, partial(job, verify=False), 1)
            verified += _in_process(_measure, partial(job, verify=True), 1)
            floor += [_timed(partial(_run_floor, workload, directory, host))]
        _print_row("whole job, without reading back", whole, workload, entries=True, peak=True)
        _print_row("whole job, with it", verified, workload, entries=True, peak=True)
    for label, command in _c_programs(workload, directory).items():
        _print_row(label, [_timed(partial(_shell, command)) for _ in range(rounds)], workload)
    _print_row("C floor: curl, inflate, 2 hashes, write", floor, workload)
    ours, theirs = _median(whole), _median(floor)
    wall, cpu = ours.wall / theirs.wall, ours.cpu / theirs.cpu
    print(f"whole job, without reading back, to C floor: {wall:.2f} in wall, {cpu:.2f} in CPU seconds")


def _print_row(
    label: str, rounds: list[Figures], workload: Workload, *, entries: bool = False, peak: bool = False
) -> None:
    figures = _median(rounds)
    rate = workload.tar_bytes / figures.wall / 1e6
    per_entry = f"{workload.entries / figures.wall:.0f}" if entries else ""
    highest = f"{figures.peak / (1 << 20):.0f}" if peak else ""
    row = f"{label:<40}{figures.wall:>8.2f}{figures.cpu:>8.2f}{rate:>8.0f}{per_entry:>11}{highest:>10}"
    print(row.rstrip(), flush=True)


def _median(rounds: list[Figures]) -> Figures:
    return Figures(
        statistics.median(one.wall for one in rounds),
        statistics.median(one.cpu for one in rounds),
        max(one.peak for one in rounds),
    )


def _processor() -> str:
    """The model, and whether it has the SHA instructions, without which hashing takes several times as long."""
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    model = re.search(r"^model name\s*: (.*)$", told, re.MULTILINE)
    sha = re.search(r"\b(sha_ni|sha2)\b", told)
    return f"{model[1] if model else platform.machine()}, {'with' if sha else 'without'} SHA instructions"


# Measuring


def _in_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of *function* in a fresh process, without memory and threads of this one."""
    with ProcessPoolExecutor(1, mp_context=_SPAWN) as pool:
        return pool.submit(function, *args, **kwargs).result()


def _measure(prepare: Callable[[], Run], rounds: int) -> list[Figures]:
    run = prepare()
    found = []
    for _ in range(rounds):
        if isinstance(run, Repeatable):
            run.before()
        found.append(_timed(run))
    return found


def _timed(run: Run) -> Figures:
    wall, cpu = time.monotonic(), _cpu_seconds()
    run()
    return Figures(time.monotonic() - wall, _cpu_seconds() - cpu, _peak())


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak() -> int:
    """VmHWM, because ru_maxrss includes the process before exec."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) << 10 if found else 0


# The registry


@contextmanager
def _registry(workload: Workload) -> Iterator[str]:
    """A registry in a process of its own; yields ``host:port``."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(workload, theirs))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        process.join()


def _serve(workload: Workload, connection: Connection) -> None:
    with serve_registry(workload.registry_content()) as registry:
        connection.send(registry.host)
        connection.recv()


# C programs


def _inflater() -> str:
    for name in ("igzip", "pigz", "gzip"):
        if shutil.which(name):
            return name
    raise SystemExit("the C programs to compare with are missing: install igzip (Debian: isal), pigz or gzip")


def _c_programs(workload: Workload, directory: Path) -> dict[str, str]:
    blobs, tars = (" ".join(map(str, paths)) for paths in (workload.blobs, workload.tars))
    inflaters = [name for name in ("igzip", "pigz") if shutil.which(name)]
    return {
        **{f"C: {name} -dc": f"cat {blobs} | {name} -dc > /dev/null" for name in inflaters},
        # Debian builds coreutils without OpenSSL, and so without SHA instructions.
        "C: sha256sum of the tars": f"sha256sum {tars} > /dev/null",
        "C: openssl sha256 of the tars": f"openssl dgst -sha256 {tars} > /dev/null",
        "C: openssl sha256 of the blobs": f"openssl dgst -sha256 {blobs} > /dev/null",
        "C: cat the tars into a file": f"cat {tars} > {directory}/cat.out; rm {directory}/cat.out",
    }


def _run_floor(workload: Workload, directory: Path, host: str) -> None:
    """Fetch, inflate and write on one processor, hash blobs and tars on the other: the least work for two processors."""
    out = directory / "floor.out"
    fetch = "; ".join(
        f"curl -sS http://{host}/v2/bench/blobs/{layer.descriptor.digest} | {_inflater()} -dc >> {out}"
        for layer in workload.image.layers
    )
    hashed = " ".join(map(str, (*workload.blobs, *workload.tars)))
    _shell(f"({fetch}) & openssl dgst -sha256 {hashed} > /dev/null; wait; rm {out}")


def _shell(command: str) -> None:
    subprocess.run(["/bin/sh", "-ec", command], check=True)


if __name__ == "__main__":
    main()
