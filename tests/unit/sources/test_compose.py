"""The images of a Compose file."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.errors import UsageError
from drypoint.sources.compose import read_compose
from drypoint.sources.interpolation import interpolate

_ENVIRONMENT = {"SET": "value", "EMPTY": "", "TAG": "1.4"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$SET-$TAG", "value-1.4"),
        ("${SET}", "value"),
        ("$MISSING.", "."),
        ("${MISSING:-x}${EMPTY:-y}${EMPTY-z}", "xy"),
        ("${MISSING-x}", "x"),
        ("${SET:+other}${EMPTY:+never}${EMPTY+there}${MISSING+never}", "otherthere"),
        ("${MISSING:-${ALSO:-${TAG}}}", "1.4"),
        ("${SET:?needed}", "value"),
        ("$$SET 5$ $1", "$SET 5$ $1"),
    ],
)
def test_variables_are_filled_in_as_compose_does(text: str, expected: str) -> None:
    assert interpolate(text, _ENVIRONMENT, "here") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${MISSING:?set me}", "the variable MISSING has to be set: set me"),
        ("${EMPTY:?}", "EMPTY has to be set: it is required"),
        ("${SET", "without a closing brace"),
        ("${SET/a/b}", "has no form"),
        ("${1}", "names no variable"),
        ("${SET:}", "has no form"),
        ("${A:-" * 20 + "}" * 20, "more than 16 deep"),
    ],
)
def test_what_compose_would_refuse_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^here: .*{message}"):
        interpolate(text, _ENVIRONMENT, "here")


@given(st.text(alphabet="${}:-+?Aa_ ", max_size=60))
def test_any_text_is_filled_in_or_refused(text: str) -> None:
    with suppress(UsageError):
        assert "${A}" not in interpolate(text, {"A": "x"}, "here") or "$$" in text


_FILE = b"""
x-common: &common {restart: always, image: "registry.example:5000/common:${TAG:-latest}"}
services:
  web:
    image: nginx:1.27
  worker:
    <<: *common
    build: .
  again: {image: "nginx:1.27"}
  debug:
    image: busybox
    profiles: [debug]
