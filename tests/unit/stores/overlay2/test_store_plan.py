"""Planning, writing and reading a store. Literal JSON here is what dockerd 20.10.24 wrote after pulling two images."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from drypoint.digest import Digest, digest_of
from drypoint.errors import StoreError
from drypoint.fstree import Content, Directory, HardLink, Metadata, Regular, Symlink
from drypoint.layers import Add, Change
from drypoint.limits import DEFAULT_LIMITS, Limits
from drypoint.oci import Descriptor, Image, assemble_layers, parse_config, parse_reference
from drypoint.sinks.memory import MemoryTree
from drypoint.stores import LayerStream, PlannedLayer, StoreFinding
from drypoint.stores.overlay2 import (
    MAX_LAYERS,
    PlacedLayer,
    StorePlan,
    StoreState,
    choose_cache_id,
    choose_link,
    plan_store,
    read_state,
    write_store,
)
from drypoint.stores.overlay2.distribution import (
    MAX_RECORDS,
    V2Metadata,
    add_metadata,
    metadata_text,
    parse_metadata,
)
from drypoint.stores.overlay2.repositories import parse_repositories, repositories_text

ROOT = b"docker"
STAMP = 1_600_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class TarSplitText:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def chunks(self) -> Iterator[bytes]:
        yield self.data


@dataclass(frozen=True, slots=True)
class OneFile:
    """A layer with one file, which holds the layer's digest."""

    content: bytes
    limits: Limits = DEFAULT_LIMITS

    def __iter__(self) -> Iterator[tuple[Change, Content | None]]:
        yield Add(Regular(b"file", Metadata(0o644), len(self.content))), (self.content,)

    @property
    def tar_split(self) -> TarSplitText:
        return TarSplitText(gzip.compress(self.content, mtime=0))


def open_layer(planned: PlannedLayer) -> AbstractContextManager[LayerStream]:
    return nullcontext(OneFile(planned.layer.diff_id.encode()))


def image(*words: str, name: str = "example.com/app:v1") -> Image:
    """An image whose layers are called *words*, base first; layers of one name are the same."""
    diff_ids = [digest_of(f"tar of {word}".encode()) for word in words]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = parse_config(json.dumps({"os": "linux", "architecture": "arm64", "rootfs": rootfs}).encode(), name)
    blobs = tuple(Descriptor("application/x", digest_of(f"blob of {word}".encode()), 100 + len(word)) for word in words)
    reference = parse_reference(name)
    references = (reference, reference.with_digest(digest_of(config.content + b"manifest")))
    return Image(references, config, assemble_layers(config, blobs, name), reference)


def store_with(*images: Image, onto: MemoryTree | None = None) -> tuple[MemoryTree, StorePlan]:
    tree = onto or MemoryTree()
    plan = plan_store(read_state(tree, ROOT), images, timestamp=STAMP)
    write_store(plan, tree, open_layer)
    return tree, plan


def codes(tree: MemoryTree) -> list[tuple[str, bytes]]:
    return [(finding.code, finding.path) for finding in read_state(tree, ROOT).findings]


def text(tree: MemoryTree, path: bytes) -> str:
    return tree.content(ROOT + b"/" + path).decode()


def rewrite(tree: MemoryTree, path: bytes, content: bytes) -> None:
    """Replace, or make, a file of the store."""
    path = ROOT + b"/" + path
    if tree.lookup(path):
        tree.remove(path)
    tree.add(Regular(path, Metadata(0o644), len(content)), (content,))


def cache(planned: PlacedLayer) -> bytes:
    return b"overlay2/" + planned.cache_id.encode()


def layerdb(planned: PlacedLayer) -> bytes:
    return b"image/overlay2/layerdb/sha256/" + planned.chain_id.removeprefix("sha256:").encode()


def test_no_data_root_is_an_empty_store() -> None:
    assert read_state(MemoryTree(), ROOT) == StoreState(ROOT)


