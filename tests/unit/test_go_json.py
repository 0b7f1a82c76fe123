"""JSON as Go reads it: against a recording of Go's own verdicts, and by properties.

tests/data/go-json.jsonl: texts made at random, and what encoding/json of Go 1.19.8 (Debian 12) made of them, in a struct like
Outer here: ``go`` holds what differs from the zero value, or is null where Go returned an error; ``first`` means that the text
was read by json.NewDecoder(…).Decode instead of json.Unmarshal.
"""

from __future__ import annotations

import contextlib
import json
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.scripts import ROOT

from drypoint.go_json import JsonError, decode_base64, decode_go

RECORDED = ROOT / "tests/data/go-json.jsonl"


class Empty(msgspec.Struct):
    pass


class Inner(msgspec.Struct):
    digest: str = ""
    size: int = 0
    skip: bool = False
    notes: dict[str, str] | None = None
    urls: list[str] | None = None


class Outer(msgspec.Struct, rename={"version": "schemaVersion", "task": "Task_Kind", "cmd": "Cmd"}):
    version: int = 0
    ratio: float = 0.0
    data: bytes = b""
    task: str = ""
    one: Inner = msgspec.field(default_factory=Inner)
    two: Inner | None = None
    many: list[Inner] | None = None
    maps: dict[str, Inner] | None = None
    deep: dict[str, list[str] | None] | None = None
    cmd: str | list[str] | None = None
    set: dict[str, Empty] | None = None
    lists: list[list[int] | None] | None = None


class Recorded(msgspec.Struct):
    text: bytes
    first: bool
    go: dict[str, object] | None


def found(text: bytes, first: bool) -> dict[str, object] | None:
    """What decode_go made of *text*, in the recording's form."""
    try:
        read = decode_go(text, Outer, first=first)
    except JsonError:
        return None
    zero = json.loads(msgspec.json.encode(Outer()))
    made = json.loads(msgspec.json.encode(read))
    if isinstance(made["Cmd"], str):
        made["Cmd"] = [made["Cmd"]]
    # Go's empty list of bytes is null at first and "" when one was read; both are b"" here.
    return {key: value for key, value in made.items() if value != zero[key]}


def recorded() -> list[Recorded]:
    lines = RECORDED.read_bytes().splitlines()
    rows = [msgspec.json.decode(line, type=Recorded) for line in lines]
    for row in rows:
        if row.go is not None and row.go.get("data") == "":
            del row.go["data"]
    return rows


def test_go_s_own_verdicts() -> None:
    rows = recorded()
    assert (len(rows), sum(row.go is None for row in rows)) == (412, 81)
    assert [row.text for row in rows if found(row.text, row.first) != row.go] == []