"""


def test_the_images_of_the_services_that_start_are_taken_once() -> None:
    found = read_compose(_FILE, "compose.yaml", _ENVIRONMENT)
    assert [image.familiar for image in found.images] == ["nginx:1.27", "registry.example:5000/common:1.4"]
    assert found.left_out == ("debug",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"services: [a", "compose.yaml is not well formed"),
        (b"- services", "is not a Compose file: expected a mapping 'services'"),
        (b"version: 3", "is not a Compose file"),
        (b"services: {web: 5}", "service 'web': expected a mapping"),
        (b"services: {web: {build: .}}", "is built and names no image: build it, push it"),
        (b"services: {web: {extends: {service: a}}}", "run docker compose config, which writes"),
        (b"include: [other.yaml]\nservices: {}", "includes other files"),
        (b"services: {web: {image: 5}}", "expected image: to be a text"),
        (b"services: {web: {image: 'app:${MISSING}'}}", r"\(from 'app:\$\{MISSING\}'\)"),
        (b"services: {web: {image: !!python/object/apply:os.getpid []}}", "expected image: to be a text"),
        (b"\xff", "not UTF-8"),
        (b"#" * (1 << 21), "more than"),
        (b"[" * 5000, "not well formed"),
    ],
)
def test_what_is_not_a_compose_file_is_reported(content: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_compose(content, "compose.yaml", {})


@pytest.mark.parametrize(
    ("written", "image"),
    [
        ("1:30", "1:30"),
        ("on", "on:latest"),
        ("yes", "yes:latest"),
        ("y", "y:latest"),
        ("0o8", "0o8:latest"),
        ("!!str 5", "5:latest"),
        ("'5'", "5:latest"),
        ("!other x", "x:latest"),
        ("2001-13-01", "2001-13-01:latest"),
    ],
)
def test_texts_are_what_compose_takes_for_texts(written: str, image: str) -> None:
    """By yaml.v3, with which Compose reads. YAML 1.1 has the first ones as 90 and true."""
    found = read_compose(f"services: {{web: {{image: {written}}}}}".encode(), "c.yaml", {})
    assert [one.familiar for one in found.images] == [image]


@pytest.mark.parametrize(
    "written",
    [
        "0777",
        "0x1f",
        "0o17",
        "-0o7",
        "0b11",
        "1_000",
        "1__0",
        "08",
        "+1",
        "-1",
        "1.5",
        "5.",
        ".5",
        "1_0.5",
        "1e3",
        ".inf",
        "-.inf",
        ".nan",
        "true",
        "True",
        "FALSE",
        "2001-01-01",
        "2001-1-1",
        "2001-01-01T10:00:00Z",
        "!!int 5",
        "!!float 5",
        "~",
        "null",
        "NULL",
        "[x]",
        "{x: y}",
    ],
)
def test_other_types_are_no_images(written: str) -> None:
    content = f"services: {{web: {{image: {written}}}}}".encode()
    with pytest.raises(UsageError, match="expected image: to be a text"):
        read_compose(content, "c.yaml", {})


@pytest.mark.parametrize(
    ("content", "images"),
    [
        ("a: &a {image: x}\nservices: {v: {image: y, <<: *a}, w: {<<: *a, image: z}}", "y z"),
        ("a: &a {image: x}\nb: &b {image: y}\nservices: {v: {<<: [*a, *b]}, w: {<<: [*b, {image: z}]}}", "x y"),
        ("a: &a {image: x}\nb: &b {<<: *a, image: y}\nc: &c {<<: *b}\nservices: {w: {<<: *c}}", "y"),
        ("a: &a {v: {image: x}, w: {image: x}}\nservices: {<<: *a, v: {image: y}}", "y x"),
        ("a: &a {services: {w: {image: x}}}\n<<: *a", "x"),
        ("a: &a x\nservices: {w: {image: *a}}", "x"),
        ("a: &a {image: x}\na2: &a {image: y}\nservices: {w: {<<: *a}}", "y"),
        ("? services\n: {w: {? image : x}}", "x"),
    ],
)
def test_what_is_merged_is_what_yaml_v3_merges(content: str, images: str) -> None:
    found = read_compose(content.encode(), "c.yaml", {})
    assert [one.familiar for one in found.images] == [f"{name}:latest" for name in images.split()]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: &a {image: x}\nservices: {w: {<<: *a, <<: *a}}", "'<<' is there twice"),
        ("services: {w: {image: a, image: b}}", "'image' is there twice"),
        ("services: &s {w: {<<: *s}}", "anchor 's' contains itself"),
        ("services: {w: {<<: *s}}", "unknown anchor 's'"),
        ("services: {w: {<<: 5}}", "merges what is not a mapping"),
        ("services: {w: {<<: [[]]}}", "merges what is not a mapping"),
        ("services: {w: {? [a] : b, image: x}}", "a key is not a text"),
        ("services: {w: {image: a}}\n---\nservices: {}", "several YAML documents"),
        ('a: &a {image: x}\nservices: {w: {"<<": *a}}', "expected image: to be a text"),
    ],
)
def test_what_yaml_v3_refuses_is_refused(content: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_compose(content.encode(), "c.yaml", {})


def _bomb(levels: int) -> str:
    lines = ["a0: &a0 {k0: 1, image: x}"]
    lines += [f"a{n}: &a{n} {{k{n}: 1, <<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, levels)]
    return "\n".join([*lines, f"services: {{web: {{<<: *a{levels - 1}}}}}"])


def _shared_chain() -> str:
    """A long chain of merges, and many services that merge it."""
    lines = ["a0: &a0 {image: x}", *(f"a{n}: &a{n} {{<<: *a{n - 1}}}" for n in range(1, 5000))]
    services = (f"  s{n}: {{<<: *a4999}}" for n in range(5000))
    return "\n".join([*lines, "services:", *services])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_bomb(30), None),
        (_bomb(1000), None),
        (_shared_chain(), None),
        ("x: " + "1:" * 200_000 + "1\nservices: {web: {image: x}}", None),
        ("x: " + "1" * 1_000_000 + "\nservices: {web: {image: x}}", None),
        (f"? {'1' * 6000}\n: x\nservices: {{web: {{image: x}}}}", None),
        ("x: [" + "a," * 500_000 + "]\nservices: {web: {image: x}}", "more than 100000 YAML nodes"),
        ("[" * 500_000, "more than 100 levels deep"),
        ("- " * 500_000, "more than 100 levels deep"),
        ("{a: " * 200_000, "more than 100 levels deep"),
        ("services: {web: {image: '" + "$A" * 2000 + "'}}", "more than 4096 characters"),
    ],
)
def test_no_file_takes_more_than_its_length(content: str, message: str | None) -> None:
    start = time.process_time()
    if message is None:
        found = read_compose(content.encode(), "c.yaml", {})
        assert [image.familiar for image in found.images] == ["x:latest"]
    else:
        with pytest.raises(UsageError, match=message):
            read_compose(content.encode(), "c.yaml", {"A": "x" * 1_000_000})
    assert time.process_time() - start < 5
