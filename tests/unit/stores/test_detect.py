"""What every kind of store can do, of the one that an engine reads today: through the values that jobs see."""

from __future__ import annotations

import json

import pytest
from tests.unit.stores.overlay2.test_store_plan import ROOT, STAMP, image, open_layer, rewrite

from drypoint.errors import ContentError
from drypoint.fstree import Metadata, Regular, Stat
from drypoint.oci import Image, parse_reference
from drypoint.sinks.memory import MemoryTree
from drypoint.stores import PlannedLayer, ReadStore, StorePlan, detect, load_store

ONE = image("base", "one", name="example.com/app:v1")
TWO = image("base", "two", name="example.com/app:v2")


def put(tree: MemoryTree, *images: Image) -> StorePlan:
    plan = detect(ROOT).read(tree).plan(images, timestamp=STAMP)
    plan.remove(tree)
    plan.write(tree, open_layer)
    return plan


@pytest.fixture
def tree() -> MemoryTree:
    tree = MemoryTree()
    put(tree, ONE)
    return tree


@pytest.fixture
def store(tree: MemoryTree) -> ReadStore:
    return detect(ROOT).read(tree)


def paths(tree: MemoryTree) -> set[bytes]:
    return {stat.entry.path for stat in tree.walk()}


def test_contents_say_what_the_engine_finds(store: ReadStore) -> None:
    contents = store.contents
    assert (contents.root, contents.exists, contents.findings) == (ROOT, True, ())
    assert all(contents.find(reference) == ONE.image_id for reference in ONE.references)
    assert contents.loads(ONE.image_id)
    both = parse_reference(f"example.com/app:none@{ONE.references[1].digest}")
    assert contents.find(both) == ONE.image_id, "a digest takes precedence over a tag"
    assert contents.find(TWO.references[0]) is None
    assert not contents.loads(TWO.image_id)


def test_what_is_not_there_is_an_empty_store() -> None:
    read, unread = detect(ROOT).read(MemoryTree()), detect(ROOT).unread()
    assert read == unread
    assert not read.contents.exists


def test_a_damaged_layer_keeps_its_image_from_loading(tree: MemoryTree) -> None:
    rewrite(tree, b"image/overlay2/layerdb/sha256/" + ONE.layers[1].chain_id[7:].encode() + b"/size", b"many")
    contents = detect(ROOT).read(tree).contents
    assert contents.find(ONE.references[0]) == ONE.image_id
    assert not contents.loads(ONE.image_id)


def test_configs_are_read_again(store: ReadStore, tree: MemoryTree) -> None:
    assert store.config(tree, ONE.image_id) == ONE.config.content
    assert store.config(tree, TWO.image_id) is None


def test_what_is_kept_of_a_store_makes_the_same_plan(store: ReadStore) -> None:
    kept = load_store(store.dump())
    assert kept == store
    assert kept.plan([TWO], timestamp=STAMP) == store.plan([TWO], timestamp=STAMP)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"above": -1}, "out of range"),
        ({"data_root": "Li4veA=="}, "leaves the root"),
        ({"findings": [{"code": "made-up", "path": "", "text": "x"}]}, "'made-up' is not the code of a finding"),
        ({"links": {"..": ""}}, "'..' is not a name of a file"),
        ({"images": 1}, "Expected `object`"),
    ],
)
def test_what_was_kept_is_read_with_suspicion(store: ReadStore, changed: dict[str, object], says: str) -> None:
    document = json.loads(store.dump()) | changed
    with pytest.raises(ContentError, match=says):
        load_store(json.dumps(document).encode())


def test_a_plan_knows_all_paths_that_it_writes_alone(tree: MemoryTree) -> None:
    before = paths(tree)
    plan = detect(ROOT).read(tree).plan([TWO], timestamp=STAMP)
    own = set(plan.own_paths())
    assert not own & before
    assert not own & plan.merged_paths
    put(tree, TWO)
    made = paths(tree) - before
    assert own <= made
    assert {path for path in made if not any(path == one or path.startswith(one + b"/") for one in own)} == set()


def test_the_space_of_records_is_that_of_what_is_written() -> None:
    plan = detect(ROOT).unread().plan([ONE, TWO], timestamp=STAMP)
    tree = MemoryTree()
    counted: dict[str, int] = {}

    def count(planned: PlannedLayer, _: object) -> None:
        counted[planned.chain_id] = len(paths(tree))

    plan.write(tree, open_layer, count)
    records = plan.space(4096).layers
    first, second, third = (planned.chain_id for planned in plan.layers)
    # Each layer here has one file below diff/.
    assert records[second].inodes == counted[second] - counted[first] - 1
    assert records[third].inodes == counted[third] - counted[second] - 1
    # diff/ and the tar-split take inodes here, and their blocks with the layer's content.
    assert records[first].blocks < records[first].inodes
    assert records[first].directory_blocks == 2
    assert records[second].directory_blocks == 3


def test_files_are_merged_within_a_limit() -> None:
    store = detect(ROOT)
    plan = store.unread().plan([ONE], timestamp=STAMP)
    assert plan.merged_paths == {store.names_path}
    (file,) = (file for file in plan.files if file.path == store.names_path)
    merged = json.loads(store.merge(b'{"Repositories":{"other":{"other:1":"sha256:x"}}}', file.content))
    assert set(merged["Repositories"]) == {"other", "example.com/app"}
    assert len(file.content) < store.merge_limit


def test_a_check_reports_a_wrong_mode_and_has_the_layers(store: ReadStore, tree: MemoryTree) -> None:
    checked = store.check(tree)
    assert checked.findings == ()
    assert [layer.chain_id for layer in checked.layers] == sorted(layer.chain_id for layer in ONE.layers)
    assert all(_is_file(tree.lookup(layer.tar_split)) for layer in checked.layers)
    assert all(tree.lookup(layer.files + b"/file") is not None for layer in checked.layers)
    path = store.contents.names_path
    tree.amend(path, Metadata(0o644))
    assert [(one.code, one.path) for one in store.check(tree).findings] == [("wrong-store-mode", path)]


def test_the_uppermost_layer_comes_first(tree: MemoryTree) -> None:
    put(tree, image("base", "one", "top", name="example.com/app:v3"))
    roots = list(detect(ROOT).layer_roots(tree))
    contents = [tree.content(root + b"/file").decode() for root in roots]
    of_top = image("base", "one", "top", name="example.com/app:v3")
    assert contents == [layer.diff_id for layer in reversed(of_top.layers)]
    assert list(detect(b"elsewhere").layer_roots(tree)) == []


def test_a_listing_calls_a_layer_by_its_own_words(store: ReadStore, tree: MemoryTree) -> None:
    listing = store.list(tree)
    assert [one.references[0] for one in listing.images] == ["example.com/app:v1"]
    for layer in listing.layers:
        ((key, value),) = layer.detail
        assert key == "cache_id"
        assert tree.lookup(f"docker/overlay2/{value}".encode()) is not None
    assert listing.orphans.place == "overlay2"


def _is_file(stat: Stat | None) -> bool:
    return stat is not None and isinstance(stat.entry, Regular)
