"""Whatever the other side does: closing, an error and an interrupt end all threads within a second."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from tests.support.ext4_images import make_ext4

from drypoint.concurrency.background import background
from drypoint.concurrency.pool import Pool, ordered_map, thread_pool
from drypoint.concurrency.stage import Write, pulled
from drypoint.concurrency.tasks import (
    FAREWELL_SECONDS,
    Cancelled,
    Task,
    current,
    spawn,
    wait_for,
    wait_readable,
)
from drypoint.disk import FileDevice
from drypoint.jobs.base_stream import read_stream
from drypoint.jobs.base_url import url_stream
from drypoint.jobs.pack import pack
from drypoint.jobs.request import ImageRequest, PreloadRequest
from drypoint.oci import parse_platform, parse_reference
from drypoint.progress import SILENT, Progress
from drypoint.samples.applications import sample_content
from drypoint.samples.images import add_to_registry, build_image, build_layer
from drypoint.samples.layers import LayerBuilder
from drypoint.samples.registry import Faults, RegistryContent, serve_registry
from drypoint.sources.registry import RegistrySource
from drypoint.sources.registry.credentials import DockerConfigStore
from drypoint.verification.filesystem import check_file_system, checkers
from drypoint.volumes.target import Target

PLATFORM = parse_platform("linux/amd64")
MIB = 1 << 20
Item = TypeVar("Item")
Result = TypeVar("Result")
A_SECOND = 1.0


@contextmanager
def nothing_left(seconds: float = A_SECOND) -> Iterator[Callable[[], None]]:
    """From the call of what this gives, or else from the block's end: no thread of ours lives a second later."""
    before = set(threading.enumerate())
    begun: list[float] = []

    def closing() -> None:
        begun.append(time.monotonic())

    yield closing
    took = time.monotonic() - begun[0] if begun else 0.0
    assert took < seconds
    deadline = time.monotonic() + seconds - took
    while time.monotonic() < deadline and _ours() - before:
        time.sleep(0.01)
    assert _ours() - before == set()


def _ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("drypoint-")}


@contextmanager
def silent_server(answer: bytes = b"") -> Iterator[int]:
    """Takes connections, answers with *answer* and says nothing more; the port."""
    taken: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return
            if answer:
                taken[-1].recv(65536)
                taken[-1].sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, name="server")
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in taken:
                one.close()


def image(source: RegistrySource, port: int) -> list[ImageRequest]:
    return [ImageRequest(parse_reference(f"127.0.0.1:{port}/app:1"), source)]


@contextmanager
def from_silent_registry(tmp_path: Path) -> Iterator[Callable[[Write], object]]:
    base = make_ext4(tmp_path / "base.img", 8 * MIB)
    with silent_server() as port, RegistrySource() as source:
        yield lambda write: pack(base, write, PreloadRequest(image(source, port), PLATFORM, target=Target(0)))


@contextmanager
def from_layer_that_stalls(tmp_path: Path) -> Iterator[Callable[[Write], object]]:
    base = make_ext4(tmp_path / "base.img", 8 * MIB)
    content = RegistryContent()
    built = build_image([build_layer(LayerBuilder().file("f", sample_content("f", 4 * MIB)).finish())])
    add_to_registry(content, "app", "1", built)
    with serve_registry(content, faults=Faults(stalls=1000, fault_after=MIB)) as registry, RegistrySource() as source:
        request = [ImageRequest(parse_reference(f"{registry.host}/app:1"), source)]
        yield lambda write: pack(base, write, PreloadRequest(request, PLATFORM, target=Target(0)))


@contextmanager
def from_base_that_stalls(tmp_path: Path) -> Iterator[Callable[[Write], object]]:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\nConnection: close\r\n\r\n" + bytes(100_000)

    def produce(write: Write) -> object:
        with url_stream(f"http://127.0.0.1:{port}/base.img") as stream:
            return pack(stream, write, PreloadRequest([], PLATFORM), unseen=True)

    with silent_server(answer) as port:
        yield produce


