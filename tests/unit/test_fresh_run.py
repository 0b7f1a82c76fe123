"""A trial fails for what a stranger would have met, and for tests that were skipped without need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from tests.fresh.run import SkippedError, Trial, TrialError, try_out


def prints(text: str, error: Exception | None = None) -> Callable[[IO[bytes]], None]:
    def run(log: IO[bytes]) -> None:
        log.write(text.encode())
        if error is not None:
            raise error

    return run


@pytest.mark.parametrize(
    ("text", "error", "passes", "shown"),
    [
        ("2 tests: needs root, dockerd\n", None, True, "    2 tests: needs root, dockerd"),
        ("all well\n", None, True, "passed in"),
        ("1 test: needs xz\n", None, False, "tests were skipped that could run: 1 test: needs xz"),
        ("no such file\n", TrialError("make demo failed"), False, "failed, make demo failed"),
        ("no such file\n", TrialError("make demo failed"), False, "    no such file"),
        ("", SkippedError("Python 3.99 is not at hand"), True, "not tried, Python 3.99 is not at hand"),
    ],
)
def test_how_a_trial_went(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, error: Exception | None, passes: bool, shown: str
) -> None:
    assert try_out(Trial("name", "what", prints(text, error), ("root",)), tmp_path) is passes
    assert shown in capsys.readouterr().out
