"""The archive's parts by themselves: manifests, records, checksum, and what becomes of a member on a tree in memory."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.digest import Digest
from drypoint.errors import ContentError, StoreError, UsageError
from drypoint.etch import (
    FORMAT,
    EtchReader,
    EtchWriter,
    Injection,
    Manifest,
    PackedImage,
    PackedStore,
    SpaceNeeded,
    manifest_text,
    parse_manifest,
)
from drypoint.etch.base_manifest import parse_base_manifest
from drypoint.etch.records import records_of, xattrs_of
from drypoint.fstree import Directory, HardLink, Metadata, Regular, Symlink
from drypoint.injection.members import Injector
from drypoint.sinks import MemoryTree
from drypoint.sinks.tar import END_OF_ARCHIVE, UstarHeader, entry_header, padding, pax_header
from drypoint.stores import detect

DIGEST = Digest("sha256:" + "ab" * 32)
METADATA = Metadata(0o640, 1, 2, 1_600_000_000_123_456_789, ((b"user.a", b"1"),))


def archive(members: bytes = b"", manifest: Manifest | None = None) -> bytes:
    """An archive by hand, or one of drypoint's own without members."""
    image = UstarHeader(b"image.img", b"0", size=3).pack() + b"img" + padding(3)
    if manifest is None:
        return image + members + END_OF_ARCHIVE
    out = io.BytesIO()
    writer = EtchWriter(out.write, 7)
    writer.manifest(manifest)
    writer.image(b"image.img", 3, (b"img",))
    writer.finish()
    return out.getvalue()


def read(content: bytes, step: int = 777) -> EtchReader:
    reader = EtchReader((content[start : start + step] for start in range(0, len(content), step)), "A")
    assert b"".join(bytes(piece) for piece in reader.image()) == b"img"
    return reader


paths = st.lists(st.sampled_from([b"a", b"docker", "größe".encode()]), min_size=1, max_size=3).map(b"/".join)
injections = st.builds(
    Injection,
    directory=st.sampled_from([b"6", b"resin-data"]),
    partition=st.integers(0, 10),
    label=st.text(max_size=5),
    remove=st.lists(paths, max_size=2).map(tuple),
    space=st.none() | st.builds(SpaceNeeded, st.integers(0, 1 << 60), st.integers(0, 1 << 60), st.booleans()),
    replace=st.frozensets(paths, max_size=2),
    merge=st.frozensets(paths, max_size=2),
    additional_space=st.integers(0, 1 << 60),
    shrink=st.booleans(),
    store=st.none()
    | st.builds(
        PackedStore,
        paths,
        st.just((PackedImage(DIGEST, ("a:1", "b:2"), (DIGEST,)),)) | st.just(()),
        st.lists(st.just(DIGEST), max_size=2).map(tuple),
    ),
)


@given(
    st.builds(
        Manifest,
        st.text(max_size=9),
        injections.map(lambda one: (one,)),
        st.just(FORMAT),
        st.just("1"),
        st.integers(0, 99),
    )
)
def test_manifests_read_back(manifest: Manifest) -> None:
    assert parse_manifest(manifest_text(manifest), "A") == manifest
    assert read(archive(manifest=manifest)).manifest == manifest


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("", "not well formed"),
        ("[" * 10_000, "not well formed"),
        ({}, "required field `inject`"),
        ({"format": 2, "inject": []}, "is of format 2, and this drypoint supports formats up to 1: inject it with a newer one"),
        ({"inject": [{"inject": 6}]}, "inject/6 has neither the number of a partition nor its name"),
        ({"inject": [{"inject": "../6", "partition": 6}]}, "not a name of a directory"),
        ({"inject": [{"inject": 6, "partition": 6}, {"inject": "6", "partition": 5}]}, "named twice"),
        ({"inject": [{"inject": 6, "partition": "six"}]}, "'six' is not a number of a partition"),
        ({"inject": [{"inject": 6, "partition": -1}]}, "its partition is -1"),
        ({"inject": [{"inject": 6, "partition": 6, "replace": ["../x"]}]}, "leaves the root"),
        ({"inject": [{"inject": 6, "partition": 6, "remove": [""]}]}, "'' is not a path"),
        ({"inject": [{"inject": 6, "partition": 6, "room": {"bytes": 1 << 63, "inodes": 0}}]}, "its room is"),
        ({"inject": [{"inject": 6, "partition": 6, "store": {"dataRoot": "d", "layers": ["x"]}}]}, "sha256"),
    ],
)  # fmt: skip
def test_manifests_that_make_no_sense(document: object, says: str) -> None:
    content = document.encode() if isinstance(document, str) else json.dumps(document).encode()
    with pytest.raises(ContentError, match=says):
        parse_manifest(content, "A")


