"""Signals become one exception in the main thread, where it does no harm, and it comes for certain.

Each script plays one way in which Python alone loses a signal, or breaks what it hits. They run as processes of their own, the
handlers being the process's.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

_BEGIN = """
import os, signal, sys, threading, time, types
from queue import SimpleQueue
from drypoint.cli.ending import Terminated, terminable
from drypoint.concurrency.uninterrupted import uninterrupted

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)

def ours(function):
    return types.FunctionType(function.__code__, globals() | {"__name__": "drypoint.ours"})

def until_ended(work):
    try:
        with terminable():
            work()
    except Terminated:
        print("ended")
"""


def said_by(script: str) -> list[str]:
    """The lines that *script* printed; it has 20 seconds."""
    ended = subprocess.run(
        [sys.executable, "-c", _BEGIN + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_it_is_raised_once_with_the_number_of_the_signal(name: str) -> None:
    assert said_by(
        f"""
        @ours
        def wait():
            signal.pause()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.{name})).start()
        try:
            with terminable():
                try:
                    wait()
                finally:
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(0.1)
                    print("cleaned up")
        except Terminated as end:
            os.kill(os.getpid(), signal.SIGTERM)
            print(end.number == signal.{name})
        """
    ) == ["cleaned up", "True"]


def test_a_signal_that_does_not_wake_the_main_thread_does_so_soon() -> None:
    # It goes to another thread, as it may before the main thread begins to wait.
    assert said_by(
        """
        def send():
            time.sleep(0.2)
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        threading.Thread(target=send).start()
        try:
            with terminable():
                SimpleQueue().get()
        except Terminated:
            print("ended")
        """
    ) == ["ended"]


def test_an_exception_that_was_dropped_comes_again() -> None:
    assert said_by(
        """
        @ours
        def destroy(self):
            os.kill(os.getpid(), signal.SIGTERM)
            print("not reached")
        Dropping = type("Dropping", (), {"__del__": destroy})
        try:
            with terminable():
                Dropping()
                SimpleQueue().get()
        except Terminated:
            print("ended")
        """
    ) == ["ended"]


def test_what_is_dropped_besides_is_shown_as_ever() -> None:
    assert said_by(
        """
        class Failing:
            def __del__(self):
                raise ValueError("shown")
        sys.unraisablehook = lambda unraisable: print(unraisable.exc_value)
        with terminable():
            Failing()
        """
    ) == ["shown"]


def test_a_library_that_works_is_left_alone_until_it_is_done() -> None:
    assert said_by(
        """
        def fibonacci(number):
            return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)
        def library():
            os.kill(os.getpid(), signal.SIGTERM)
            fibonacci(24)
            print("done")
        @ours
        def work():
            library()
            time.sleep(10)
            print("not reached")
        until_ended(work)
        """
    ) == ["done", "ended"]


def test_a_library_that_does_not_end_is_ended() -> None:
    assert said_by(
        """
        def work():
            while True:
                for number in range(1000):
                    number += 1
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        began = time.monotonic()
        try:
            with terminable():
                work()
        except Terminated:
            print("ended", time.monotonic() - began < 5)
        """
    ) == ["ended True"]


def test_putting_back_is_not_cut_off() -> None:
    assert said_by(
        """
        @ours
        def work():
            with uninterrupted():
                os.kill(os.getpid(), signal.SIGTERM)
                for _ in range(30):
                    time.sleep(0.01)
                print("put back")
            time.sleep(10)
            print("not reached")
        until_ended(work)
        """
    ) == ["put back", "ended"]


def test_a_signal_while_another_is_looked_at_is_not_raised_in_the_library() -> None:
    assert said_by(
        """
        from drypoint.cli import ending
        looked = ending._Ending._harmless
        def nested(self, frame):
            ending._Ending._harmless = looked
            os.kill(os.getpid(), signal.SIGTERM)
            return looked(self, frame)
        ending._Ending._harmless = types.FunctionType(nested.__code__, vars(ending) | {"looked": looked, "ending": ending})
        def library():
            os.kill(os.getpid(), signal.SIGTERM)
            print("done")
        @ours
        def work():
            library()
            time.sleep(10)
            print("not reached")
        until_ended(work)
        """
    ) == ["done", "ended"]


def test_a_second_block_in_the_same_process_hears_signals_too() -> None:
    assert said_by(
        """
        for _ in range(2):
            try:
                with terminable():
                    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
                    SimpleQueue().get()
            except Terminated:
                print("ended")
        """
    ) == ["ended", "ended"]


def test_a_handler_of_somebody_else_is_called_once() -> None:
    assert said_by(
        """
        called = []
        signal.signal(signal.SIGHUP, lambda number, frame: called.append(number))
        with terminable():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.2)
        print(len(called))
        """
    ) == ["1"]


def test_what_fails_after_a_signal_ends_as_the_signal_does() -> None:
    assert said_by(
        """
        for error in (ValueError(), SystemExit(60)):
            def fail():
                os.kill(os.getpid(), signal.SIGTERM)
                raise error
            until_ended(fail)
        """
    ) == ["ended", "ended"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_the_program_is_imported_has_its_status_and_no_words(name: str) -> None:
    script = f"""
import os, signal, sys
class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == "drypoint.cli.app":
            os.kill(os.getpid(), signal.{name})
sys.meta_path.insert(0, Interrupter())
signal.signal(signal.SIGINT, signal.default_int_handler)
from drypoint.cli import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + getattr(signal, name), "", "")
