"""Comparison of drypoint with the engine, skopeo, podman and C programs. See docs/performance.md.

    make bench                                                    # all workloads, five rounds: over an hour, 40 GB
    .venv/bin/python -m benchmarks.contest --workload A --rounds 3

It runs in mount and process namespaces of its own: when it ends, in any way, nothing is left. Every contestant is a whole
process, run in turn with the others in each round; its CPU seconds include all its children (the engine's daemons too), its
memory is that of its largest process. The registry is Debian's docker-registry on loopback; its CPU time does not count. Needs
root, as the engine does.
"""

from __future__ import annotations

import argparse
import compileall
import json
import multiprocessing
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.docker_registry import DockerRegistry

import drypoint

from .contestants import missing_programs
from .contests import CONTESTS, MIB, Contest, base_image, fill_base

_DRYPOINT = [sys.executable, "-c", "from drypoint.cli import main; main()"]
_CONTESTANT = [sys.executable, "-m", "benchmarks.contestants"]
_APART = [
    "setpriv", "--pdeathsig=KILL",
    "unshare", "--mount", "--propagation=private", "--pid", "--fork", "--mount-proc", "--kill-child",
]  # fmt: skip
_GOALS = {
    # Workload: largest ratio to the engine's wall time, largest ratio to the floor's CPU seconds.
    "A": (1 / 3, 1.5), "B": (None, 1.25), "C": (1 / 3, None), "D": (1 / 4, None), "E": (1 / 4, None),
}  # fmt: skip
_MOST_MEMORY = 250 * MIB
_OF_GOALS = ("drypoint, not read back", "drypoint", "the engine, mounted", "floor: C programs")


@dataclass(frozen=True, slots=True)
class Figures:
    """Wall and CPU seconds, and bytes of the largest process."""

    wall: float
    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Field:
    """The files and the registry of a workload."""

    directory: Path
    base: Path
    contest: Contest
    host: str

    @property
    def references(self) -> list[str]:
        return [f"{self.host}/{repository}:latest" for repository in self.contest.images]


def main() -> None:
    arguments = _arguments()
    if missing := missing_programs():
        raise SystemExit(
            f"the contest needs {', '.join(missing)} (Debian: isal skopeo podman curl openssl docker.io docker-registry)"
        )
    if arguments.inside is None:
        raise SystemExit(_run_apart(arguments.directory))
    # pip compiles what it installs, too.
    compileall.compile_dir(Path(drypoint.__file__).parent, quiet=1)
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}", flush=True)
    results: dict[str, dict[str, object]] = {}
    for name in arguments.workload or list(CONTESTS):
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=arguments.inside) as directory:
            results[name] = _hold(name, Path(directory), arguments)
    _print_start_up()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def _run_apart(parent: Path | None) -> int:
    """Run this program again, in namespaces that end with it; returns its exit status."""
    # By default the signal would leave the files.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="drypoint-contest-", dir=parent) as directory:
        process = subprocess.Popen(
            [*_APART, sys.executable, *sys.argv, "--inside", directory],
            env={**os.environ, "TMPDIR": directory},
            # Ctrl-C ends this process, which ends the other.
            start_new_session=True,
        )
        try:
            return process.wait()
        finally:
            process.kill()
            process.wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="drypoint against the engine's way and others")
    parser.add_argument("--workload", action="append", choices=list(CONTESTS), help="only this one; can be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contestant runs (default: 5)")
    parser.add_argument("--goals-only", action="store_true", help="leave out the contestants that no goal is about")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the made workloads (default: 1)")
    parser.add_argument(
        "--directory",
        type=Path,
        help="where the data goes, by a short path: podman takes at most 50 characters (default: a temporary directory)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _hold(name: str, directory: Path, arguments: argparse.Namespace) -> dict[str, object]:
    rounds: int = arguments.rounds
    # In a process of its own, because a child's peak memory starts with that of the process that it was forked from.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        contest = pool.submit(CONTESTS[name], directory, arguments.scale).result()
    with DockerRegistry() as registry:
        registry.push(contest.content())
        base = base_image(directory / "base.img")
        if contest.before:
            fill_base(base, [f"{registry.address}/{repository}:latest" for repository in contest.before])
        field = Field(directory, base.path, contest, registry.address)
        commands = _commands(field)
        if arguments.goals_only:
            commands = {label: command for label, command in commands.items() if label in _OF_GOALS}
        figures: dict[str, list[Figures]] = {label: [] for label in commands}
        for number in range(rounds + 1):
            # Each one is first once.
            labels = deque(commands)
            labels.rotate(-number)
            for label in labels:
                measured = _measure(commands[label], directory)
                told = f"{name}, round {number or 'before the first'}, {label}: {measured.wall:.2f} s"
                print(f"{told}, CPU {measured.cpu:.2f} s, {measured.peak / MIB:.0f} MiB", file=sys.stderr, flush=True)
                if number:  # the first round warms the caches
                    figures[label].append(measured)
    return _print_table(contest, figures, rounds)


def _commands(field: Field) -> dict[str, list[str]]:
    contest, scratch = field.contest, field.directory / "out"
    images = [f"--image={reference}" for reference in field.references]
    job = ["preload", str(field.base), "-o", str(scratch / "out.img"), "--quiet", "--no-index", *images]
    # For the unpacked files, and for inodes: space added to such a small file system has one for each 16 KiB. The engine
    # also keeps blobs for a while.
    more = str(max(contest.tar_bytes * 13 // 10, contest.files * 16384) + contest.blob_bytes)
    layers = [
        f"http://{field.host}/v2/{repository}/blobs/{layer.descriptor.digest},{_file(layer.content)},{_file(layer.tar)}"
        for repository, layer in contest.new_layers
    ]
    mounted = [str(field.base), str(scratch / "out.img"), more]
    return {
        "drypoint, not read back": [*_DRYPOINT, *job, "--no-verify"],
        "the same, blobs not hashed": [*_CONTESTANT, "one-hash", *job, "--no-verify"],
        "drypoint": [*_DRYPOINT, *job],
        "the engine, mounted": [*_CONTESTANT, "engine", *mounted, *field.references],
        "skopeo copy to dir:": [*_CONTESTANT, "skopeo", str(scratch), *field.references],
        "podman pull": [*_CONTESTANT, "podman", str(scratch), *field.references],
        "floor: C programs": [*_CONTESTANT, "floor", str(scratch / "floor.out"), *layers],
        "the base copied, flushed": [*_CONTESTANT, "copy", str(field.base), str(scratch / "out.img")],
    }


def _file(blob: bytes | Path) -> Path:
    assert isinstance(blob, Path), "the contest's layers are files"
    return blob


def _measure(command: list[str], directory: Path) -> Figures:
    scratch = directory / "out"
    scratch.mkdir()
    os.sync()
    others = _children()
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:6])} … ended with status {process.returncode}")
    # Processes that it did not wait for have become children of this process, the first of its namespace.
    usages = [usage]
    while orphans := _children() - others:
        usages += [os.wait4(orphan, 0)[2] for orphan in orphans]
    shutil.rmtree(scratch)
    cpu = sum(one.ru_utime + one.ru_stime for one in usages)
    return Figures(wall, cpu, max(one.ru_maxrss for one in usages) << 10)