def test_paths_that_json_cannot_say() -> None:
    with pytest.raises(UsageError, match="UTF-8 only"):
        manifest_text(Manifest("i", (Injection(b"6", 6, replace=frozenset((b"\xe9",))),)))


def test_a_base_manifest_is_read_with_suspicion() -> None:
    layer: dict[str, object] = {
        "chain_id": DIGEST, "diff_id": None, "parent": None, "cache_id": "../../etc", "link": None, "lower": [], "size": 1,
        "committed": False, "has_tar_split": True, "complete": True, "usable": True,
    }  # fmt: skip
    good = {"format": 1, "partition": 6, "partitionName": "d", "blockSize": 4096, "freeBytes": 1, "freeInodes": 1}
    known = parse_base_manifest(json.dumps({**good, "store": {"data_root": "ZG9ja2Vy"}}).encode(), "B")
    assert known.store == detect(b"docker").unread()
    escaping = base64.b64encode(b"../x").decode()
    for store, changed, says in (
        ({"data_root": "", "layers": {DIGEST: layer}}, {}, "'../../etc', which no engine gives"),
        ({"data_root": "", "layers": {"sha256:" + "0" * 64: layer}}, {}, "calls itself"),
        ({"data_root": escaping}, {}, "leaves the root"),
        ({"data_root": "", "cache_names": ["a/b"]}, {}, "'a/b' is not a name of a file"),
        ({"data_root": ""}, {"blockSize": 0}, "out of range"),
        ({"data_root": ""}, {"format": 2}, "of format 2"),
    ):
        with pytest.raises(ContentError, match=rf"B is not a manifest of a base: .*{says}"):
            parse_base_manifest(json.dumps({**good, **changed, "store": store}).encode(), "B")


def test_an_end_that_is_missing_is_noticed_although_tar_would_not() -> None:
    own = archive(manifest=Manifest("i", (), FORMAT))
    assert list(read(own).members()) == []
    without = own[: own.rindex(b"manifest.crc64")] + END_OF_ARCHIVE
    with pytest.raises(ContentError, match="ends early"):
        list(read(without).members())