def test_data_root_that_is_a_file_is_refused() -> None:
    tree = MemoryTree()
    tree.add(Regular(ROOT, Metadata(0o644), 0), ())
    with pytest.raises(StoreError, match="not a directory"):
        read_state(tree, ROOT)


def test_tree_is_that_of_a_pull() -> None:
    """Type, mode and name of all that dockerd leaves after a pull of two layers; a base's diff-id is its chain-id."""
    built = image("base", "top")
    tree, plan = store_with(built)
    base, top = plan.layers
    short = {
        base.cache_id: "BASE",
        top.cache_id: "TOP",
        base.link: "BASELINK",
        top.link: "TOPLINK",
        base.chain_id[7:]: "base-chain",
        top.chain_id[7:]: "top-chain",
        built.image_id[7:]: "image",
        top.layer.diff_id[7:]: "top-diff",
        base.layer.blob.digest[7:]: "base-blob",
        top.layer.blob.digest[7:]: "top-blob",
    }

    def shorten(path: bytes) -> str:
        return re.sub(r"[a-f0-9]{64}|[A-Z2-7]{26}", lambda match: short[match[0]], path.decode())

    found = {}
    for stat in tree.walk():
        entry = stat.entry
        assert not isinstance(entry, HardLink)
        assert (entry.metadata.uid, entry.metadata.gid) == (0, 0)
        kind = {Directory: "d", Regular: "-", Symlink: "l"}[type(entry)]
        found[shorten(entry.path)] = f"{kind}{entry.metadata.mode:o}"
        assert entry.metadata.mtime == (0 if entry.path.endswith(b"/diff/file") else STAMP)
    expected = """
        docker d710
        docker/image d700
        docker/image/overlay2 d700
        docker/image/overlay2/distribution d700
        docker/image/overlay2/distribution/diffid-by-digest d755
        docker/image/overlay2/distribution/diffid-by-digest/sha256 d755
        docker/image/overlay2/distribution/diffid-by-digest/sha256/base-blob -644
        docker/image/overlay2/distribution/diffid-by-digest/sha256/top-blob -644
        docker/image/overlay2/distribution/v2metadata-by-diffid d755
        docker/image/overlay2/distribution/v2metadata-by-diffid/sha256 d755
        docker/image/overlay2/distribution/v2metadata-by-diffid/sha256/base-chain -644
        docker/image/overlay2/distribution/v2metadata-by-diffid/sha256/top-diff -644
        docker/image/overlay2/imagedb d700
        docker/image/overlay2/imagedb/content d700
        docker/image/overlay2/imagedb/content/sha256 d700
        docker/image/overlay2/imagedb/content/sha256/image -600
        docker/image/overlay2/imagedb/metadata d700
        docker/image/overlay2/imagedb/metadata/sha256 d700
        docker/image/overlay2/layerdb d700
        docker/image/overlay2/layerdb/sha256 d755
        docker/image/overlay2/layerdb/sha256/base-chain d700
        docker/image/overlay2/layerdb/sha256/base-chain/cache-id -644
        docker/image/overlay2/layerdb/sha256/base-chain/diff -644
        docker/image/overlay2/layerdb/sha256/base-chain/size -644
        docker/image/overlay2/layerdb/sha256/base-chain/tar-split.json.gz -644
        docker/image/overlay2/layerdb/sha256/top-chain d700
        docker/image/overlay2/layerdb/sha256/top-chain/cache-id -644
        docker/image/overlay2/layerdb/sha256/top-chain/diff -644
        docker/image/overlay2/layerdb/sha256/top-chain/parent -644
        docker/image/overlay2/layerdb/sha256/top-chain/size -644
        docker/image/overlay2/layerdb/sha256/top-chain/tar-split.json.gz -644
        docker/image/overlay2/layerdb/tmp d755
        docker/image/overlay2/repositories.json -600
        docker/overlay2 d710
        docker/overlay2/BASE d710
        docker/overlay2/BASE/committed -600
        docker/overlay2/BASE/diff d755
        docker/overlay2/BASE/diff/file -644
        docker/overlay2/BASE/link -644
        docker/overlay2/TOP d710
        docker/overlay2/TOP/diff d755
        docker/overlay2/TOP/diff/file -644
        docker/overlay2/TOP/link -644
        docker/overlay2/TOP/lower -644
        docker/overlay2/TOP/work d700
        docker/overlay2/l d700
        docker/overlay2/l/BASELINK l777
        docker/overlay2/l/TOPLINK l777
    """
    assert found == dict(line.split() for line in expected.strip().splitlines())


