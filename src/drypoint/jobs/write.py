"""Executing a plan on a partition that grows as needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from ..digest import Digest
from ..fstree import TreeReader
from ..layers import LayerReader
from ..limits import Limits
from ..progress import SILENT, Progress, counted
from ..sinks.ext4_meter import Taken
from ..sizing.layer_index import IndexedLayer
from ..sizing.space import content_of, spare_space
from ..stores import AppliedLayer, PlannedLayer, StorePlan
from ..volumes.extra_files import put_file
from ..volumes.writable_volume import WritableVolume
from .fetch import LayerFetcher, layer_jobs
from .plan import PlannedJob


class WrittenLayer(msgspec.Struct, frozen=True):
    """A written layer: its place in the store, and its size.

    Attributes:
        tar_bytes: length of its uncompressed tar.
        taken: blocks and inodes, including its records in the store, minus those that a removed damaged copy freed.
    """

    planned: PlannedLayer
    applied: AppliedLayer
    tar_bytes: int
    taken: Taken

    @property
    def blocks(self) -> int:
        """Its blocks in the file system, without directories outside ``diff/``."""
        return self.taken.blocks

    @property
    def inodes(self) -> int:
        """Its inodes."""
        return self.taken.inodes


def to_be_noted(store: StorePlan, written: Sequence[WrittenLayer], block_size: int) -> dict[Digest, IndexedLayer]:
    """The sizes of *written*, layers of *store*, for the layer index, by diff-id."""
    records = store.space(block_size).layers
    return {
        layer.planned.layer.diff_id: content_of(records[layer.planned.chain_id], layer.taken, layer.tar_bytes)
        for layer in written
        if not layer.planned.removes
    }


@contextmanager
def fetching(job: PlannedJob, limits: Limits, progress: Progress) -> Iterator[LayerFetcher]:
    """The planned layers; the first ones are fetched at once."""
    store = job.plan.store
    jobs = layer_jobs(store.layers, job.sources)
    step = progress.begin(f"fetching {counted(len(jobs), 'layer')}", store.fetch_bytes) if jobs else SILENT.begin("")
    with LayerFetcher(jobs, step, limits=limits) as fetcher:
        fetcher.prefetch()
        yield fetcher
    step.end()


def carry_out(
    job: PlannedJob, volume: WritableVolume, fetcher: LayerFetcher, additional_space: int
) -> tuple[WrittenLayer, ...]:
    """Execute the plan. If there is nothing to do, no byte changes: opening a file system for writing would mark it.

    Raises:
        DrypointError: as :func:`~drypoint.preload`; the file system is then inconsistent.
    """
    plan = job.plan
    written: tuple[WrittenLayer, ...] = ()
    if plan.store.removal.paths:
        # In a session of its own, so that the partition only grows by what is still missing.
        with volume.sink(max(job.timestamp, 1), grows=False) as sink:
            plan.store.remove(sink)
            sink.finish()
    if not plan.is_empty:
        volume.make_space(plan.space)
        written = _write(job, volume, fetcher)
    if additional_space:
        # The estimate may have been too low.
        volume.make_space(spare_space(plan.block_size, additional_space))
    return written


def _write(job: PlannedJob, volume: WritableVolume, fetcher: LayerFetcher) -> tuple[WrittenLayer, ...]:
    written: list[WrittenLayer] = []
    with volume.sink(max(job.timestamp, 1)) as sink:
        readers: list[LayerReader] = []

        @contextmanager
        def open_layer(_: PlannedLayer) -> Iterator[LayerReader]:
            with fetcher.next_layer() as reader:
                readers[:] = [reader]
                sink.meter.start()
                yield reader

        def on_layer(planned: PlannedLayer, applied: AppliedLayer) -> None:
            written.append(WrittenLayer(planned, applied, readers[0].tar_bytes, sink.meter.read()))

        job.plan.store.write(sink, open_layer, on_layer)
        present: TreeReader = volume.reread().reader()
        for file in job.plan.files:
            put_file(sink, file, job.timestamp, exists=present.lookup(file.path) is not None)
        sink.finish()
    return tuple(written)
