"""The images of a Compose file."""

from __future__ import annotations

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
        (b"services: {web: {image: !!python/object/apply:os.getpid []}}", "not well formed"),
        (b"\xff", "not UTF-8"),
        (b"#" * (1 << 21), "more than"),
        (b"[" * 5000, "not well formed"),
    ],
)
def test_what_is_not_a_compose_file_is_reported(content: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_compose(content, "compose.yaml", {})