def _children() -> set[int]:
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def _print_table(contest: Contest, figures: dict[str, list[Figures]], rounds: int) -> dict[str, object]:
    print(
        f"\n{contest.name}: {contest.what}\n{len(contest.new_layers)} layers, {contest.tar_bytes / 1e6:.0f} MB, "
        f"{contest.blob_bytes / 1e6:.0f} MB compressed; medians of {rounds} rounds (least to most)\n\n"
        f"{'':<26}{'wall s':>22}{'to engine':>11}{'CPU s':>9}{'to floor':>10}{'peak MiB':>10}"
    )
    middle = {label: _median(measured) for label, measured in figures.items()}
    theirs, least = middle["the engine, mounted"], middle["floor: C programs"]
    for label, one in middle.items():
        walls = [measured.wall for measured in figures[label]]
        spread = f"{one.wall:.2f} ({min(walls):.2f}-{max(walls):.2f})"
        print(
            f"{label:<26}{spread:>22}{one.wall / theirs.wall:>11.2f}{one.cpu:>9.2f}{one.cpu / least.cpu:>10.2f}"
            f"{one.peak / MIB:>10.0f}"
        )
    ours = middle["drypoint, not read back"]
    most_wall, most_cpu = _GOALS[contest.name]
    for what, got, goal in (
        ("of the engine's wall time", ours.wall / theirs.wall, most_wall),
        ("times the floor's CPU seconds", ours.cpu / least.cpu, most_cpu),
        ("MiB at most", ours.peak / MIB, _MOST_MEMORY / MIB),
    ):
        if goal is not None:
            print(f"goal: {goal:.2f} {what}: {got:.2f}, {'reached' if got <= goal else 'NOT reached'}")
    sys.stdout.flush()
    return {label: [asdict(one) for one in measured] for label, measured in figures.items()}


def _median(measured: list[Figures]) -> Figures:
    return Figures(
        statistics.median(one.wall for one in measured),
        statistics.median(one.cpu for one in measured),
        max(one.peak for one in measured),
    )


def _print_start_up() -> None:
    times = []
    for _ in range(7):
        start = time.monotonic()
        subprocess.run([*_DRYPOINT, "--version"], stdout=subprocess.DEVNULL, check=True)
        times.append(time.monotonic() - start)
    got = statistics.median(times) * 1000
    print(f"\nstart-up, drypoint --version: {got:.0f} ms (goal: 150 ms, {'reached' if got <= 150 else 'NOT reached'})")


if __name__ == "__main__":
    main()
