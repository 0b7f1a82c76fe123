"""Run fuzz targets: ``python -m tests.fuzz.run TARGET...|all --seconds N [--jobs N]``, or one input: ``--replay FILE``.

Each target runs in a process of its own, with seeds that are made for the run, the regressions, and a dictionary. A finding
fails the run and leaves its input in a directory that is named, with the command that shows it again. Exit status: 0 nothing
found, 1 a finding, 2 the fuzzer is not installed or the arguments are wrong.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from drypoint.samples.tools import missing_tools

from .catalogue import ALL, TARGETS
from .target import Target, examine, regressions

_ROOT = Path(__file__).resolve().parents[2]
_INPUT_SECONDS = 10
START_SECONDS = 120
_OUT_OF_TIME = (124, 137)
"""What timeout(1) ends with: it ended the program, or had to kill it."""
_SHOWN = 4000
_EXECUTIONS = re.compile(r"stat::number_of_executed_units: +(\d+)")
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+)")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one target; *finding* tells what was found, or is empty."""

    name: str
    executions: int
    coverage: int
    features: int
    finding: str = ""


def fuzz(target: Target, seconds: int, artifacts: Path) -> Result:
    """Run *target* for *seconds*; inputs that fail are put into *artifacts*."""
    with tempfile.TemporaryDirectory(prefix="drypoint-fuzz-") as directory:
        corpus, words = Path(directory, "corpus"), Path(directory, "words")
        corpus.mkdir()
        for number, seed in enumerate([*target.seeds(), *(path.read_bytes() for path in regressions(target))]):
            (corpus / f"seed-{number:03}").write_bytes(seed)
        words.write_text("".join(map(_dictionary_line, target.tokens)))
        dictionary = [f"-dict={words}"] if target.tokens else []
        # Linux counts as a program's peak of memory also that of the process that became it: a large one, such as one that
        # runs tests, would look like a fuzzer that takes too much. timeout is a small one in between.
        command = [
            "timeout", "--foreground", "--kill-after=5", str(seconds + START_SECONDS),
            sys.executable, "-m", "tests.fuzz.child", target.name, ",".join(target.covers), str(corpus), *dictionary,
            f"-max_total_time={seconds}", f"-timeout={_INPUT_SECONDS}", f"-rss_limit_mb={target.megabytes}",
            f"-max_len={target.longest}", f"-artifact_prefix={artifacts}/{target.name}-", "-print_final_stats=1",
        ]  # fmt: skip
        ended = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, errors="replace", check=False)
    if ended.returncode in _OUT_OF_TIME:
        return Result(target.name, 0, 0, 0, f"it did not end by itself\n{ended.stderr[-_SHOWN:]}")
    executions = _EXECUTIONS.search(ended.stderr)
    coverage = _COVERAGE.findall(ended.stderr)
    finding = ""
    if ended.returncode != 0:
        inputs = sorted(artifacts.glob(f"{target.name}-*"))
        shown = "".join(f"\n  python -m tests.fuzz.run {target.name} --replay {path}" for path in inputs)
        again = shown or " no input was written"
        finding = f"exit status {ended.returncode}; again with:{again}\n{_excerpt(ended.stdout, ended.stderr)}"
    covered, features = coverage[-1] if coverage else ("0", "0")
    if not finding and covered == "0":
        finding = f"no coverage was counted in {', '.join(target.covers)}, so nothing led the fuzzer"
    return Result(target.name, int(executions[1]) if executions else 0, int(covered), int(features), finding)


def _dictionary_line(token: bytes) -> str:
    """As libFuzzer reads it: every byte may be spelled in hexadecimal."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n'


def _excerpt(output: str, errors: str) -> str:
    """The traceback if there is one, else the end of what the fuzzer said."""
    _, mark, trace = output.partition("=== Uncaught Python exception: ===")
    return trace.strip()[-_SHOWN:] if mark else errors[-_SHOWN:]


def replay(target: Target, path: Path) -> int:
    """Run one input, without the fuzzer."""
    try:
        examine(target, path.read_bytes())
    except Exception:  # noqa: BLE001 - whatever comes is what was looked for
        traceback.print_exc()
        return 1
    print(f"{path} is no finding for {target.name}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz.run", description="Fuzz the parsers of hostile input.")
    parser.add_argument("targets", nargs="+", choices=["all", *TARGETS], metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--jobs", type=int, default=2, help="targets that run at once (default 2)")
    parser.add_argument("--optional", action="store_true", help="no fuzzer for this Python is no failure")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run this input only, without the fuzzer")
    given = parser.parse_args(arguments)
    targets = list(ALL) if "all" in given.targets else [TARGETS[name] for name in given.targets]
    if given.replay is not None:
        return replay(targets[0], given.replay)
    if importlib.util.find_spec("atheris") is None:
        print(
            f"atheris is not installed for Python {platform.python_version()} on {platform.machine()}: nothing was fuzzed",
            file=sys.stderr,
        )
        return 0 if given.optional else 2
    return _run_all(targets, given.seconds, given.jobs)


def _run_all(targets: Sequence[Target], seconds: int, jobs: int) -> int:
    artifacts = Path(tempfile.mkdtemp(prefix="drypoint-findings-"))
    found = 0
    runnable = [target for target in targets if not missing_tools(target.tools)]
    for target in targets:
        if target not in runnable:
            print(f"{target.name:16} not run: needs {', '.join(missing_tools(target.tools))}")
    with ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(lambda target: fuzz(target, seconds, artifacts), runnable):
            verdict = f"FOUND {result.finding}" if result.finding else "ok"
            print(
                f"{result.name:16} {result.executions:>9} runs  {result.coverage:>5} edges  {result.features:>5} features  "
                f"{verdict}",
                flush=True,
            )
            found += bool(result.finding)
    if found:
        print(f"{found} of {len(runnable)} targets have a finding; their inputs are in {artifacts}")
        return 1
    shutil.rmtree(artifacts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
