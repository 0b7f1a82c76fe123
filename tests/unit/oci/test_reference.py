from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drypoint.digest import Digest
from drypoint.errors import InvalidReferenceError
from drypoint.oci import Reference, parse_reference

HEX = "0123456789abcdef" * 4
DIGEST = Digest("sha256:" + HEX)


@pytest.mark.parametrize(
    ("text", "name", "familiar", "tag"),
    [
        ("alpine", "docker.io/library/alpine", "alpine:latest", "latest"),
        ("alpine:3.20", "docker.io/library/alpine", "alpine:3.20", "3.20"),
        ("team/app", "docker.io/team/app", "team/app:latest", "latest"),
        ("docker.io/alpine", "docker.io/library/alpine", "alpine:latest", "latest"),
        ("index.docker.io/team/app", "docker.io/team/app", "team/app:latest", "latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b:latest", "latest"),
        ("localhost/app", "localhost/app", "localhost/app:latest", "latest"),
        ("localhost:5000/app:1", "localhost:5000/app", "localhost:5000/app:1", "1"),
        ("localhost:5000", "docker.io/library/localhost", "localhost:5000", "5000"),
        ("Example.COM/a__b/c---d:T_.-", "Example.COM/a__b/c---d", "Example.COM/a__b/c---d:T_.-", "T_.-"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app:latest", "latest"),
        ("registry2.balena-cloud.com/v2/" + HEX[:32], "registry2.balena-cloud.com/v2/" + HEX[:32], None, "latest"),
    ],
)
def test_names(text: str, name: str, familiar: str | None, tag: str) -> None:
    reference = parse_reference(text)
    assert reference.name == name
    assert reference.tag == tag
    assert str(reference) == (familiar or text + ":latest")


def test_tag_and_digest_are_both_kept() -> None:
    assert parse_reference(f"app:1@{DIGEST}") == Reference("docker.io", "library/app", "1", DIGEST)
    assert parse_reference(f"app@{DIGEST}") == Reference("docker.io", "library/app", None, DIGEST)
    assert str(parse_reference("app").with_digest(DIGEST)) == f"app@{DIGEST}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "/",
        "a/",
        "/a",
        "a//b",
        "a:",
        "a@",
        HEX,
        "A",
        "MyTeam/app",
        "a/B",
        "a___b",
        "a..b",
        "-a",
        "a-",
        "a:" + "t" * 129,
        "a:-t",
        "a:t/b",
        "a@sha256:" + HEX.upper(),
        "a@sha256:abc",
        "a@sha512:" + HEX + HEX,
        f"a@{DIGEST}:t",
        "a b",
        "a\n",
        "bad_host.com/a",
        "host:port/a",
        "-host.com/a",
        "é/a",
        "a" * 256,
        "x" * 1_000_000,
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        parse_reference(text)
    assert len(str(caught.value)) < 600


def test_says_what_is_wrong() -> None:
    with pytest.raises(InvalidReferenceError, match="lower-case"):
        parse_reference("MyTeam/app")
    with pytest.raises(InvalidReferenceError, match="longer than 255"):
        parse_reference("a" * 250)


# Strategies written down from the grammar at the head of distribution's reference.go, not from our regular expressions.
alphanumeric = st.text("abcz019", min_size=1, max_size=5)
separator = st.sampled_from([".", "_", "__", "-", "--", "---"])
component = st.builds(
    lambda first, more: first + "".join(a + b for a, b in more),
    alphanumeric,
    st.lists(st.tuples(separator, alphanumeric), max_size=2),
)
path = st.lists(component, min_size=1, max_size=3).map("/".join)
domain = st.builds(
    lambda labels, port: ".".join(labels) + port,
    st.lists(st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?", fullmatch=True), min_size=2, max_size=3),
    st.sampled_from(["", ":80", ":65000"]),
).filter(lambda text: text not in ("docker.io", "index.docker.io"))
tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(domain, path, st.none() | tag, st.none() | st.just(DIGEST))
def test_whatever_the_grammar_derives_is_read_part_by_part(
    host: str, repository: str, label: str | None, digest: Digest | None
) -> None:
    text = f"{host}/{repository}" + (f":{label}" if label else "") + (f"@{digest}" if digest else "")
    reference = parse_reference(text)
    default = None if label or digest else "latest"
    assert reference == Reference(host, repository, label or default, digest)
    assert parse_reference(str(reference)) == reference


@given(st.text("aA0:/@._-[] \n", max_size=20) | st.text(max_size=20))
def test_anything_else_is_an_error_or_a_fixed_point(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidReferenceError:
        return
    assert parse_reference(str(reference)) == reference
    assert parse_reference(f"{reference.name}:t").name == reference.name


def test_what_may_be_a_password_is_not_repeated() -> None:
    with pytest.raises(InvalidReferenceError, match="docker login") as caught:
        parse_reference("bob:hunter2@registry.example/app:1")
    assert "hunter2" not in str(caught.value)