def test_the_recording_tells_other_rules_apart() -> None:
    """A decoder that takes keys as they are written, or null as an error, is found out."""

    def strict(text: bytes) -> dict[str, object] | None:
        try:
            read = msgspec.json.decode(text, type=Outer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return {key: value for key, value in json.loads(msgspec.json.encode(read)).items() if value}

    wrong = [row for row in recorded() if not row.first and strict(row.text) != row.go]
    assert len(wrong) > 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"null", Outer()),
        (b'{"SCHEMAVERSION": 2}', Outer(version=2)),
        (b'{"tas\\u212a_KIND": "a", "\xc5\xbfchemaVersion": 3}', Outer(version=3, task="a")),
        (b'{"schemaVersion": 1, "SchemaVersion": 2, "schemaversion": null}', Outer(version=2)),
        (b'{"two": {"digest": "a"}, "TWO": {"size": 1}}', Outer(two=Inner("a", 1))),
        (b'{"two": {"digest": "a"}, "two": null, "two": {"size": 1}}', Outer(two=Inner("", 1))),
        (b'{"one": {"digest": "a"}, "one": null}', Outer(one=Inner("a"))),
        (b'{"many": [{"digest": "a"}, {"size": 2}], "many": [{"size": 1}]}', Outer(many=[Inner("a", 1)])),
        (b'{"many": [{}, {"size": 2}], "many": [], "many": [{}, null]}', Outer(many=[Inner(), Inner()])),
        (b'{"many": [{}, {"size": 2}], "many": [{}], "many": [{}, {}]}', Outer(many=[Inner(), Inner(size=2)])),
        (b'{"maps": {"k": {"size": 1}, "k": {"digest": "a"}}}', Outer(maps={"k": Inner("a")})),
        (b'{"deep": {"K": null, "k": [null]}}', Outer(deep={"K": None, "k": [""]})),
        (
            b'{"Cmd": "a", "set": {"x": null}, "lists": [null, [null]]}',
            Outer(cmd="a", set={"x": Empty()}, lists=[None, [0]]),
        ),
        (
            b'{"Task_Kind": "\xff\xe2\x82\\ud800\\udc00\\udc00", "x": "\\ud800"}',
            Outer(task="\ufffd\ufffd\ufffd\U00010000\ufffd"),
        ),
        (b'{"data": "YW\\r\\nJj"}', Outer(data=b"abc")),
    ],
)
def test_rules(text: bytes, expected: Outer) -> None:
    assert decode_go(text, Outer) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{} {}", "trailing"),
        (b'\xef\xbb\xbf{"one": 1}', "malformed"),
        (b'{"schemaVersion": 1.0}', r"Expected `int`, got `float` - at `\$.schemaVersion`"),
        (b'{"SCHEMAVERSION": "1", "schemaVersion": 1}', r"Expected `int`, got `str` - at `\$.version`"),
        (b'{"schemaVersion": 9223372036854775808}', "out of range"),
        (b'{"ratio": 1e400}', "out of range"),
        (b'{"many": [{}, {"notes": {"secret": 1}}]}', r"got `int` - at `\$.many\[1\].notes\[...\]`$"),
        (b'{"data": "YW Jj"}', "Invalid base64"),
        (b'{"x": NaN}', "malformed"),
        (b'{"x": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"x": [' + b"0," * (1 << 18) + b"0, 0]}", "more than the 262144 values"),
    ],
)
def test_refusals(text: bytes, says: str) -> None:
    with pytest.raises(JsonError, match=says):
        decode_go(text, Outer)


def test_commas_inside_strings_are_no_values() -> None:
    text = json.dumps({"Task_Kind": '\\",' * (1 << 17) * 3}).encode()
    assert len(decode_go(text, Outer).task) == 9 << 17


def test_what_follows_the_first_value() -> None:
    for rest in (b"", b"x", b"}", b"\xff", b'{"schemaVersion": 3}'):
        assert decode_go(b' {"schemaVersion": 2}' + rest, Outer, first=True) == Outer(version=2)
    with pytest.raises(JsonError):
        decode_go(b"x", Outer, first=True)


@pytest.mark.parametrize("shape", [dict[int, str], set[str], Recorded, str | int])
def test_other_shapes_are_an_error(shape: type[object]) -> None:
    with pytest.raises(TypeError, match="not a shape"):
        decode_go(b"null", shape)


def test_base64_as_go_takes_it() -> None:
    for text in ("YWI=", "YW\nI=", "\rYWI\n=\n", "YWJ="):
        assert decode_base64(text)[:1] == b"a"
    for text in ("YWI", "YW I=", "YWI=\t", "YW-_", "é"):
        with pytest.raises(JsonError):
            decode_base64(text)


keys = st.text("abK_\u017f\u212a", max_size=4)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@given(
    value=st.builds(
        Inner, st.text(max_size=9), st.integers(-9, 9), st.booleans(), st.dictionaries(st.text(), st.text())
    ),
    others=st.dictionaries(keys, plain, max_size=3),
    upper=st.sets(st.sampled_from(["digest", "size", "skip", "notes", "urls"])),
    repeated=st.booleans(),
)
def test_case_unknown_keys_and_repeats_change_nothing(
    value: Inner, others: dict[str, object], upper: set[str], repeated: bool
) -> None:
    known = json.loads(msgspec.json.encode(value))
    members = [*others.items(), *((key.upper() if key in upper else key, item) for key, item in known.items())]
    members += [(key, None) for key in ("digest", "SIZE", "skip")] if repeated else []
    text = ",".join(f"{json.dumps(key)}:{json.dumps(item)}" for key, item in members)
    assert decode_go(f"{{{text}}}".encode(), Inner) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for first in (False, True):
        with contextlib.suppress(JsonError):
            assert isinstance(decode_go(content, Outer, first=first), Outer)


def test_threads_share_a_reader() -> None:
    class Late(msgspec.Struct):
        a: dict[str, Inner] | None = None

    start, read = threading.Barrier(4), []

    def work() -> None:
        start.wait()
        read.append(decode_go(b'{"A": {"x": {"SIZE": 1}}}', Late))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [Late({"x": Inner(size=1)})] * 4