def test_a_global_header_that_says_something_is_refused() -> None:
    for key, fails in ((b"comment", False), (b"uid", True)):
        content = archive(pax_header({key: b"1"}, b"g", b"g") + entry_header(Directory(b"inject/6/d", METADATA)))
        if fails:
            with pytest.raises(ContentError, match="a global header sets b'uid' for all members"):
                list(read(content).members())
        else:
            assert len(list(read(content).members())) == 1


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ({b"SCHILY.xattr.user.a": b""}, ((b"user.a", b""),)),
        ({b"LIBARCHIVE.xattr.user.%61b": b"AP8"}, ((b"user.ab", b"\0\xff"),)),
        ({b"LIBARCHIVE.xattr.user.a": b"MQ", b"SCHILY.xattr.user.a": b"2"}, ((b"user.a", b"2"),)),
        ({b"RHT.security.selinux": b"u:r:t"}, ((b"security.selinux", b"u:r:t\0"),)),
        ({b"SCHILY.acl.access": b"user::rw-,group::r--,other::r--"}, ()),
    ],
)
def test_attributes_in_records(records: dict[bytes, bytes], found: tuple[tuple[bytes, bytes], ...]) -> None:
    assert xattrs_of(records) == found


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ({b"LIBARCHIVE.xattr.user.a": b"!"}, "is not base64"),
        ({b"SCHILY.acl.access": b"user:somebody:rwx,mask::rwx"}, "without a number"),
        ({b"SCHILY.acl.access": b"nonsense"}, "is not understood"),
    ],
)
def test_attributes_that_make_no_sense(records: dict[bytes, bytes], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        xattrs_of(records)


@given(
    st.integers(0, 511),
    st.dictionaries(st.sampled_from([b"a", b"DRYPOINT.before"]), st.binary(max_size=600), max_size=2),
)
def test_records_are_found_behind_any_padding(padded: int, records: dict[bytes, bytes]) -> None:
    header = UstarHeader(b"f", b"0", size=5).pack()
    assert records_of(bytes(padded) + (pax_header(records, b"f") if records else b"") + header) == records


def test_repositories_are_merged() -> None:
    other = DIGEST.replace("ab", "cd")
    old = {"Repositories": {"app": {"app:1": DIGEST, f"app@{DIGEST}": DIGEST}, "kept": {"kept:1": DIGEST}}}
    new = {"Repositories": {"app": {"app:1": other, f"app@{other}": other}}}
    merged = json.loads(detect(b"").merge(json.dumps(old).encode(), json.dumps(new).encode()))["Repositories"]
    assert merged == {
        "app": {"app:1": other, f"app@{DIGEST}": DIGEST, f"app@{other}": other},
        "kept": {"kept:1": DIGEST},
    }
    new["Repositories"]["app"][f"app@{DIGEST}"] = other
    with pytest.raises(StoreError, match="the engine cannot change the image of a digest"):
        detect(b"").merge(json.dumps(old).encode(), json.dumps(new).encode())
    assert json.loads(detect(b"").merge(b"", b"{}")) == {"Repositories": {}}


class Tree(MemoryTree):
    """A partition in memory, that notes what is settled."""

    def __init__(self) -> None:
        super().__init__()
        self.settled: list[bytes] = []

    def is_directory(self, path: bytes) -> bool | None:
        found = self.lookup(path)
        return None if found is None else isinstance(found.entry, Directory)

    def settle(self, path: bytes) -> None:
        self.settled.append(path)


def inject(content: bytes, injection: Injection | None = None, *, settle: bool = True) -> Tree:
    tree = Tree()
    tree.add(Regular(b"repositories.json", Metadata(0o600), 2), (b"{}",))
    injector = Injector(
        tree, "p", injection, 9, settle=settle, overwrite=False, present={b"repositories.json": b"{}"},
        store=detect(b""),
    )  # fmt: skip
    for member, data in read(content).members():
        injector.take(member, data)
    return tree


def test_what_is_left_is_settled_so_that_it_need_not_be_held() -> None:
    names = [b"a/b/c/1", b"a/b/2", b"a/d/3", b"e/4", b"5"]
    content = archive(b"".join(entry_header(Regular(b"inject/6/" + name, METADATA, 0)) for name in names))
    assert inject(content).settled == [b"a/b/c", b"a/b", b"a", b"e"]
    assert inject(content, settle=False).settled == []


def test_a_file_is_merged_where_the_manifest_says_so() -> None:
    new = json.dumps({"Repositories": {"app": {"app:1": DIGEST}}}).encode()
    header = entry_header(Regular(b"inject/6/repositories.json", METADATA, len(new)))
    tree = inject(
        archive(header + new + padding(len(new))), Injection(b"6", 6, merge=frozenset((b"repositories.json",)))
    )
    assert json.loads(tree.content(b"repositories.json")) == json.loads(new)


def test_steps_before_a_member_stay_in_its_partition() -> None:
    def member(before: bytes) -> bytes:
        return archive(entry_header(Symlink(b"inject/6/s", METADATA, b"x"), b"", {b"DRYPOINT.before": before + b"\0"}))

    (found, _), = read(member(b"remove inject/6/a/b")).members()  # fmt: skip
    assert [step.path for step in found.before] == [b"a/b"]
    for before in (b"remove inject/5/a", b"remove inject/6", b"remove inject/6/../5/a", b"remove /etc", b"settle x"):
        with pytest.raises(ContentError, match=r"would change|is outside"):
            list(read(member(before)).members())
    with pytest.raises(ContentError, match="the unknown command b'format'"):
        list(read(member(b"format inject/6/a")).members())


def test_a_link_to_itself_gives_other_metadata_only_where_it_says_so() -> None:
    link = entry_header(
        HardLink(b"inject/6/repositories.json", b"inject/6/repositories.json"), b"", {b"DRYPOINT.amend": b"1"}
    )
    found = inject(archive(link)).lookup(b"repositories.json")
    assert found is not None
    assert isinstance(found.entry, Regular)
    assert found.entry.metadata.mode == 0


def test_an_archive_is_read_in_pieces_of_any_size() -> None:
    content = archive(manifest=Manifest("i", (Injection(b"6", 6),), FORMAT))

    def outcome(step: int) -> Iterator[object]:
        yield from read(content, step).members()

    for step in (1, 511, 512, 513, len(content)):
        assert list(outcome(step)) == []


def test_a_time_beyond_ext4s_is_the_last_one_of_a_tar_and_refused_in_a_manifest() -> None:
    image = UstarHeader(b"image.img", b"0", size=3, seconds=(1 << 33) - 1).pack() + b"img" + padding(3)
    assert read(image + END_OF_ARCHIVE).timestamp == (1 << 32) - 1
    assert read(archive(manifest=Manifest("image.img", (), 1, timestamp=(1 << 32) - 1))).timestamp == (1 << 32) - 1
    with pytest.raises(ContentError, match="its timestamp is 4294967296, and the last second"):
        read(archive(manifest=Manifest("image.img", (), 1, timestamp=1 << 32)))
