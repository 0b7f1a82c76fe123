"""Fetching layers, a few ahead of the one that is written.

While one layer is written, the next ones are fetched, inflated and checked in threads of their own, as far as their bounded
buffers allow; so neither the network nor the writer waits for the other, and memory does not depend on the size of layers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from ..digest import Digest
from ..errors import TransferError
from ..layers import LayerReader, TarChunks, tar_chunks
from ..limits import DEFAULT_LIMITS, Limits, raise_hint
from ..oci import Image, Layer
from ..progress import Step
from ..sources import BlobSource
from ..stores import PlannedLayer

LAYERS_AHEAD = 2


class LayerJob(msgspec.Struct, frozen=True):
    """One layer to fetch, and its source.

    Attributes:
        repeated: whether a pull of *image* would already have fetched the blob for a lower layer, and so would read that layer
            in the store.
    """

    image: Image
    layer: Layer
    source: BlobSource
    repeated: bool = False

    @property
    def what(self) -> str:
        """The layer's name in errors."""
        name = self.image.references[0] if self.image.references else self.image.image_id
        return f"layer {self.layer.blob.digest} of {name}"


def layer_jobs(layers: Iterable[PlannedLayer], sources: Mapping[Digest, BlobSource]) -> list[LayerJob]:
    """The jobs for *layers*, in their order; *sources* has the source of each image by its id."""
    pulled: set[tuple[Digest, Digest]] = set()
    jobs: list[LayerJob] = []
    for planned in layers:
        key = (planned.image.image_id, planned.layer.blob.digest)
        # Only for a pull: docker load reads every layer from its archive.
        repeated = key in pulled and planned.layer.distributable
        jobs.append(LayerJob(planned.image, planned.layer, sources[planned.image.image_id], repeated))
        pulled.add(key)
    return jobs


class LayerFetcher:
    """Provides the layers of *jobs* in their order, each once. A context manager: leaving it stops all threads.

    Args:
        step: gets the number of received bytes.
        in_memory: no temporary file is made, whatever the size of a tar-split.
        limits: the largest layers that are accepted.
    """

    def __init__(
        self,
        jobs: Sequence[LayerJob],
        step: Step,
        *,
        ahead: int = LAYERS_AHEAD,
        in_memory: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._waiting = deque(jobs)
        self._step = step
        self._ahead = ahead
        self._in_memory = in_memory
        self._limits = limits
        self._until = time.monotonic() + limits.seconds
        self._started: deque[tuple[LayerJob, TarChunks]] = deque()

    def prefetch(self) -> None:
        """Start fetching the first layers before they are requested."""
        self._start(self._ahead)

    @contextmanager
    def next_layer(self) -> Iterator[LayerReader]:
        """The next layer, open. Read it to its end, where its digests are checked.

        Raises:
            SourceError, ContentError: from reading, if the blob is not available or damaged.
        """
        self._start(self._ahead + 1)
        job, chunks = self._started.popleft()
        try:
            chunks.comes_next()
            with LayerReader(
                chunks, job.what, in_memory=self._in_memory, from_store=job.repeated, limits=self._limits
            ) as reader:
                self._start(self._ahead)
                yield reader
        finally:
            chunks.close()

    def close(self) -> None:
        """Stop running transfers and drop the rest. Idempotent."""
        self._waiting.clear()
        while self._started:
            self._started.popleft()[1].close()

    def __enter__(self) -> LayerFetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, wanted: int) -> None:
        while self._waiting and len(self._started) < wanted:
            job = self._waiting.popleft()
            blob = self._counted(job.source.open_layer(job.image, job.layer), job.what)
            self._started.append((job, tar_chunks(blob, job.layer, job.what, limits=self._limits, ahead=True)))

    def _counted(self, blob: Iterator[bytes], what: str) -> Iterator[bytes]:
        try:
            for chunk in blob:
                if time.monotonic() > self._until:
                    raise TransferError(
                        f"{what} is not whole {self._limits.seconds} seconds after the first request; {raise_hint('seconds')}"
                    )
                self._step.advance(len(chunk))
                yield chunk
        finally:
            close = getattr(blob, "close", None)
            if close is not None:
                close()
