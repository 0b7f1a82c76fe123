"""tar → tar-split → tar is the identity, for whatever begins as a tar: any kinds of entries, any header touched, any end."""

from __future__ import annotations

from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.support.random_tars import BLOCK, Member, cut, members, tar_of

from drypoint.errors import LayerError
from drypoint.layers import LayerReader, TarReader, assemble, read_tar_split


def contents_of(tar: bytes) -> tuple[dict[bytes, bytes], bool, bytes]:
    """Contents by name; whether a tar-split can hold all of the tar; and the bytes that end the archive."""
    reader = TarReader(cut(tar, 1 << 20), "layer")
    found: dict[bytes, bytes] = {}
    complete = True
    for entry in reader:
        found[entry.name] = b"".join(reader.content())
        # Sparse maps are not recorded, nor is what an entry without content claims to hold.
        complete = complete and entry.typeflag != b"S" and len(found[entry.name]) == max(entry.size, 0)
    return found, complete, reader.end


@settings(max_examples=300, deadline=None)
@given(
    wanted=st.lists(members, max_size=5),
    tail=st.one_of(st.just(bytes(1024)), st.binary(max_size=40), st.binary(max_size=1500).map(bytes(1024).__add__)),
    length=st.none() | st.integers(0, 8000),
    step=st.integers(1, 3000),
)
def test_what_begins_as_a_tar_is_rebuilt(wanted: list[Member], tail: bytes, length: int | None, step: int) -> None:
    tar = (tar_of(wanted) + tail)[:length]
    try:
        with LayerReader(cut(tar, step), "layer") as reader:
            for _ in reader:
                pass
            compressed = b"".join(reader.tar_split.chunks())
        files, complete, end = contents_of(tar)
    except LayerError:
        event("refused")
        return
    event("rebuilt" if complete else "not to be rebuilt")
    if complete:
        records = read_tar_split(cut(compressed, step), "layer")
        rebuilt = b"".join(assemble(records, lambda name: [files[name]], "layer"))
        # An archive that ends inside padding loses that piece of it: engines do not record it either.
        lost = len(tar) - len(rebuilt)
        assert rebuilt == tar[: len(rebuilt)]
        assert lost == 0 or (lost < BLOCK and len(tar) % BLOCK and not end.endswith(bytes(BLOCK)))