def test_small_files_say_what_the_engine_says() -> None:
    tree, plan = store_with(image("base", "middle", "top"))
    base, middle, top = plan.layers
    assert text(tree, cache(top) + b"/lower") == f"l/{middle.link}:l/{base.link}"
    assert text(tree, cache(top) + b"/link") == top.link
    assert text(tree, layerdb(top) + b"/cache-id") == top.cache_id
    assert text(tree, layerdb(top) + b"/diff") == top.layer.diff_id
    assert text(tree, layerdb(top) + b"/parent") == middle.chain_id
    assert text(tree, layerdb(top) + b"/size") == "71"
    link = tree.lookup(ROOT + b"/overlay2/l/" + top.link.encode())
    assert link is not None
    assert isinstance(link.entry, Symlink)
    assert link.entry.target == f"../{top.cache_id}/diff".encode()


def test_repositories_json_is_written_as_by_the_engine() -> None:
    engines = (
        b'{"Repositories":{"127.0.0.1:5917/img/one":{"127.0.0.1:5917/img/one:v1":"sha256:9e7e11565d03822448d34608e15a3c9773'
        b'609e4795a9ddb8a2eb3a87f93f2d6f","127.0.0.1:5917/img/one@sha256:9fc4e0b24ef8e2df57a9f8c6b6fbe521af8837791dba78db965'
        b'd9e3f02389947":"sha256:9e7e11565d03822448d34608e15a3c9773609e4795a9ddb8a2eb3a87f93f2d6f"},"127.0.0.1:5917/img/two":'
        b'{"127.0.0.1:5917/img/two:v1":"sha256:237630dcf5ac18dc6c56746164923b8ed52a2bcf8ed79674c30ac570d23929e4","127.0.0.1:5'
        b'917/img/two@sha256:59da629218b85bf9738ce9ad9d88e7bdcf03a8f57fab93591c64673dc63428dd":"sha256:237630dcf5ac18dc6c567'
        b'46164923b8ed52a2bcf8ed79674c30ac570d23929e4"}}}'
    )
    assert repositories_text(parse_repositories(engines)) == engines
    assert repositories_text({}) == b'{"Repositories":{}}'


def test_origins_are_written_as_by_the_engine() -> None:
    engines = (
        b'[{"Digest":"sha256:8f459665c9202399224007649682f9ab1597c881c72dcf87aefd884bac366e56","SourceRepository":"127.0.0.1:'
        b'5917/img/one","HMAC":""},{"Digest":"sha256:8f459665c9202399224007649682f9ab1597c881c72dcf87aefd884bac366e56","Source'
        b'Repository":"127.0.0.1:5917/img/two","HMAC":""}]'
    )
    assert metadata_text(parse_metadata(engines)) == engines


def test_json_is_escaped_as_go_escapes_it() -> None:
    assert metadata_text((V2Metadata("a<b", "c>&\u2028é"),)) == (
        '[{"Digest":"a\\u003cb","SourceRepository":"c\\u003e\\u0026\\u2028é","HMAC":""}]'.encode()
    )


def test_origins_keep_the_youngest() -> None:
    many = tuple(V2Metadata(f"d{n}", "r") for n in range(MAX_RECORDS))
    added = add_metadata(many, V2Metadata("new", "r"))
    assert len(added) == MAX_RECORDS
    assert added[-1].digest == "new"
    assert added[0].digest == "d1"
    assert add_metadata(many, many[0])[-1] == many[0]