@contextmanager
def from_silent_base(tmp_path: Path) -> Iterator[Callable[[Write], object]]:
    def produce(write: Write) -> object:
        with url_stream(f"http://127.0.0.1:{port}/base.img") as stream:
            return pack(stream, write, PreloadRequest([], PLATFORM), unseen=True)

    with silent_server() as port:
        yield produce


@contextmanager
def from_pipe(tmp_path: Path) -> Iterator[Callable[[Write], object]]:
    reader, writer = os.pipe()
    os.write(writer, b"some of it")
    with open(reader, "rb") as file:
        stream = read_stream(file, 9_000_000)
        yield lambda write: pack(stream, write, PreloadRequest([], PLATFORM), unseen=True)
    os.close(writer)


@contextmanager
def from_slow_e2fsck(tmp_path: Path) -> Iterator[Callable[[Write], object]]:
    base = make_ext4(tmp_path / "base.img", 8 * MIB)
    with slow_program(tmp_path, "e2fsck"):
        yield lambda write: pack(base, write, PreloadRequest([], PLATFORM, target=Target(0)))


@contextmanager
def slow_program(tmp_path: Path, name: str, first: str = ":") -> Iterator[None]:
    """Instead of *name* runs *first*, and then what does not end, in the process that is started."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / name).write_text(f"#!/bin/sh\n{first}\nexec sleep 1000\n")
    (programs / name).chmod(0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{programs}:{path}"
    try:
        yield
    finally:
        os.environ["PATH"] = path


STALLS = {
    "a registry that says nothing": from_silent_registry,
    "a layer that stalls": from_layer_that_stalls,
    "a base that stalls": from_base_that_stalls,
    "a server of a base that says nothing": from_silent_base,
    "a pipe without a writer": from_pipe,
    "an e2fsck that does not end": from_slow_e2fsck,
}


@pytest.mark.needs("mkfs.ext4")
@pytest.mark.parametrize("how", ["close", "error", "interrupt"])
@pytest.mark.parametrize("what", STALLS)
def test_a_client_that_goes_away_holds_no_worker(tmp_path: Path, what: str, how: str) -> None:
    with STALLS[what](tmp_path) as produce, nothing_left() as closing:
        chunks = pulled(produce)
        if how == "interrupt":
            with interrupted(closing), pytest.raises(KeyboardInterrupt), chunks:
                for _ in chunks:
                    pass
            return
        reader = threading.Thread(target=read_until_closed, args=[chunks], name="reader")
        reader.start()
        time.sleep(0.5)
        if how == "close":
            closing()
            chunks.close()
        else:
            with pytest.raises(ZeroDivisionError), chunks:
                fail(closing)
        reader.join(A_SECOND)
        assert not reader.is_alive()
        with pytest.raises(ValueError, match="after they were closed"):
            next(chunks)


def read_until_closed(chunks: Iterator[bytes]) -> None:
    with pytest.raises(ValueError, match="after they were closed"):
        list(chunks)


@contextmanager
def interrupted(closing: Callable[[], None], after: float = 0.5) -> Iterator[None]:
    def interrupt(*_: object) -> None:
        closing()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fail(closing: Callable[[], None]) -> None:
    time.sleep(0.2)
    closing()
    raise ZeroDivisionError


def sleeping(_: object = None) -> None:
    """Work that waits as ours does."""
    wait_for(threading.Event(), 1000)


def computing(_: object = None) -> None:
    while True:
        time.sleep(0.001)
        current().check()


def asked(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    return list(ordered_map(work, items, 4, "ask", patience=FAREWELL_SECONDS))


@pytest.mark.parametrize("work", [sleeping, computing])
def test_asking_ends_with_an_interrupt(work: Callable[[object], None]) -> None:
    with nothing_left() as closing, interrupted(closing, 0.1), pytest.raises(KeyboardInterrupt):
        asked(work, range(9))


def test_a_credential_helper_that_does_not_end_is_killed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"credsStore": "slow"}')
    store = DockerConfigStore(tmp_path / "config.json")
    started = tmp_path / "pid"
    with slow_program(tmp_path, "docker-credential-slow", f"echo $$ > {started}"):
        with nothing_left() as closing, interrupted(closing), pytest.raises(KeyboardInterrupt):
            asked(store.get, ["example.com"])
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_asking_ends_with_the_first_failure() -> None:
    def ask(number: int) -> None:
        if number == 2:
            raise ZeroDivisionError
        sleeping()

    with nothing_left() as closing:
        closing()
        with pytest.raises(ZeroDivisionError):
            asked(ask, range(9))
    assert asked(lambda number: number * 2, range(9)) == list(range(0, 18, 2))
    assert asked(sleeping, []) == []


def all_of(pool: Pool, work: Callable[[object], None]) -> None:
    for future in [pool.submit(work, number) for number in range(9)]:
        future.result()


@pytest.mark.parametrize("work", [sleeping, computing])
def test_a_pool_ends_with_an_interrupt(work: Callable[[object], None]) -> None:
    with (
        nothing_left() as closing,
        interrupted(closing, 0.1),
        pytest.raises(KeyboardInterrupt),
        thread_pool(2, "x") as pool,
    ):
        all_of(pool, work)


def test_pieces_in_order_end_with_their_consumer() -> None:
    results = ordered_map(lambda number: computing() if number else number, range(9), 2, "x", ahead=4)
    with nothing_left() as closing:
        assert next(results) == 0
        closing()
        results.close()  # type: ignore[attr-defined]


def test_work_in_the_background_ends_with_the_block() -> None:
    def work(progress: Progress) -> None:
        list(ordered_map(computing, range(9), 2, "x"))

    with nothing_left() as closing, pytest.raises(ZeroDivisionError), background(work, SILENT):
        fail(closing)
    with (
        nothing_left() as closing,
        interrupted(closing),
        pytest.raises(KeyboardInterrupt),
        background(work, SILENT) as done,
    ):
        done()


def check_and_fail(pool: Pool, device: FileDevice, closing: Callable[[], None]) -> None:
    pool.submit(check_file_system, device)
    fail(closing)


@pytest.mark.needs("mkfs.ext4")
def test_checkers_end_with_the_block(tmp_path: Path) -> None:
    base = make_ext4(tmp_path / "base.img", 8 * MIB)
    with slow_program(tmp_path, "e2fsck"), FileDevice(base) as device, nothing_left() as closing:
        with pytest.raises(ZeroDivisionError), checkers() as pool:
            check_and_fail(pool, device, closing)


def test_a_task_is_cancelled_with_the_one_above() -> None:
    outer = Task()
    inner = Task(outer)
    woken: list[str] = []
    with inner.waker(lambda: woken.append("inner")), outer.waker(lambda: woken.append("outer")):
        outer.cancel()
        outer.cancel()
    assert sorted(woken) == ["inner", "outer"]
    assert inner.cancelled
    with pytest.raises(Cancelled):
        inner.check()
    with Task(outer).waker(lambda: woken.append("late")):
        assert woken[-1] == "late"


def test_a_wait_that_has_ended_is_not_woken() -> None:
    task = Task()
    with task.waker(lambda: pytest.fail("woken")):
        pass
    ended = Task(task)
    with ended.waker(lambda: pytest.fail("woken")):
        ended.end()
        task.cancel()
    assert not ended.cancelled


def test_a_pipe_is_waited_for() -> None:
    reader, writer = os.pipe()
    task, seen = Task(), []

    def work() -> None:
        wait_readable(reader)
        seen.append(os.read(reader, 10))
        wait_readable(reader)
        seen.append(b"never")

    thread = spawn(work, "pipe", task)
    os.write(writer, b"one")
    while not seen:
        time.sleep(0.01)
    task.cancel()
    thread.join(A_SECOND)
    assert not thread.is_alive()
    assert seen == [b"one"]
    os.close(reader)
    os.close(writer)


def test_these_tests_see_a_thread_that_is_left() -> None:
    event = threading.Event()

    def wait() -> None:
        event.wait(10)

    with pytest.raises(AssertionError), nothing_left(0.1):
        left = spawn(wait, "left", Task())
    event.set()
    left.join()
    with pytest.raises(AssertionError), nothing_left(0.1) as closing:
        close_slowly(closing)


def close_slowly(closing: Callable[[], None]) -> None:
    closing()
    time.sleep(0.2)
