"""Times as Go writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def go_time(nanoseconds: int) -> bytes:
    """A time, in nanoseconds since the epoch, as Go's ``time.RFC3339Nano``, in UTC: a fraction without trailing zeros."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    whole = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f".{fraction:09}".rstrip("0") if fraction else ""
    return f"{whole}{digits}Z".encode("ascii")
