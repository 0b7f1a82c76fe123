"""Removing what is replaced, tagging, and what is left over. tests/engine/test_again.py holds it against an engine."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from drypoint.balena.previous import previous_images
from drypoint.balena.supervisor_image import supervisor_tags, version_of
from drypoint.errors import FilesystemError, StoreError, UsageError
from drypoint.fstree import Directory, HardLink, Metadata, Regular, Stat
from drypoint.oci import Image, Reference, parse_config, parse_reference
from drypoint.sinks.memory import MemoryTree
from drypoint.stores.overlay2 import StorePlan, plan_store, read_state, remove_replaced, write_store

from .test_store_plan import ROOT, STAMP, image, open_layer, rewrite

R1 = image("base", "one", name="example.com/app:v1")
R2 = image("base", "two", name="example.com/app:v2")


def digest_of_reference(of: Image) -> Reference:
    return next(reference for reference in of.references if reference.digest is not None)


def put(tree: MemoryTree, *images: Image, replaced: Sequence[Reference] = ()) -> StorePlan:
    plan = plan_store(read_state(tree, ROOT), images, timestamp=STAMP, replaced=replaced)
    remove_replaced(plan, tree)
    write_store(plan, tree, open_layer)
    return plan


def everything(tree: MemoryTree) -> dict[bytes, object]:
    found: dict[bytes, object] = {}
    for stat in tree.walk():
        entry = stat.entry
        assert not isinstance(entry, HardLink)
        found[entry.path] = (entry, tree.content(entry.path) if isinstance(entry, Regular) else None)
    return found


def names(tree: MemoryTree) -> dict[str, dict[str, str]]:
    content: dict[str, dict[str, dict[str, str]]] = json.loads(
        tree.content(ROOT + b"/image/overlay2/repositories.json")
    )
    return content["Repositories"]


def without_records(tree: MemoryTree) -> dict[bytes, object]:
    return {path: value for path, value in everything(tree).items() if b"/distribution/" not in path}


def test_replaced_image_leaves_only_its_records() -> None:
    tree, fresh = MemoryTree(), MemoryTree()
    put(tree, R1)
    before = everything(tree)
    plan = put(tree, R2, replaced=R1.references)
    put(fresh, R2)
    assert without_records(tree) == without_records(fresh)
    records = {path: value for path, value in before.items() if b"/distribution/" in path}
    assert records.items() <= everything(tree).items()
    assert [gone.image_id for gone in plan.removal.images] == [R1.image_id]
    assert plan.removal.layers == (R1.layers[1].chain_id,)
    assert plan.removal.freed_bytes == read_state_size(R1)
    assert read_state(tree, ROOT).findings == ()


def read_state_size(of: Image) -> int:
    tree = MemoryTree()
    put(tree, of)
    return read_state(tree, ROOT).layers[of.layers[1].chain_id].size or 0


def test_without_replacing_both_stay() -> None:
    tree = MemoryTree()
    put(tree, R1)
    before = everything(tree)
    put(tree, R2)
    after = everything(tree)
    assert {path for path in before if before[path] != after.get(path)} == {ROOT + b"/image/overlay2/repositories.json"}
    assert set(read_state(tree, ROOT).images) == {R1.image_id, R2.image_id}


def test_doing_it_again_plans_nothing() -> None:
    tree = MemoryTree()
    tagged = replace(R2, tags=(parse_reference("more:latest"),))
    put(tree, R1)
    put(tree, tagged, replaced=R1.references)
    plan = plan_store(read_state(tree, ROOT), [tagged], timestamp=STAMP, replaced=R1.references)
    assert plan.is_empty


def test_image_that_is_wanted_again_stays() -> None:
    tree = MemoryTree()
    put(tree, R1)
    before = everything(tree)
    plan = put(tree, R1, replaced=R1.references)
    assert plan.is_empty
    assert everything(tree) == before


def test_wanted_image_loses_a_name_that_is_replaced() -> None:
    tree = MemoryTree()
    renamed = replace(R1, references=(parse_reference("example.com/other:v1"),))
    put(tree, R1)
    plan = put(tree, renamed, replaced=R1.references)
    assert names(tree) == {"example.com/other": {"example.com/other:v1": R1.image_id}}
    assert (plan.removal.images, plan.removal.layers) == ((), ())


def test_digests_go_with_the_last_tag_of_their_repository() -> None:
    tree = MemoryTree()
    put(tree, R1)
    plan = put(tree, R2, replaced=[parse_reference("example.com/app:v1")])
    assert [gone.image_id for gone in plan.removal.images] == [R1.image_id]
    assert all(named == R2.image_id for named in names(tree)["example.com/app"].values())


def test_digest_decides_where_there_is_a_tag_too() -> None:
    tree = MemoryTree()
    put(tree, replace(R1, references=(digest_of_reference(R1),)))
    both = replace(digest_of_reference(R1), tag="v9")
    assert put(tree, R2, replaced=[both]).removal.images


def test_image_with_another_name_is_untagged_only() -> None:
    tree = MemoryTree()
    put(tree, replace(R1, tags=(parse_reference("mine:1"),)))
    plan = put(tree, R2, replaced=R1.references)
    assert [kept.reason for kept in plan.removal.kept] == ["it has another name, mine:1"]
    assert plan.removal.images == ()
    assert names(tree)["mine"] == {"mine:1": R1.image_id}
    assert R1.image_id not in names(tree)["example.com/app"].values()
    assert read_state(tree, ROOT).images[R1.image_id].usable


def test_names_that_nothing_has_are_passed_over() -> None:
    tree = MemoryTree()
    put(tree, R1)
    plan = plan_store(read_state(tree, ROOT), [R1], timestamp=STAMP, replaced=[parse_reference("example.com/gone:1")])
    assert plan.is_empty


def add_file(tree: MemoryTree, path: bytes, content: bytes) -> None:
    parts = path.split(b"/")
    for end in range(1, len(parts)):
        directory = b"/".join((ROOT, *parts[:end]))
        if tree.lookup(directory) is None:
            tree.add(Directory(directory, Metadata(0o700)))
    rewrite(tree, path, content)


def metadata_of(of: Image) -> bytes:
    return b"image/overlay2/imagedb/metadata/sha256/" + of.image_id.removeprefix("sha256:").encode()


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        (b"containers/abc/config.v2.json", json.dumps({"Image": R1.image_id}).encode(), "a container was made from it"),
        (b"containers/abc/config.v2.json", b"{", "cannot be read, so it may be in use"),
        (b"containers/abc/config.v2.json", b"{}", "cannot be read, so it may be in use"),
        (b"containers/abc/other", b"", "cannot be read, so it may be in use"),
        (b"image/overlay2/layerdb/mounts/abc/parent", R1.layers[1].chain_id.encode(), "a container uses its layers"),
        (b"image/overlay2/layerdb/mounts/abc/parent", b"", "cannot be read, so it may be in use"),
        (metadata_of(R2) + b"/parent", R1.image_id.encode(), "another image was built from it"),
    ],
    ids=["container", "broken", "silent", "missing", "mount", "broken mount", "parent"],
)
def test_image_in_use_stays_whole(path: bytes, content: bytes, reason: str) -> None:
    tree = MemoryTree()
    put(tree, R1, R2)
    add_file(tree, path, content)
    before = everything(tree)
    plan = put(tree, R2, replaced=R1.references)
    assert all(reason in kept.reason for kept in plan.removal.kept)
    assert plan.removal.kept
    assert plan.is_empty
    assert everything(tree) == before


def test_layers_below_a_container_stay() -> None:
    """The image that the container came from is gone already: its layers are held by the mount alone."""
    tree = MemoryTree()
    longer = image("base", "one", "more", name="example.com/app:v3")
    put(tree, longer)
    add_file(tree, b"image/overlay2/layerdb/mounts/abc/parent", longer.layers[1].chain_id.encode())
    plan = put(tree, R2, replaced=longer.references)
    assert plan.removal.layers == (longer.layers[2].chain_id,)
    assert plan.orphans.layers == ()


def test_layers_that_two_replaced_images_share_go_once() -> None:
    tree = MemoryTree()
    both = [image("a", "b", "c", name="example.com/x:1"), image("a", "b", "d", name="example.com/x:2")]
    put(tree, *both)
    plan = put(tree, R2, replaced=[reference for one in both for reference in one.references])
    assert len(plan.removal.layers) == len(set(plan.removal.layers)) == 4
    fresh = MemoryTree()
    put(fresh, R2)
    assert without_records(tree) == without_records(fresh)


def test_removing_damaged_layers_takes_nothing_from_others() -> None:
    """The top layer of the replaced image claims the cache directory of another image's layer."""
    tree = MemoryTree()
    put(tree, R1, R2)
    state = read_state(tree, ROOT)
    stolen = state.layers[R2.layers[1].chain_id].cache_id or ""
    layer = b"image/overlay2/layerdb/sha256/" + R1.layers[1].chain_id.removeprefix("sha256:").encode()
    rewrite(tree, layer + b"/cache-id", stolen.encode())
    put(tree, replaced=R1.references)
    assert tree.lookup(ROOT + b"/overlay2/" + stolen.encode() + b"/diff/file") is not None
    after = read_state(tree, ROOT)
    assert set(after.layers) == {layer.chain_id for layer in R2.layers}
    assert after.images[R2.image_id].usable


