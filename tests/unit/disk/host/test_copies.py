"""Sparse copies: the same bytes, the same holes, through the page cache and past it."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drypoint.disk import copy_sparse, data_extents
from drypoint.disk.host import copies as copying
from drypoint.disk.host import direct
from drypoint.errors import DiskImageError

BLOCK = 4096
SIZE = 40 << 20


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    """Data, a hole, data that begins and ends within a block, and a last block that is not whole."""
    with (tmp_path / "source").open("w+b") as file:
        file.write(random.Random(1).randbytes(9 << 20))
        file.seek((20 << 20) + 100)
        file.write(random.Random(2).randbytes((5 << 20) + 1000))
        file.seek(SIZE - 2000)
        file.write(random.Random(3).randbytes(1777))
        file.flush()
        yield file.fileno()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    with (tmp_path / "target").open("w+b") as file:
        yield file.fileno()


def require_direct(fd: int) -> None:
    with direct.direct_target(fd) as opened:
        if opened is None:
            pytest.skip("temporary files are on no ext4")


def cached_bytes(path: Path) -> int:
    """How much of a file is in the page cache."""
    told = subprocess.run(
        ["fincore", "--bytes", "--noheadings", "--output", "RES", path], capture_output=True, text=True, check=True
    )
    return int(told.stdout)


def test_what_is_large_goes_past_the_page_cache_if_it_is_for_good(source: int, target: int, tmp_path: Path) -> None:
    require_direct(target)
    told: list[int] = []
    data = sum(length for _, length in data_extents(source, 0, SIZE))
    assert copy_sparse(source, target, for_good=True, progress=told.append) == data
    assert cached_bytes(tmp_path / "target") < 1 << 20
    assert sum(told) == os.fstat(source).st_size
    assert min(told) > 0
    length = os.fstat(source).st_size
    assert list(data_extents(target, 0, length)) == list(data_extents(source, 0, length))
    assert os.pread(target, SIZE, 0) == os.pread(source, SIZE, 0)


def test_what_is_not_or_is_small_stays_in_the_page_cache(source: int, target: int, tmp_path: Path) -> None:
    copy_sparse(source, target)
    assert cached_bytes(tmp_path / "target") > 14 << 20
    assert os.pread(target, SIZE, 0) == os.pread(source, SIZE, 0)
    os.ftruncate(target, 0)
    copy_sparse(source, target, length=30 << 20, for_good=True)
    assert cached_bytes(tmp_path / "target") > 14 << 20


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 40_000)), min_size=1, max_size=4),
    skipped=st.integers(0, 3 * BLOCK),
    put_at=st.integers(0, 3 * BLOCK),
    cut=st.integers(0, 3 * BLOCK),
)
def test_any_range_comes_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[tuple[int, int]], skipped: int, put_at: int, cut: int
) -> None:
    with (tmp_path / "a").open("w+b") as source, (tmp_path / "b").open("w+b") as target:
        for hole, length in runs:
            source.seek(hole, os.SEEK_CUR)
            source.write(random.Random(length).randbytes(length))
        source.flush()
        content = (tmp_path / "a").read_bytes()
        wanted = content[skipped : max(skipped, len(content) - cut)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(copying, "LEAST_SIZE", 0)
            patch.setattr(direct, "CHUNK_SIZE", 2 * BLOCK)
            patch.setattr(direct, "LEAST_RUN", BLOCK)
            copy_sparse(
                source.fileno(),
                target.fileno(),
                source_offset=min(skipped, len(content)),
                target_offset=put_at,
                length=len(wanted),
                for_good=True,
            )
        assert (tmp_path / "b").read_bytes() == (bytes(put_at) + wanted if wanted else bytes(put_at))


@pytest.mark.parametrize("kept", [0, 4 << 20, (22 << 20) + 5])
def test_a_source_that_becomes_shorter_meanwhile_is_an_error(source: int, target: int, kept: int) -> None:
    require_direct(target)

    def shorten(_: int) -> None:
        os.ftruncate(source, kept)

    with pytest.raises(DiskImageError, match="did it change while it was copied"):
        copy_sparse(source, target, for_good=True, progress=shorten)


def test_pages_that_are_gone_when_they_are_written_are_an_error(
    source: int, target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_direct(target)
    write = os.pwrite

    def shortened(fd: int, data: memoryview, offset: int) -> int:
        os.ftruncate(source, 0)
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", shortened)
    with pytest.raises(DiskImageError, match="ends before byte"):
        copy_sparse(source, target, for_good=True)


def test_a_full_disk_is_told_as_such(source: int, target: int, monkeypatch: pytest.MonkeyPatch) -> None:
    require_direct(target)

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as caught:
        copy_sparse(source, target, for_good=True)
    assert caught.value.errno == errno.ENOSPC


def test_a_disk_that_wants_other_blocks_has_the_usual_copy(
    source: int, target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_direct(target)
    write = os.pwrite
    refused: list[int] = []

    def particular(fd: int, data: memoryview, offset: int) -> int:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            refused.append(offset)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", particular)
    copy_sparse(source, target, for_good=True)
    # Three at most were under way by then.
    assert set(refused) <= {0, 8 << 20}
    assert refused
    assert os.pread(target, SIZE, 0) == os.pread(source, SIZE, 0)


def test_where_nothing_can_be_allocated_in_advance_it_is_written_all_the_same(
    source: int, target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_direct(target)

    def impossible(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(os, "posix_fallocate", impossible)
    copy_sparse(source, target, for_good=True)
    assert os.pread(target, SIZE, 0) == os.pread(source, SIZE, 0)


def test_a_source_that_cannot_be_mapped_is_read(source: int, target: int, monkeypatch: pytest.MonkeyPatch) -> None:
    require_direct(target)

    def impossible(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(mmap, "mmap", impossible)
    copy_sparse(source, target, for_good=True)
    assert os.pread(target, SIZE, 0) == os.pread(source, SIZE, 0)


def test_a_source_that_cannot_be_read_is_told_with_its_own_error(
    source: int, target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_direct(target)

    def fault(fd: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))

    def damaged(fd: int, buffers: list[memoryview], offset: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pwrite", fault)
    monkeypatch.setattr(os, "preadv", damaged)
    with pytest.raises(OSError, match="Input/output error"):
        copy_sparse(source, target, for_good=True)


def test_other_file_systems_and_missing_mounts_have_the_usual_copy(
    source: int, target: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(direct, "FILE_SYSTEMS", frozenset({"none"}))
    with direct.direct_target(target) as opened:
        assert opened is None
    monkeypatch.undo()
    monkeypatch.setattr(direct, "MOUNTS", tmp_path / "missing")
    with direct.direct_target(target) as opened:
        assert opened is None
    copy_sparse(source, target, for_good=True)
    assert os.pread(target, SIZE, 0) == os.pread(source, SIZE, 0)
