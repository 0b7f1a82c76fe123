"""The fuzz targets on their seeds and on what they failed on once, and the runner on a fault planted for it."""

from __future__ import annotations

import importlib.util
import mmap
import re
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fuzz import run
from tests.fuzz.catalogue import ALL, TARGETS
from tests.fuzz.planted import PLANTED
from tests.fuzz.target import REGRESSIONS, PropertyError, Target, examine, regressions

from drypoint.errors import LayerError
from drypoint.samples.tools import missing_tools

needs_fuzzer = pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris")


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_seeds_and_regressions_break_nothing(target: Target) -> None:
    if missing := missing_tools(target.tools):
        pytest.skip(f"needs {', '.join(missing)}")
    accepted = []

    def counted(data: bytes) -> None:
        target.run(data)
        accepted.append(data)

    for data in [*target.seeds(), *(path.read_bytes() for path in regressions(target)), b""]:
        examine(replace(target, run=counted), data)
    # Seeds that all fail at the door would lead the fuzzer nowhere.
    assert accepted


def test_every_regression_belongs_to_a_target() -> None:
    assert {path.name for path in REGRESSIONS.iterdir() if path.is_dir()} <= TARGETS.keys()
    assert all(path.stat().st_size <= 16384 for path in REGRESSIONS.glob("*/*"))


def test_names_are_unique() -> None:
    assert len(TARGETS) == len(ALL) + 1


def test_targets_cover_what_they_run() -> None:
    assert all(importlib.util.find_spec(package) for target in ALL for package in target.covers)


def raises(error: Exception) -> Target:
    def run(data: bytes) -> None:
        raise error

    return Target("raises", run, lambda: (b"",), covers=(), allowed=(LayerError,))


def test_an_error_that_is_not_documented_is_a_finding() -> None:
    with pytest.raises(KeyError):
        examine(PLANTED, b"FUZZ")
    with pytest.raises(UnicodeDecodeError):
        examine(raises(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")), b"")
    examine(raises(LayerError("as documented")), b"")


def test_an_endless_or_unprintable_message_is_a_finding() -> None:
    with pytest.raises(PropertyError, match="30000 characters"):
        examine(raises(LayerError("x" * 30_000)), b"")
    with pytest.raises(PropertyError, match="cannot be printed"):
        examine(raises(LayerError("\udcff")), b"")


def test_what_is_left_behind_is_a_finding(tmp_path: Path) -> None:
    kept = []
    done = threading.Event()
    opening = Target("opens", lambda data: kept.append((tmp_path / "file").open("wb")), lambda: (), covers=())
    with pytest.raises(PropertyError, match="1 open files"):
        examine(opening, b"")
    kept[0].close()
    threads = [threading.Thread(target=done.wait)]
    starting = Target("starts", lambda data: threads[0].start(), lambda: (), covers=())
    with pytest.raises(PropertyError, match="threads are left behind"):
        examine(starting, b"")
    done.set()
    threads[0].join()


def test_replay_shows_a_finding_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "input").write_bytes(b"FUZZ")
    assert run.main(["planted", "--replay", str(tmp_path / "input")]) == 1
    assert "KeyError: 'planted'" in capsys.readouterr().err
    (tmp_path / "input").write_bytes(b"none")
    assert run.main(["planted", "--replay", str(tmp_path / "input")]) == 0


def test_without_the_fuzzer_the_runner_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run.main(["pax"]) == 2
    assert "atheris is not installed for Python" in capsys.readouterr().err
    assert run.main(["all", "--optional"]) == 0
    assert "nothing was fuzzed" in capsys.readouterr().err


@needs_fuzzer
def test_the_runner_finds_a_planted_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run.main(["planted", "--seconds", "60"]) == 1
    shown = capsys.readouterr().out
    assert "KeyError: 'planted'" in shown
    assert re.search(r"planted +[1-9]\d* runs +[1-9]\d* edges", shown)
    (found,) = tmp_path.glob("*/planted-crash-*")
    assert f"tests.fuzz.run planted --replay {found}" in shown
    assert run.main(["planted", "--replay", str(found)]) == 1


@needs_fuzzer
def test_the_size_of_whoever_starts_the_fuzzer_is_no_finding(tmp_path: Path) -> None:
    large = bytearray(TARGETS["pax"].megabytes + 200 << 20)
    large[:: mmap.PAGESIZE] = bytes(len(large) // mmap.PAGESIZE)
    # It looks at its memory once a second.
    assert run.fuzz(TARGETS["pax"], 3, tmp_path).finding == ""


@needs_fuzzer
def test_a_fuzzer_that_does_not_end_is_ended_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "START_SECONDS", -58)
    assert run.fuzz(TARGETS["pax"], 60, tmp_path).finding.startswith("it did not end by itself")