def test_image_whose_config_is_damaged_goes_without_its_layers() -> None:
    tree = MemoryTree()
    put(tree, R1)
    rewrite(tree, b"image/overlay2/imagedb/content/sha256/" + R1.image_id[7:].encode(), b"{}")
    plan = put(tree, R2, replaced=R1.references)
    assert [gone.image_id for gone in plan.removal.images] == [R1.image_id]
    assert plan.orphans.layers == (R1.layers[1].chain_id,)


def test_tag_is_noted_as_the_engine_notes_it() -> None:
    tree = MemoryTree()
    put(tree, replace(R1, tags=(parse_reference("more:latest"),)))
    path = ROOT + b"/" + metadata_of(R1)
    directory, note = tree.lookup(path), tree.lookup(path + b"/lastUpdated")
    assert directory is not None
    assert note is not None
    assert isinstance(directory.entry, Directory)
    assert isinstance(note.entry, Regular)
    assert (directory.entry.metadata.mode, note.entry.metadata.mode) == (0o700, 0o600)
    assert tree.content(path + b"/lastUpdated") == b"2020-09-13T12:26:40Z"
    assert names(tree)["more"] == {"more:latest": R1.image_id}
    put(tree, replace(R1, tags=(parse_reference("more:2"),)))
    assert names(tree)["more"] == {"more:latest": R1.image_id, "more:2": R1.image_id}
    put(tree, R2, replaced=[*R1.references, parse_reference("more:latest"), parse_reference("more:2")])
    assert tree.lookup(path) is None