def test_images_from_the_hub_have_short_names() -> None:
    tree, plan = store_with(image("base", name="docker.io/library/alpine:3.19"))
    references = json.loads(text(tree, b"image/overlay2/repositories.json"))["Repositories"]["alpine"]
    assert sorted(references) == ["alpine:3.19", f"alpine@{digest_of(image('base').config.content + b'manifest')}"]
    record = b"image/overlay2/distribution/v2metadata-by-diffid/sha256/" + plan.layers[0].layer.diff_id[7:].encode()
    assert json.loads(text(tree, record))[0]["SourceRepository"] == "docker.io/library/alpine"


def test_planning_again_finds_nothing_to_do() -> None:
    images = (image("base", "one"), image("base", "two", name="example.com/other:v1"))
    tree, _ = store_with(*images)
    state = read_state(tree, ROOT)
    assert state.findings == ()
    again = plan_store(state, images, timestamp=STAMP + 1)
    assert again.is_empty
    assert again.fetch_bytes == 0
    assert again.known_images == tuple(one.image_id for one in images)


def test_shared_layers_are_written_once_and_told() -> None:
    first, second = image("base", "one"), image("base", "two", name="example.com/other:v1")
    tree, plan = store_with(first, second)
    assert [planned.images for planned in plan.layers] == [
        (first.image_id, second.image_id),
        (first.image_id,),
        (second.image_id,),
    ]
    third = image("base", "one", "three", name="example.com/third:v1")
    more = plan_store(read_state(tree, ROOT), [third], timestamp=STAMP)
    assert len(more.layers) == 1
    assert more.fetch_bytes == 105
    assert [shared.shared_with for shared in more.shared] == [
        tuple(sorted((first.image_id, second.image_id))),
        (first.image_id,),
    ]
    # The layer "one" gets a child, and was the topmost until now.
    assert [mark.path.rpartition(b"/")[2] for mark in more.marks] == [b"committed"]
    write_store(more, tree, open_layer)
    assert codes(tree) == []


def test_same_layer_twice_in_an_image_is_two_layers() -> None:
    tree, plan = store_with(image("base", "base"))
    assert len({planned.cache_id for planned in plan.layers}) == 2
    assert codes(tree) == []


def test_image_without_layers() -> None:
    tree, plan = store_with(image())
    assert plan.layers == ()
    assert codes(tree) == []


def test_layers_of_a_docker_archive_leave_no_records() -> None:
    given_image = image("base")
    bare = replace(given_image, layers=tuple(replace(layer, distributable=False) for layer in given_image.layers))
    assert plan_store(StoreState(ROOT), [bare], timestamp=STAMP).records == ()
    assert plan_store(StoreState(ROOT), [replace(given_image, repository=None)], timestamp=STAMP).records == ()


def test_tag_moves_and_nothing_else_is_dropped() -> None:
    old, new = image("old"), image("new")
    tree, _ = store_with(old, image("other", name="example.com/other:v1"))
    store_with(new, onto=tree)
    repositories = read_state(tree, ROOT).repositories
    assert repositories["example.com/app"]["example.com/app:v1"] == new.image_id
    assert repositories["example.com/app"][str(old.references[1])] == old.image_id
    assert "example.com/other" in repositories
    assert old.image_id in read_state(tree, ROOT).images


def test_digest_cannot_move() -> None:
    old, new = image("old"), image("new")
    tree, _ = store_with(old)
    with pytest.raises(StoreError, match="cannot change the image of a digest"):
        store_with(replace(new, references=(old.references[1],)), onto=tree)


def test_one_tag_for_two_images_is_refused() -> None:
    with pytest.raises(StoreError, match="two different images"):
        plan_store(StoreState(ROOT), [image("a"), image("b")], timestamp=STAMP)


@pytest.mark.parametrize(("count", "accepted"), [(MAX_LAYERS, True), (MAX_LAYERS + 1, False)])
def test_depth_is_that_of_the_engine(count: int, accepted: bool) -> None:
    assert MAX_LAYERS == 125
    deep = image(*(f"layer {n}" for n in range(count)))
    if accepted:
        assert len(plan_store(StoreState(ROOT), [deep], timestamp=STAMP).layers) == count
    else:
        with pytest.raises(StoreError, match="no more than 125"):
            plan_store(StoreState(ROOT), [deep], timestamp=STAMP)


