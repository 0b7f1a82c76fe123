"""Text from disk images on terminals: nothing in it steers them, and what is readable stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.cli import render
from drypoint.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – größe 日本 🙂", "plain – größe 日本 🙂"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb\tc\0", "a\\nb\\tc\\x00"),
        ("\x9b31m", "\\x9b31m"),
        ("user\u202egnp.exe", "user\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("\ufffe", "\\ufffe"),
    ],
)
def test_only_what_can_be_seen_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_any_text_becomes_printable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == printable(shown)
    assert printable(text, "\n").replace("\n", "").isprintable()


def test_lines_and_tables_escape_and_keep_their_shape(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(("name", "n"), [("evil\x1b]0;x\x07\nsecond", "1"), ("good", "22")], right=frozenset({1}))
    render.line("one\ntwo \x1b[1m")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[1] == "evil\\x1b]0;x\\x07\\nsecond   1"
    assert lines[2].endswith("22")
    assert lines[3:] == ["one", "two \\x1b[1m"]