def test_orphans_are_told() -> None:
    tree = MemoryTree()
    put(tree, R1)
    tree.add(Directory(ROOT + b"/overlay2/" + b"ab" * 32, Metadata(0o710)))
    rewrite(tree, b"image/overlay2/repositories.json", b"{}")
    plan = put(tree, R2)
    assert plan.orphans.directories == ("ab" * 32,)
    assert plan.orphans.images == (R1.image_id,)
    assert plan.orphans.layers == ()
    tree.remove(ROOT + b"/image/overlay2/imagedb/content/sha256/" + R1.image_id[7:].encode())
    assert put(tree, R2).orphans.layers == (R1.layers[1].chain_id,)


def test_store_in_a_damaged_file_system_is_refused() -> None:
    class Broken(MemoryTree):
        def lookup(self, path: bytes) -> Stat | None:
            if path.endswith(b"/layerdb/sha256"):
                raise FilesystemError("inode 12: checksum does not match")
            return super().lookup(path)

    tree = Broken()
    state = read_state(tree, ROOT)
    assert plan_store(state, [R1], timestamp=STAMP).layers
    tree.add(Directory(ROOT, Metadata(0o710)))
    with pytest.raises(FilesystemError, match=r"layerdb/sha256 in the store cannot be read: inode 12.*e2fsck"):
        plan_store(read_state(tree, ROOT), [R1], timestamp=STAMP)