def test_taken_names_are_stepped_aside_from() -> None:
    plan = plan_store(StoreState(ROOT), [image("base")], timestamp=STAMP)
    (planned,) = plan.layers
    taken = StoreState(ROOT, cache_names=frozenset({planned.cache_id}), links={planned.link: ""})
    (other,) = plan_store(taken, [image("base")], timestamp=STAMP).layers
    assert other.cache_id != planned.cache_id
    assert other.link != planned.link


def test_data_root_deep_in_the_tree() -> None:
    plan = plan_store(StoreState(b"var/lib/docker"), [], timestamp=STAMP)
    assert [(one.path, one.metadata.mode) for one in plan.directories[:3]] == [
        (b"var", 0o755),
        (b"var/lib", 0o755),
        (b"var/lib/docker", 0o710),
    ]


def test_a_data_root_that_is_missing_below_directories_that_are_there() -> None:
    tree = MemoryTree()
    for path in (b"var", b"var/lib"):
        tree.add(Directory(path, Metadata(0o755)))
    tree.add(Symlink(b"srv", Metadata(0o777), b"var"))
    plan = plan_store(read_state(tree, b"var/lib/engine/docker"), [], timestamp=STAMP)
    assert [one.path for one in plan.directories[:2]] == [b"var/lib/engine", b"var/lib/engine/docker"]
    write_store(plan, tree, open_layer)
    assert plan_store(read_state(tree, b"var/lib/engine/docker"), [], timestamp=STAMP).directories == ()
    with pytest.raises(StoreError, match="the data root 'srv/docker' cannot be created: 'srv' is not a directory"):
        read_state(tree, b"srv/docker")


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("layerdb/tar-split.json.gz", "missing-file"),
        ("layerdb/size", "missing-file"),
        ("layerdb/cache-id", "missing-file"),
        ("layerdb/diff", "missing-file"),
        ("layerdb/parent", "wrong-chain-id"),
        ("cache/diff", "missing-file"),
        ("cache/link", "missing-file"),
        ("cache/lower", "missing-file"),
        ("cache/work", "missing-file"),
        ("link", "dangling-link"),
    ],
)
def test_damaged_layer_is_told_and_written_anew_under_its_old_names(damage: str, code: str) -> None:
    """Removed: one thing of the layer in the middle. Its child stays as it is, and is whole again afterwards."""
    images = [image("base", "middle", "top")]
    tree, plan = store_with(*images)
    middle, top = plan.layers[1:]
    place, _, name = damage.encode().partition(b"/")
    below = {b"layerdb": layerdb(middle), b"cache": cache(middle), b"link": b"overlay2/l/" + middle.link.encode()}[
        place
    ]
    tree.remove(b"/".join(part for part in (ROOT, below, name) if part))
    state = read_state(tree, ROOT)
    assert code in {finding.code for finding in state.findings}
    assert not state.layers[middle.chain_id].usable
    assert not state.layers[top.chain_id].usable
    again = plan_store(state, images, timestamp=STAMP)
    if damage == "layerdb/cache-id":
        # Nothing says any more where it was: it gets a new place, and its child has to be told.
        assert [one.chain_id for one in again.layers] == [middle.chain_id, top.chain_id]
    else:
        assert [(one.cache_id, one.link) for one in again.layers] == [(middle.cache_id, middle.link)]
    write_store(again, tree, open_layer)
    repaired = read_state(tree, ROOT)
    assert repaired.layers[top.chain_id].usable
    assert plan_store(repaired, images, timestamp=STAMP).is_empty


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        (b"image/overlay2/layerdb/tmp/write-set-1", b"", "half-written-layer"),
        (b"image/overlay2/layerdb/sha256/" + b"0" * 64 + b"-1-removing", b"", "half-removed-layer"),
        (b"image/overlay2/layerdb/sha256/stray", b"", "unknown-name"),
        (b"image/overlay2/imagedb/content/sha256/" + b"0" * 64, b"{}", "damaged-config"),
        (b"image/overlay2/imagedb/content/sha256/stray", b"{}", "unknown-name"),
        (b"overlay2/" + b"0" * 64, b"", "orphan-cache-directory"),
        (b"overlay2/l/" + b"A" * 26, b"", "dangling-link"),
        (b"image/overlay2/distribution/v2metadata-by-diffid/sha256/" + b"0" * 64, b"{", "unreadable-json"),
        (b"image/overlay2/distribution/diffid-by-digest/sha256/" + b"0" * 64, b"x", "bad-content"),
        (b"image/overlay2/repositories.json", b"{", "unreadable-json"),
        (
            b"image/overlay2/repositories.json",
            b'{"Repositories":{"a":{"a:b":"sha256:%s"}}}' % (b"0" * 64),
            "reference-without-image",
        ),
    ],
)
def test_damage_is_told(path: bytes, content: bytes, expected: str) -> None:
    tree, _ = store_with(image("base"))
    assert codes(tree) == []
    rewrite(tree, path, content)
    assert codes(tree) == [(expected, ROOT + b"/" + path)]


