"""The compact tables against Python's own: whatever is done to both, both have the same in them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drypoint.lanes import ENABLED
from drypoint.lanes.tables import SeenSet, new_names, new_seen

if ENABLED:
    from drypoint.lanes._tables import NameTable, SeenNames

compact = pytest.mark.skipif(not ENABLED, reason="no compiled lanes here")

names = st.binary(max_size=3) | st.binary(min_size=250, max_size=255)
values = st.tuples(st.integers(0, (1 << 32) - 1), st.integers(0, 7))
steps = st.lists(st.tuples(st.sampled_from(["set", "set", "set", "pop", "get", "in"]), names, values), max_size=60)


@compact
@settings(max_examples=300)
@given(steps)
def test_a_table_of_names_is_a_dict(steps: list[tuple[str, bytes, tuple[int, int]]]) -> None:
    table, expected = NameTable(), dict[bytes, tuple[int, int]]()
    for what, name, value in steps:
        if what == "set":
            table[name] = expected[name] = value
        elif what == "pop" and name in expected:
            assert table.pop(name) == expected.pop(name)
        elif what == "pop":
            with pytest.raises(KeyError):
                table.pop(name)
        elif what == "get":
            assert table.get(name) == expected.get(name)
        else:
            assert (name in table) == (name in expected)
        assert table.items() == list(expected.items())
        assert len(table) == len(expected)


@compact
def test_a_large_table_of_names() -> None:
    table, expected = NameTable(), dict[bytes, tuple[int, int]]()
    for number in range(20_000):
        table[b"%d" % number] = expected[b"%d" % number] = number, number % 8
        if number % 3 == 0:
            table.pop(b"%d" % (number // 2 * 2))
            expected.pop(b"%d" % (number // 2 * 2))
            table[b"%d" % (number // 2 * 2)] = expected[b"%d" % (number // 2 * 2)] = 7, 7
    assert table.items() == list(expected.items())
    assert all(table.get(name) == value for name, value in expected.items())


@compact
@pytest.mark.parametrize(
    ("name", "value"), [(b"n" * 256, (1, 1)), (b"n", (1 << 32, 1)), (b"n", (1, 255)), (b"n", (1, 256))]
)
def test_what_is_not_a_directory_entry_is_an_error(name: bytes, value: tuple[int, int]) -> None:
    table = NameTable()
    with pytest.raises((ValueError, OverflowError)):
        table[name] = value
    assert len(table) == 0


@compact
@given(st.lists(names, max_size=200))
def test_seen_names_are_a_set(given_names: list[bytes]) -> None:
    seen, expected = SeenNames(), SeenSet()
    for name in given_names:
        assert seen.add(name) == expected.add(name)
    assert len(seen) == len(expected)


@compact
def test_many_seen_names() -> None:
    seen = SeenNames()
    assert all(seen.add(b"%d" % number) for number in range(50_000))
    assert not any(seen.add(b"%d" % number) for number in range(50_000))
    assert len(seen) == 50_000


def test_tables_are_compact_where_there_are_lanes() -> None:
    assert type(new_names()).__name__ == ("NameTable" if ENABLED else "dict")
    assert type(new_seen()).__name__ == ("SeenNames" if ENABLED else "SeenSet")
