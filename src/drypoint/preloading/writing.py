"""Doing what is planned, on a partition that grows as needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..disk.ext4.reader import Ext4Reader
from ..engine import remove_replaced, write_store
from ..engine.overlay2 import AppliedLayer
from ..engine.placement import PlannedLayer
from ..fstree import TreeReader
from ..layers import LayerReader
from ..progress import SILENT, Progress
from ..sinks.ext4 import Ext4Sink
from .fetch import LayerFetcher, LayerJob
from .files import put_file
from .gathering import Gathered
from .growing import GrowingPartition
from .room import spare_room


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """A layer that was written: its place in the store, and what it came to."""

    planned: PlannedLayer
    applied: AppliedLayer


@contextmanager
def fetching(gathered: Gathered, progress: Progress) -> Iterator[LayerFetcher]:
    """The layers that are planned, of which the first are on their way at once."""
    store = gathered.plan.store
    jobs = [
        LayerJob(planned.image, planned.layer, gathered.sources[planned.image.image_id]) for planned in store.layers
    ]
    step = progress.begin(f"fetching {len(jobs)} layers", store.fetch_bytes) if jobs else SILENT.begin("")
    with LayerFetcher(jobs, step) as fetcher:
        fetcher.prefetch()
        yield fetcher
    step.end()


def carry_out(
    gathered: Gathered, growing: GrowingPartition, fetcher: LayerFetcher, additional_space: int
) -> tuple[WrittenLayer, ...]:
    """Do what is planned. Where there is nothing to do, not one byte changes: opening a file system for writing marks it.

    Raises:
        DrypointError: as :func:`~drypoint.preload`; the file system is then inconsistent.
    """
    plan = gathered.plan
    written: tuple[WrittenLayer, ...] = ()
    if plan.store.removal.paths:
        # In a session of its own, so that the partition grows only by what is still missing.
        with Ext4Sink(growing.window, now=max(gathered.timestamp, 1)) as sink:
            remove_replaced(plan.store, sink)
            sink.finish()
    if not plan.is_empty:
        growing.make_room(plan.room)
        written = _write(gathered, growing, fetcher)
    if additional_space:
        # The estimate may have fallen short of what was written.
        growing.make_room(spare_room(plan.block_size, additional_space))
    return written


def _write(gathered: Gathered, growing: GrowingPartition, fetcher: LayerFetcher) -> tuple[WrittenLayer, ...]:
    written: list[WrittenLayer] = []
    with Ext4Sink(growing.window, now=max(gathered.timestamp, 1), on_full=growing.on_full) as sink:

        @contextmanager
        def open_layer(_: PlannedLayer) -> Iterator[LayerReader]:
            with fetcher.next_layer() as reader:
                yield reader

        write_store(gathered.plan.store, sink, open_layer, lambda *layer: written.append(WrittenLayer(*layer)))
        present: TreeReader = Ext4Reader(growing.window)
        for file in gathered.plan.files:
            put_file(sink, file, gathered.timestamp, exists=present.lookup(file.path) is not None)
        sink.finish()
    return tuple(written)
