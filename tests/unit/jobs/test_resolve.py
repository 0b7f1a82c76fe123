"""Asking for several images at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from drypoint.errors import ImageNotFoundError
from drypoint.jobs.request import ImageRequest
from drypoint.jobs.resolve import resolve_all
from drypoint.oci import Image, Layer, Platform, Reference, parse_config, parse_reference

PLATFORM = Platform("linux", "amd64")
CONFIG = parse_config(b'{"rootfs": {"type": "layers", "diff_ids": []}}', "a config")


class Source:
    """Knows all images but ``missing``, takes its time for each, and never answers about ``stalled`` until released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._running = 0
        self.most_running = 0

    def resolve(self, reference: Reference, platform: Platform) -> Image:
        with self._lock:
            self._running += 1
            self.most_running = max(self.most_running, self._running)
        try:
            if "stalled" in reference.path:
                self.released.wait(30)
            if "missing" in reference.path:
                raise ImageNotFoundError("there is no such image")
            time.sleep(0.01)
            return Image((reference,), CONFIG, (), None)
        finally:
            with self._lock:
                self._running -= 1

    def open_layer(self, image: Image, layer: Layer) -> Iterator[bytes]:
        raise NotImplementedError

    def close(self) -> None:
        self.released.set()


def requests(source: Source, *names: str) -> list[ImageRequest]:
    return [ImageRequest(parse_reference(name), source) for name in names]


def test_answers_are_in_the_order_of_the_requests() -> None:
    source = Source()
    names = [f"app{number}:1" for number in range(20)]
    found = resolve_all(requests(source, *names), PLATFORM)
    assert [image.references[0].familiar for image in found] == names
    assert 1 < source.most_running <= 4


def test_nothing_wanted_is_nothing_asked() -> None:
    assert resolve_all([], PLATFORM) == []


def test_a_failure_does_not_wait_for_what_stalls() -> None:
    source = Source()
    started = time.monotonic()
    with pytest.raises(ImageNotFoundError, match="no such image"):
        resolve_all(requests(source, "stalled:1", "missing:1", "app:1"), PLATFORM)
    assert time.monotonic() - started < 10
    source.close()
