"""A blob whose connections break, stall, end early or lie, against the in-process registry."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.quick_network import QUICK

from drypoint.digest import digest_of
from drypoint.errors import ContentError, DrypointError, ImageNotFoundError, TransferError
from drypoint.http import transfer
from drypoint.oci import Descriptor, Image, Layer, Reference, parse_config
from drypoint.samples.registry import Faults, OddRange, RegistryContent, TestRegistry, serve_registry
from drypoint.sources.registry import RegistryOptions, RegistrySource

BLOB = random.Random(3).randbytes(5_000_001)
DIGEST = digest_of(BLOB)
CONFIG = parse_config(b'{"rootfs": {"type": "layers", "diff_ids": []}}', "a config")


def subject(registry: TestRegistry, size: int = len(BLOB)) -> tuple[Image, Layer]:
    layer = Layer(Descriptor("application/octet-stream", DIGEST, size), DIGEST, DIGEST, None)
    return Image((), CONFIG, (layer,), Reference(registry.host, "team/app")), layer


@contextmanager
def served(faults: Faults, held: bytes | Path = BLOB) -> Iterator[TestRegistry]:
    with serve_registry(RegistryContent(blobs={DIGEST: held}), faults=faults) as registry:
        yield registry


def fetch(registry: TestRegistry, options: RegistryOptions = QUICK, size: int = len(BLOB)) -> bytes:
    with RegistrySource(options) as source:
        return b"".join(source.open_layer(*subject(registry, size)))


def ranges(registry: TestRegistry) -> list[str | None]:
    return [request.headers.get("range") for request in registry.requests if "/blobs/" in request.path]


def test_chunks_are_about_a_mebibyte() -> None:
    with served(Faults()) as registry, RegistrySource(QUICK) as source:
        chunks = list(source.open_layer(*subject(registry)))
    assert b"".join(chunks) == BLOB
    assert all(1 << 20 <= len(chunk) <= 2 << 20 for chunk in chunks[:-1])
    assert registry.bytes_sent[f"/v2/team/app/blobs/{DIGEST}"] == len(BLOB)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(chunked=True),
        Faults(compressed_header=True),
        Faults(breaks=3, fault_after=1_500_000),
        Faults(breaks=2, fault_after=0),
        Faults(breaks=3, fault_after=1_500_000, chunked=True),
        Faults(breaks=3, fault_after=1_500_000, ignore_range=True),
        Faults(ends=3, fault_after=1_000_000),
        Faults(ends=2, fault_after=1_000_000, chunked=True),
        Faults(ends=1, fault_after=1_000_000, ignore_range=True),
        Faults(breaks=1, fault_after=len(BLOB) - 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("as_file", [False, True])
def test_every_byte_comes_once(faults: Faults, as_file: bool, tmp_path: Path) -> None:
    held: bytes | Path = BLOB
    if as_file:
        held = tmp_path / "blob"
        held.write_bytes(BLOB)
    with served(replace(faults), held) as registry:
        assert fetch(registry) == BLOB


def test_a_transfer_goes_on_from_the_exact_byte() -> None:
    with served(Faults(ends=2, fault_after=1_000_003)) as registry:
        assert fetch(registry) == BLOB
    assert ranges(registry) == [None, "bytes=1000003-5000000", "bytes=2000006-5000000"]
    assert registry.bytes_sent[f"/v2/team/app/blobs/{DIGEST}"] == len(BLOB)


def test_a_stalled_connection_is_replaced() -> None:
    with served(Faults(stalls=2, fault_after=700_000)) as registry:
        assert fetch(registry, replace(QUICK, read_timeout=0.2)) == BLOB
    assert ranges(registry) == [None, "bytes=700000-5000000", "bytes=1400000-5000000"]


def test_a_connection_that_only_drips_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SLOWEST_SECONDS", 0.3)
    with served(Faults(bytes_per_second=20_000.0)) as registry:

        def hurry() -> None:
            registry.faults.bytes_per_second = None

        threading.Timer(0.5, hurry).start()
        assert fetch(registry) == BLOB
    assert len(ranges(registry)) >= 2


def test_progress_renews_the_patience() -> None:
    with served(Faults(ends=40, fault_after=120_000)) as registry:
        assert fetch(registry) == BLOB
    assert len(ranges(registry)) == 41


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (Faults(breaks=999, fault_after=1_000), "connection"),
        (Faults(ends=999, fault_after=1_000), "ended early"),
        (Faults(ends=999, fault_after=1_000_000, ignore_range=True), "1000000 of 5000001 bytes"),
        (Faults(stalls=999, fault_after=0), "stalled"),
        (Faults(refusals=999), "answers status 503"),
    ],
    ids=str,
)
def test_without_progress_the_patience_ends(faults: Faults, reason: str) -> None:
    with served(faults) as registry, pytest.raises(TransferError, match=reason) as caught:
        # Only what stalls runs into it: a busy machine may well take longer to answer.
        fetch(registry, replace(QUICK, read_timeout=0.1 if faults.stalls else QUICK.read_timeout))
    assert f"{registry.host}/v2/team/app/blobs/{DIGEST}" in str(caught.value)
    assert "bytes received" in str(caught.value)
    assert 4 <= len(ranges(registry)) <= 6


@pytest.mark.parametrize("fault", ["breaks", "ends"])
@pytest.mark.parametrize("odd", get_args(OddRange))
def test_ranges_that_are_answered_oddly(fault: str, odd: OddRange) -> None:
    """What is not clearly the range is not used, and nothing that was passed on comes twice."""
    faults = Faults(odd_range=odd, fault_after=1_500_000)
    setattr(faults, fault, 1)
    with served(faults) as registry:
        assert fetch(registry) == BLOB
        asked = ranges(registry)
    if fault == "breaks":
        # How much came before a reset differs from time to time.
        return
    again = "bytes=1500000-5000000"
    if odd in ("whole", "whole as 200", "closed"):
        assert asked == [None, again]
    elif odd == "short":
        assert asked[:3] == [None, again, "bytes=1600000-5000000"]
        assert len(asked) == 37
    else:
        assert asked == [None, *[again] * (2 if odd == "500" else 1), None]


def test_a_range_of_other_bytes_is_not_used() -> None:
    with served(Faults(ends=1, fault_after=500_000, wrong_range=True)) as registry:
        assert fetch(registry) == BLOB
        assert ranges(registry) == [None, "bytes=500000-5000000", None]


def test_a_server_that_fails_for_a_while_is_asked_for_ranges_all_the_same() -> None:
    with served(Faults(ends=1, fault_after=1_500_000)) as registry, RegistrySource(QUICK) as source:
        stream = source.open_layer(*subject(registry))
        start = next(stream)
        registry.faults.refusals = 1
        assert start + b"".join(stream) == BLOB
        assert ranges(registry) == [None, *["bytes=1500000-5000000"] * 2]


@pytest.mark.parametrize("odd", ["400", "whole", "whole as 200", "nameless"])
def test_beginning_anew_is_bounded(odd: OddRange) -> None:
    """Each try brings 70,000 bytes more: what is skipped grows, and then that is no progress any more."""
    with served(Faults(odd_range=odd)) as registry, RegistrySource(QUICK) as source:
        registry.faults.ends, registry.faults.fault_after = 999, 70_000
        stream = source.open_layer(*subject(registry))

        def work() -> None:
            for position, _ in enumerate(stream):
                registry.faults.fault_after = 70_000 * (position + 2)

        with pytest.raises(TransferError, match="bytes received"):
            work()
        assert registry.bytes_sent[f"/v2/team/app/blobs/{DIGEST}"] < 10 * len(BLOB)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("extra", [1, 2_000_000])
def test_more_bytes_than_the_descriptor_says(chunked: bool, extra: int) -> None:
    with served(Faults(extra_bytes=extra, chunked=chunked)) as registry:
        with pytest.raises(ContentError, match="more than the 5000001 bytes"):
            fetch(registry)
    assert len(ranges(registry)) == 1


@pytest.mark.parametrize("size", [0, 1, len(BLOB) - 1, len(BLOB) + 1, 1 << 40])
def test_another_length_than_the_descriptor_says(size: int) -> None:
    with served(Faults()) as registry, pytest.raises(ContentError, match=f"5000001 bytes, but .* says {size}"):
        fetch(registry, size=size)
    assert len(ranges(registry)) == 1


@pytest.mark.parametrize("ignore_range", [False, True])
def test_fewer_bytes_than_the_descriptor_says_without_a_length(ignore_range: bool) -> None:
    with served(Faults(chunked=True, ignore_range=ignore_range)) as registry:
        with pytest.raises(DrypointError) as caught:
            fetch(registry, size=len(BLOB) + 1)
    # Told by the answer to the range after the end; a server without ranges can only be given up.
    assert isinstance(caught.value, TransferError if ignore_range else ContentError)


def test_the_empty_blob() -> None:
    digest = digest_of(b"")
    with serve_registry(RegistryContent(blobs={digest: b""})) as registry, RegistrySource(QUICK) as source:
        layer = Layer(Descriptor("x", digest, 0), digest, digest, None)
        image = Image((), CONFIG, (layer,), Reference(registry.host, "team/app"))
        assert list(source.open_layer(image, layer)) == []


def test_a_blob_that_goes_away_in_the_middle() -> None:
    with served(Faults(ends=1, fault_after=1_500_000)) as registry, RegistrySource(QUICK) as source:
        stream = source.open_layer(*subject(registry))
        next(stream)
        registry.content.blobs.clear()
        with pytest.raises(ImageNotFoundError):
            list(stream)


def test_a_signed_address_that_has_lapsed_is_asked_for_anew() -> None:
    with served(Faults()) as store, served(Faults(redirect_blobs=store.url)) as registry:
        store.faults = Faults(ends=1, fault_after=1_500_000)
        with RegistrySource(QUICK) as source:
            stream = source.open_layer(*subject(registry))
            start = next(stream)
            store.faults.refusals, store.faults.refusal_status = 1, 403
            assert start + b"".join(stream) == BLOB
    assert ranges(registry) == ranges(store) == [None, "bytes=1500000-5000000", "bytes=1500000-5000000"]


def test_closing_the_stream_lets_go_of_the_connection() -> None:
    with served(Faults(stalls=1, fault_after=2_000_000)) as registry, RegistrySource(QUICK) as source:
        stream = source.open_layer(*subject(registry))
        next(stream)
        assert registry.open_connections == 1
        stream.close()  # type: ignore[attr-defined]  # a generator, as the protocol says
        deadline = time.monotonic() + 5
        registry.release_stalls()
        while registry.open_connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert registry.open_connections == 0


def test_several_threads_share_a_source() -> None:
    results: list[bool] = []
    with served(Faults(breaks=6, fault_after=900_000)) as registry, RegistrySource(QUICK) as source:

        def work() -> None:
            results.append(b"".join(source.open_layer(*subject(registry))) == BLOB)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 6


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["breaks", "ends"]),
    after=st.integers(70_000, 3_000_000),
    times=st.integers(1, 3),
    chunked=st.booleans(),
    ignore_range=st.booleans(),
    size=st.integers(1, len(BLOB)),
)
def test_whatever_breaks_the_bytes_are_the_same(
    kind: str, after: int, times: int, chunked: bool, ignore_range: bool, size: int
) -> None:
    held = BLOB[:size]
    faults = Faults(fault_after=after, chunked=chunked, ignore_range=ignore_range)
    setattr(faults, kind, times)
    with served(faults, held) as registry:
        assert fetch(registry, size=size) == held
