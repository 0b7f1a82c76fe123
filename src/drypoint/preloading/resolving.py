"""What the wanted images are, asked of their sources, a few at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from ..oci import Image, Platform
from .request import ImageRequest

_AT_ONCE = 4


def resolve_all(requests: Sequence[ImageRequest], platform: Platform) -> list[Image]:
    """The image of each of *requests*, in their order.

    An interrupt or the first failure ends it at once: nobody waits for a registry that is slow to answer about the other
    images. The threads that ask keep no program from ending, which those of concurrent.futures do.

    Raises:
        SourceError, ContentError: an image cannot be had, or is not what it claims to be.
    """
    waiting: SimpleQueue[int] = SimpleQueue()
    answers: SimpleQueue[tuple[int, Image | BaseException]] = SimpleQueue()
    given_up = threading.Event()

    def ask() -> None:
        while not given_up.is_set():
            try:
                number = waiting.get_nowait()
            except Empty:
                return
            try:
                answers.put((number, requests[number].source.resolve(requests[number].reference, platform)))
            except BaseException as error:  # noqa: BLE001 - it is raised again, where the answers are taken
                answers.put((number, error))

    for number in range(len(requests)):
        waiting.put(number)
    for number in range(min(_AT_ONCE, len(requests))):
        threading.Thread(target=ask, name=f"drypoint-resolve-{number}", daemon=True).start()
    found: dict[int, Image] = {}
    try:
        while len(found) < len(requests):
            number, answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            found[number] = answer
    finally:
        given_up.set()
    return [found[number] for number in range(len(requests))]
