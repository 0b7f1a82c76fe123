"""The variables of a .env file. The expected values are what compose-go's dotenv.ParseWithLookup (v2, July 2026) returned."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.errors import UsageError
from drypoint.sources.dotenv import MAX_ENVIRONMENT_BYTES, read_environment

_ENVIRONMENT = {"A": "va"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TAG=1.4  # newest", {"TAG": "1.4"}),
        ("TAG=a#b", {"TAG": "a#b"}),
        ("TAG=a\t# b", {"TAG": "a\t# b"}),
        ("TAG= # c", {"TAG": "# c"}),
        ("TAG=", {"TAG": ""}),
        ("TAG=\nB=2", {"TAG": "", "B": "2"}),
        ("\n  # comment\n\n\tTAG = 1 \r\n", {"TAG": "1"}),
        ("TAG: 1.4", {"TAG": "1.4"}),
        ("TAG.x-y[1]=1", {"TAG.x-y[1]": "1"}),
        ("export TAG=1", {"TAG": "1"}),
        ("export=1", {"export": "1"}),
        ("\ufeffTAG=1", {"TAG": "1"}),
        ("TAG=a\rB=2", {"TAG": "a\rB=2"}),
        ("TAG=$A", {"TAG": "va"}),
        ("TAG=${A}", {"TAG": "va"}),
        ("TAG=${C:-${A}}", {"TAG": "va"}),
        ("TAG=${C-x}${A:+y}", {"TAG": "xy"}),
        ("TAG=${A:-{}}", {"TAG": "va"}),
        ("TAG=${C:-{}", {"TAG": "{"}),
        ("TAG=a$$b", {"TAG": "a$b"}),
        ("B=1\nTAG=${B}", {"B": "1", "TAG": "1"}),
        ("TAG=${B}\nB=1", {"TAG": "", "B": "1"}),
        ("A=file\nTAG=${A}", {"A": "file", "TAG": "va"}),
        ("TAG='${A}'", {"TAG": "${A}"}),
        (r"TAG='it\'s \"a\nb'", {"TAG": r"it's \"a\nb"}),
        ('TAG="${A}"', {"TAG": "va"}),
        (r'TAG="a\nb\tc"', {"TAG": "a\nb\tc"}),
        (r'TAG="\$A \"q\" C:\\new \c"', {"TAG": r'$A "q" C:\new \c'}),
        (r'TAG="\0101\0777\012"', {"TAG": r"A\777\12"}),
        (r"TAG=C:\new", {"TAG": r"C:\new"}),
        ('TAG="one\ntwo" # c', {"TAG": "one\ntwo"}),
        ('TAG="x" B=2', {"TAG": "x", "B": "2"}),
        ("A\nB\nTAG=1", {"A": "va", "TAG": "1"}),
        ("", {}),
    ],
)
def test_values_are_those_of_compose(text: str, expected: dict[str, str]) -> None:
    assert read_environment(text.encode(), ".env", _ENVIRONMENT) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\nnonsense here\n", "line 2: expected NAME=VALUE"),
        ("\n\nA B=1", "line 3: expected NAME=VALUE"),
        ("A,B=1", "line 1: expected NAME=VALUE"),
        ("export ", "line 1: expected NAME=VALUE"),
        ("TAG='secret", "line 1: the value of TAG has no closing quote"),
        ('B=1\nTAG="secret', "line 2: the value of TAG has no closing quote"),
        ("TAG=secret${C:?no}", r"line 1: the value of TAG has a \$\{\.\.\.\} that Compose refuses"),
        ("TAG=secret${A", r"line 1: the value of TAG has a \$\{\.\.\.\} that Compose refuses"),
    ],
)
def test_what_compose_refuses_is_refused_without_quoting_a_value(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=rf"^\.env, {message}") as caught:
        read_environment(text.encode(), ".env", _ENVIRONMENT)
    assert "secret" not in str(caught.value)


def test_files_that_are_too_large_or_not_text() -> None:
    with pytest.raises(UsageError, match="too many for a file of variables"):
        read_environment(b"#" * (MAX_ENVIRONMENT_BYTES + 1), ".env", {})
    with pytest.raises(UsageError, match="is not UTF-8 text: byte 2"):
        read_environment(b"A=\xff", ".env", {})


def test_values_that_double_with_each_line_are_bounded() -> None:
    lines = ["A0=0123456789", *(f"A{number}=$A{number - 1}$A{number - 1}" for number in range(1, 60))]
    with pytest.raises(UsageError, match="expands to too much"):
        read_environment("\n".join(lines).encode(), ".env", {})


@pytest.mark.parametrize(
    "text",
    [
        "A=" + "${" * 500_000,
        "A=" + "${B:-" * 200_000 + "}",
        "A=" + "${B:-" * 10 + "${B:-x" * 100_000 + "}" * 100_010,
        "A=" + "x" * 1000 + "\n" + "".join(f"B{number}=$A\n" for number in range(2000)),
        "".join(f"B{number}=$LONG\n" for number in range(2000)),
    ],
)
def test_no_file_takes_more_than_its_length(text: str) -> None:
    start = time.process_time()
    with pytest.raises(UsageError, match=r"that Compose refuses, or expands to too much"):
        read_environment(text.encode(), ".env", {"LONG": "x" * 1_000_000})
    assert time.process_time() - start < 5


@given(st.text(alphabet="AB=: \n\t#'\"\\$${}-+?0", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(UsageError):
        read_environment(text.encode(), ".env", _ENVIRONMENT)