def test_damaged_contents_of_a_layer_are_told() -> None:
    for name, content, code in (
        (b"cache-id", b"../../../etc", "bad-content"),
        (b"size", b"-1", "bad-content"),
        (b"diff", digest_of(b"else").encode(), "wrong-chain-id"),
        (b"parent", digest_of(b"else").encode(), "wrong-chain-id"),
    ):
        tree, plan = store_with(image("base", "top"))
        rewrite(tree, layerdb(plan.layers[1]) + b"/" + name, content)
        assert code in {found for found, _ in codes(tree)}, name


def test_wrong_lower_and_a_shared_cache_id_are_told() -> None:
    tree, plan = store_with(image("base", "middle", "top"))
    base, middle, top = plan.layers
    rewrite(tree, cache(top) + b"/lower", f"l/{base.link}:l/{middle.link}".encode())
    assert codes(tree)[-1] == ("wrong-lower", ROOT + b"/" + cache(top) + b"/lower")
    rewrite(tree, layerdb(top) + b"/cache-id", middle.cache_id.encode())
    assert "shared-cache-id" in {code for code, _ in codes(tree)}


def test_missing_mark_is_told_and_made() -> None:
    tree, plan = store_with(image("base", "top"))
    tree.remove(ROOT + b"/" + cache(plan.layers[0]) + b"/committed")
    assert codes(tree) == [("missing-committed", ROOT + b"/" + cache(plan.layers[0]) + b"/committed")]
    store_with(image("base", "top"), onto=tree)
    assert codes(tree) == []


def test_damaged_config_is_replaced() -> None:
    only = image("base")
    tree, _ = store_with(only)
    rewrite(tree, b"image/overlay2/imagedb/content/sha256/" + only.image_id[7:].encode(), b"{}")
    store_with(only, onto=tree)
    assert codes(tree) == []


def test_unreadable_repositories_stop_the_planning() -> None:
    tree, _ = store_with(image("base"))
    rewrite(tree, b"image/overlay2/repositories.json", b"")
    with pytest.raises(StoreError, match=r"repositories\.json"):
        store_with(image("other"), onto=tree)


def test_layers_of_containers_are_no_orphans() -> None:
    tree, _ = store_with(image("base"))
    mount, init = "a" * 64, "a" * 64 + "-init"
    for name in (mount, init):
        tree.add(Directory(ROOT + b"/overlay2/" + name.encode(), Metadata(0o710)))
    assert {code for code, _ in codes(tree)} == {"orphan-cache-directory"}
    holder = ROOT + b"/image/overlay2/layerdb/mounts"
    tree.add(Directory(holder, Metadata(0o755)))
    tree.add(Directory(holder + b"/c", Metadata(0o755)))
    rewrite(tree, b"image/overlay2/layerdb/mounts/c/mount-id", mount.encode())
    rewrite(tree, b"image/overlay2/layerdb/mounts/c/init-id", init.encode())
    assert codes(tree) == []


