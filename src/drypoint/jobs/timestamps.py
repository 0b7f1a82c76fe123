"""The timestamp of everything that drypoint makes itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from ..disk.ext4 import LATEST_NOW
from ..errors import UsageError
from ..oci import Image

_CREATED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)")
LATEST = LATEST_NOW
"""The last second that the ext4 writer supports."""


def source_date_epoch(environment: Mapping[str, str]) -> int | None:
    """``SOURCE_DATE_EPOCH`` in seconds, see reproducible-builds.org/specs/source-date-epoch; None if it is not set.

    Raises:
        UsageError: it is not a number of seconds, or more than ext4 can store.
    """
    text = environment.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= LATEST):
        raise UsageError(f"SOURCE_DATE_EPOCH is {text[:40]!r}, expected whole seconds since 1970, at most {LATEST}")
    return int(text)


def newest_creation(images: Iterable[Image]) -> int:
    """Seconds since the epoch of the newest creation date in the images' configs; 0 if none has a usable one."""
    return max((_seconds(image.config.created) for image in images), default=0)


def _seconds(created: str | None) -> int:
    """The seconds of an RFC 3339 time, as in the image-spec, without its fraction; 0 for anything else."""
    match = _CREATED.fullmatch(created or "")
    if match is None:
        return 0
    try:
        moment = datetime.fromisoformat(match[1] + ("+00:00" if match[2] == "Z" else match[2]))
    except ValueError:
        return 0
    return min(max(int(moment.timestamp()), 0), LATEST)
