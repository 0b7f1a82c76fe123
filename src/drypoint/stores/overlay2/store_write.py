"""Writing a plan for a store into a tree.

For safety, content is written before what refers to it, and names last. If writing stops early, what it has written are
orphans, which no engine uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...fstree import Directory, Metadata, Regular, Symlink, TreeSink, join
from ..interface import LayerStream, OnLayer, OpenLayer, TarSplitContent
from ..planned import AppliedLayer, PlannedFile
from . import paths as layout
from .extraction import apply_changes
from .placement import PlacedLayer

if TYPE_CHECKING:
    # It imports this module, to write itself.
    from .planned_store import StorePlan


def write_store(plan: StorePlan, sink: TreeSink, open_layer: OpenLayer, on_layer: OnLayer | None = None) -> None:
    """See :meth:`drypoint.stores.StorePlan.write`. :func:`remove_replaced` must have been called before."""
    prepare_store(plan, sink)
    for planned in plan.layers:
        with open_layer(planned) as stream:
            applied = write_layer(plan, planned, stream, sink)
        if on_layer is not None:
            on_layer(planned, applied)
    publish_images(plan, sink)


def remove_replaced(plan: StorePlan, sink: TreeSink) -> None:
    """Remove what the plan replaces; called first, so that the space can be used.

    Until :func:`publish_images`, repositories.json refers to images that no longer exist.
    """
    for path in plan.removal.paths:
        sink.remove(path)


def prepare_store(plan: StorePlan, sink: TreeSink) -> None:
    """Create the store's directories that are missing; called before anything else is written."""
    for directory in plan.directories:
        sink.add(directory)


def write_layer(plan: StorePlan, planned: PlacedLayer, stream: LayerStream, sink: TreeSink) -> AppliedLayer:
    """Write one layer. Layers can be written in any order, and concurrently if *sink* allows that."""
    for path in planned.removes:
        sink.remove(path)
    cache = join(plan.root, layout.cache_path(planned.cache_id))
    diff = join(cache, b"diff")
    sink.add(Directory(cache, Metadata(layout.CACHE_DIRECTORY_MODE, mtime=plan.timestamp)))
    sink.add(Directory(diff, Metadata(layout.DIFF_MODE, mtime=plan.timestamp)))
    applied = apply_changes(
        stream, sink, diff, plan.timestamp, what=f"layer {planned.layer.blob.digest}", limits=stream.limits
    )
    sink.settle(diff)
    _write_file(plan, sink, join(cache, b"link"), planned.link.encode("ascii"))
    link = Metadata(0o777, mtime=plan.timestamp)
    sink.add(Symlink(join(plan.root, layout.link_path(planned.link)), link, layout.link_target(planned.cache_id)))
    if planned.parent is not None:
        sink.add(Directory(join(cache, b"work"), Metadata(layout.WORK_MODE, mtime=plan.timestamp)))
        _write_file(plan, sink, join(cache, b"lower"), layout.lower_text(planned.lower))
    if planned.committed:
        _write_file(plan, sink, join(cache, b"committed"), b"", layout.PRIVATE_FILE_MODE)
    # layerdb last, because an engine uses a layer as soon as layerdb has it.
    _write_layerdb(plan, planned, applied, stream.tar_split, sink)
    return applied


def publish_images(plan: StorePlan, sink: TreeSink) -> None:
    """Write the images' configs and records after all layers, and last repositories.json, which gives them names."""
    for file in plan.files:
        _put(plan, sink, file)


def _write_layerdb(
    plan: StorePlan, planned: PlacedLayer, applied: AppliedLayer, tar_split: TarSplitContent, sink: TreeSink
) -> None:
    path = join(plan.root, layout.layer_path(planned.chain_id))
    sink.add(Directory(path, Metadata(layout.LAYER_DIRECTORY_MODE, mtime=plan.timestamp)))
    _write_file(plan, sink, join(path, b"cache-id"), planned.cache_id.encode("ascii"))
    _write_file(plan, sink, join(path, b"diff"), planned.layer.diff_id.encode("ascii"))
    if planned.parent is not None:
        _write_file(plan, sink, join(path, b"parent"), planned.parent.encode("ascii"))
    _write_file(plan, sink, join(path, b"size"), str(applied.size).encode("ascii"))
    metadata = Metadata(layout.FILE_MODE, mtime=plan.timestamp)
    sink.add(Regular(join(path, b"tar-split.json.gz"), metadata, tar_split.size), tar_split.chunks())


def _put(plan: StorePlan, sink: TreeSink, file: PlannedFile) -> None:
    if file.replaces:
        sink.remove(file.path)
    _write_file(plan, sink, file.path, file.content, file.mode)


def _write_file(plan: StorePlan, sink: TreeSink, path: bytes, content: bytes, mode: int = layout.FILE_MODE) -> None:
    sink.add(Regular(path, Metadata(mode, mtime=plan.timestamp), len(content)), (content,) if content else ())