def test_oversized_files_are_not_read() -> None:
    tree, plan = store_with(image("base"))
    rewrite(tree, layerdb(plan.layers[0]) + b"/diff", b"x" * (64 << 10 | 1))
    assert (
        StoreFinding(
            "oversized-file",
            ROOT + b"/" + layerdb(plan.layers[0]) + b"/diff",
            "the file has 65537 bytes, more than the 65536 allowed",
        )
        in read_state(tree, ROOT).findings
    )


def test_writing_ends_with_the_names() -> None:
    """What a run that stops leaves behind must be orphans: repositories.json comes last, layerdb after the layer's content."""

    class Recorder(MemoryTree):
        added: list[bytes]

    tree = Recorder()
    tree.added = []
    plan = plan_store(StoreState(ROOT), [image("base")], timestamp=STAMP)
    add = tree.add

    def record(entry: Directory | Regular | Symlink, content: Content | None = None) -> None:
        tree.added.append(entry.path)
        add(entry, content)

    tree.add = record  # type: ignore[assignment,method-assign]
    write_store(plan, tree, open_layer)
    order = tree.added
    assert order[-1] == ROOT + b"/image/overlay2/repositories.json"
    content = ROOT + b"/" + cache(plan.layers[0]) + b"/diff/file"
    assert order.index(content) < order.index(ROOT + b"/" + layerdb(plan.layers[0]) + b"/cache-id")


@given(st.binary(max_size=8), st.integers(0, 3))
def test_chosen_names_are_well_formed_and_not_taken(seed: bytes, taken: int) -> None:
    chain_id = Digest("sha256:" + hashlib.sha256(seed).hexdigest())
    cache_ids: set[str] = set()
    links: set[str] = set()
    for _ in range(taken + 1):
        cache_id, link = choose_cache_id(chain_id, cache_ids), choose_link(chain_id, links)
        assert re.fullmatch(r"[a-f0-9]{64}", cache_id)
        assert re.fullmatch(r"[A-Z2-7]{26}", link)
        assert cache_id not in cache_ids
        assert link not in links
        assert cache_id != chain_id[7:]
        cache_ids.add(cache_id)
        links.add(link)


_CHAINS = st.lists(st.lists(st.sampled_from("abc"), max_size=4).map(tuple), min_size=1, max_size=4, unique=True)


@given(_CHAINS, st.randoms(use_true_random=False))
def test_what_is_written_is_what_is_read(chains: list[tuple[str, ...]], random: object) -> None:
    images = [image(*words, name=f"example.com/app{n}:v1") for n, words in enumerate(chains)]
    tree, plan = store_with(*images)
    state = read_state(tree, ROOT)
    assert state.findings == ()
    assert set(state.images) == {one.image_id for one in images}
    assert all(one.usable for one in state.images.values())
    assert {chain_id: layer.cache_id for chain_id, layer in state.layers.items()} == {
        planned.chain_id: planned.cache_id for planned in plan.layers
    }
    written: set[Digest] = set()
    for planned in plan.layers:
        assert planned.parent is None or planned.parent in written
        written.add(planned.chain_id)
    assert plan_store(state, images, timestamp=STAMP).is_empty
    backwards = plan_store(StoreState(ROOT), images[::-1], timestamp=STAMP)
    assert {(one.chain_id, one.cache_id, one.link, one.lower, one.committed) for one in backwards.layers} == {
        (one.chain_id, one.cache_id, one.link, one.lower, one.committed) for one in plan.layers
    }
    one_by_one = MemoryTree()
    for one in images:
        store_with(one, onto=one_by_one)
    assert [(s.entry, s.links) for s in one_by_one.walk()] == [(s.entry, s.links) for s in tree.walk()]