def apps(*references: str, version: int = 3) -> bytes:
    services = {f"s{number}": {"image": reference} for number, reference in enumerate(references)}
    if version == 2:
        return json.dumps({"apps": {"1": {"services": list(services.values())}}}).encode()
    return json.dumps({"apps": {"beef": {"releases": {"cafe": {"services": services}}}}}).encode()


def partition(**files: bytes) -> MemoryTree:
    tree = MemoryTree()
    for name, content in files.items():
        path = name.replace("_", ".").encode()
        tree.add(Regular(path, Metadata(0o644), len(content)), (content,))
    return tree


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (partition(), []),
        (partition(apps_json=b"{}"), []),
        (partition(apps_json=b""), []),
        (partition(apps_json=b"[]"), []),
        (partition(apps_json=apps("a:1", "b:2")), ["a:1", "b:2"]),
        (partition(apps_json=apps("a:1"), apps_json_preloaded=apps("a:1", "c:3")), ["a:1", "c:3"]),
        (partition(apps_json=apps("a:1", version=2)), ["a:1"]),
        (partition(apps_json=apps("Not A Name", "b:2")), ["b:2"]),
        (partition(apps_json=b'{"apps": {"x": {"releases": {"y": {"services": {"z": 7}}}, "image": "no:1"}}}'), []),
    ],
)
def test_previous_images(tree: MemoryTree, expected: list[str]) -> None:
    assert [str(reference) for reference in previous_images(tree)] == expected


def test_previous_apps_json_that_is_none_is_refused() -> None:
    with pytest.raises(StoreError, match=r"apps\.json on the data partition is not JSON"):
        previous_images(partition(apps_json=b"{"))


@pytest.mark.parametrize("version", ["v18.2.2", "18.2.2"])
def test_supervisor_has_the_names_of_a_build(version: str) -> None:
    reference = parse_reference(f"registry2.balena-cloud.com/v2/abc@sha256:{'0' * 64}")
    assert [str(tag) for tag in supervisor_tags(reference, version)] == [
        "registry2.balena-cloud.com/v2/abc:latest",
        "balena_supervisor:v18.2.2",
    ]


@pytest.mark.parametrize("version", ["latest", "", "18", "v1.2.3 4", "1.2"])
def test_what_is_no_version_of_the_supervisor(version: str) -> None:
    with pytest.raises(UsageError):
        supervisor_tags(parse_reference("balena/aarch64-supervisor"), version)


def with_environment(*variables: str | None) -> Image:
    rootfs = {"type": "layers", "diff_ids": []}
    config = json.dumps({"os": "linux", "rootfs": rootfs, "config": {"Env": list(variables)}}).encode()
    return Image((), parse_config(config, "supervisor"), ())


def test_version_comes_from_the_tag_or_the_image() -> None:
    untagged = parse_reference("balena/aarch64-supervisor")
    assert version_of(parse_reference("balena/aarch64-supervisor:v14.0.1"), with_environment()) == "v14.0.1"
    assert version_of(untagged, with_environment("A=1", None, "VERSION=13.2.0")) == "13.2.0"
    assert version_of(untagged, with_environment("VERSION=master")) is None
    assert version_of(untagged, R1) is None
