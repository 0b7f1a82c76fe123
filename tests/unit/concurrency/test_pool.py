"""A pool of threads, and an ordered map over it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from drypoint.concurrency.pool import Pool, ordered_map, thread_pool
from drypoint.concurrency.tasks import FAREWELL_SECONDS, Cancelled, wait_for
from drypoint.errors import ResourceError


def test_results_come_in_the_order_of_the_items() -> None:
    def work(number: int) -> int:
        time.sleep(0.01 * (3 - number % 4))
        return number * 2

    assert list(ordered_map(work, range(12), 4, "x")) == list(range(0, 24, 2))
    assert list(ordered_map(work, range(12), 4, "x", ahead=2)) == list(range(0, 24, 2))
    assert list(ordered_map(work, [], 4, "x")) == []


def test_items_are_taken_a_bounded_distance_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = ordered_map(lambda number: number, items(), 2, "x", ahead=4)
    assert next(results) == 0
    assert len(taken) == 4


@pytest.mark.parametrize("patience", [None, FAREWELL_SECONDS])
def test_the_first_failure_ends_what_waits_before_it(patience: float | None) -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise ZeroDivisionError
        wait_for(threading.Event(), 60)

    started = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(work, range(9), 2, "x", patience=patience))
    assert time.monotonic() - started < 5
    assert sorted(begun) == [0, 1]


def test_after_a_failure_no_job_begins() -> None:
    begun: list[int] = []
    with thread_pool(2, "x") as pool:
        pool.give_up(ZeroDivisionError())
        later = pool.submit(begun.append, 1)
    assert isinstance(later.exception(), ZeroDivisionError)
    assert begun == []


def test_a_thread_that_cannot_be_woken_is_left_to_itself() -> None:
    event = threading.Event()

    def work(number: int) -> None:
        if number:
            raise ZeroDivisionError
        event.wait(60)

    started = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(work, range(2), 2, "x", patience=0.1))
    assert time.monotonic() - started < 5
    event.set()


def test_jobs_nobody_waits_for_are_done_in_the_end() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    with thread_pool(2, "x") as pool:
        for number in range(6):
            pool.submit(work, number)
    assert sorted(done) == list(range(6))


def test_at_most_so_many_threads_run() -> None:
    names: set[str] = set()
    with thread_pool(2, "x") as pool:
        for _ in range(20):
            pool.submit(lambda: names.add(threading.current_thread().name))
    assert names <= {"drypoint-x-0", "drypoint-x-1"}


def test_who_awaits_a_result_is_woken_by_the_task_above() -> None:
    def outer() -> None:
        with thread_pool(1, "inner") as pool:
            begun.set()
            pool.submit(wait_for, threading.Event(), 60).result()

    def begin_and_fail(pool: Pool) -> None:
        results.append(pool.submit(outer))
        assert begun.wait(10)
        raise ZeroDivisionError

    begun = threading.Event()
    results: list[Future[None]] = []
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError), thread_pool(1, "outer") as pool:
        begin_and_fail(pool)
    with pytest.raises(Cancelled):
        results[0].result()
    assert time.monotonic() - started < 5


def test_threads_that_do_not_start_are_done_without_unless_it_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = threading.Thread.start
    left = 1

    def refuse(thread: threading.Thread) -> None:
        nonlocal left
        if left == 0:
            raise RuntimeError("can't start new thread")
        left -= 1
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert list(ordered_map(abs, [-1, -2, -3, -4], 4, "few")) == [1, 2, 3, 4]
    with pytest.raises(ResourceError, match="starts no more threads for this user"):
        list(ordered_map(abs, [-1, -2], 2, "none"))
