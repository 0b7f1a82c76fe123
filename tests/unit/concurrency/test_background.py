"""Work in the background."""

from __future__ import annotations

import itertools
import threading

import pytest

from drypoint.concurrency.background import background
from drypoint.errors import OutputError
from drypoint.progress import SILENT, Progress


def test_both_run_at_once_and_both_end() -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def work(progress: Progress) -> None:
        begun.set()
        assert go_on.wait(10)
        progress.begin("working").advance(1)
        done.append("work")

    with background(work, SILENT):
        assert begun.wait(10)
        go_on.set()
    assert done == ["work"]


def test_work_that_goes_on_for_ever_ends_with_the_block_that_fails() -> None:
    def work(progress: Progress) -> None:
        step = progress.begin("working")
        for number in itertools.count():
            step.advance(number)

    with pytest.raises(ZeroDivisionError), background(work, SILENT):
        raise ZeroDivisionError


def test_what_the_work_raises_is_raised_in_the_end() -> None:
    done: list[str] = []

    def work(_: Progress) -> None:
        raise OutputError("the disk is full")

    with pytest.raises(OutputError, match="the disk is full"), background(work, SILENT):
        done.append("block")
    assert done == ["block"]
