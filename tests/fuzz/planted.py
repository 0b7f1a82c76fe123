"""A parser with a fault, by which the runner shows that it finds faults."""

from __future__ import annotations

from .target import Target


def read(data: bytes) -> None:
    # One step after another, so that only a fuzzer that is led by coverage comes here soon.
    if len(data) > 1 and data[0] == 0x46 and data[1] == 0x55:
        raise KeyError("planted")


PLANTED = Target("planted", read, lambda: (b"none", b"F-"), covers=("tests.fuzz.planted",))
