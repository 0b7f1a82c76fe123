"""A producer in a thread, a bounded distance ahead of its consumer."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from drypoint.concurrency.stage import Stage, Stages, Write, pulled
from drypoint.concurrency.tasks import Cancelled
from drypoint.errors import TransferError

MIB = 1 << 20


def test_chunks_come_in_order_and_as_bytes() -> None:
    def produce(write: Write) -> None:
        buffer = bytearray(1)
        for number in range(200):
            buffer[0] = number
            write(memoryview(buffer))

    with pulled(produce) as chunks:
        assert list(chunks) == [bytes([number]) for number in range(200)]


def test_an_error_comes_after_all_chunks_and_stays() -> None:
    def produce(write: Write) -> None:
        write(b"one")
        raise TransferError("the registry hung up")

    with pulled(produce) as chunks:
        assert next(chunks) == b"one"
        for _ in range(2):
            with pytest.raises(TransferError, match="hung up"):
                next(chunks)


@pytest.mark.parametrize(("size", "most"), [(MIB, 5), (1, 65)])
def test_the_producer_is_a_bounded_distance_ahead(size: int, most: int) -> None:
    written: list[int] = []

    def produce(write: Write) -> None:
        for number in itertools.count():
            write(bytes(size))
            written.append(number)

    with pulled(produce) as chunks:
        next(chunks)
        deadline = time.monotonic() + 10
        while len(written) < most - 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        assert most - 1 <= len(written) <= most


def test_nothing_starts_before_it_is_read_or_after_it_was_closed() -> None:
    begun = threading.Event()
    chunks = pulled(lambda _: begun.set())
    chunks.close()
    chunks.close()
    with pytest.raises(ValueError, match="after they were closed"):
        next(chunks)
    assert not begun.is_set()


def test_stages_end_together() -> None:
    ended: list[type[BaseException]] = []

    def endless(write: Write) -> None:
        try:
            while True:
                write(b"x")
        except BaseException as error:
            ended.append(type(error))
            raise

    def passed_on(write: Write) -> None:
        try:
            for chunk in first:
                write(chunk)
        except BaseException as error:
            ended.append(type(error))
            raise

    first = Stage("first", endless)
    with Stages(first, Stage("second", passed_on)) as chunks:
        assert next(chunks) == b"x"
    assert ended == [Cancelled, Cancelled]
