"""Paths on FAT: which are valid, and which are the same."""

from __future__ import annotations

import re

from ...errors import UsageError

_MAX_NAME = 255
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f"*/:<>?\\|\[\]]')
_DEVICE_NAME = re.compile(r"(con|prn|aux|nul|clock\$|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE | re.DOTALL)
_SHORT_ALIAS = re.compile(r"[^.]{1,6}~[0-9]{1,6}(\.[^.]{0,3})?")


def check_fat_path(path: str) -> None:
    """Check that *path* is valid on FAT, and that mtools takes it literally.

    Raises:
        UsageError: it is not valid; the message says why.
    """
    for name in path.split("/"):
        why = _fault(name)
        if why is not None:
            raise UsageError(f"{path[:300]!r} cannot be the path of a file on FAT: {why}")


def _fault(name: str) -> str | None:
    if not name or name in (".", ".."):
        return "a part of it is empty, '.' or '..'"
    if _FORBIDDEN.search(name):
        return 'it has a control character or one of " * : < > ? \\ | [ ]'
    if name[-1] in ". " or name[0] == " ":
        return "a part of it begins with a space, or ends with a space or a dot"
    if any(ord(letter) > 0xFFFF or 0xD800 <= ord(letter) <= 0xDFFF for letter in name):
        return "it has a character beyond Unicode's first 65,536"
    if len(name) > _MAX_NAME:
        return f"a part of it has more than {_MAX_NAME} characters"
    if _DEVICE_NAME.fullmatch(name) or _SHORT_ALIAS.fullmatch(name):
        return "a part of it is a name that FAT systems give another meaning"
    return None


def fold_fat_path(text: str) -> str:
    """*text* as FAT compares it: upper case, but only where that is a single letter."""
    return "".join(letter.upper() if len(letter.upper()) == 1 else letter for letter in text)
