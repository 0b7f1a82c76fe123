"""Text from a disk image, made safe to show: it is untrusted."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """*text* with everything that is not meant to be seen written as an escape, ``\\x1b`` and the like.

    Control characters steer terminals and have no place in XML; invisible ones and those that turn the direction of writing
    make one name look like another; lone surrogates cannot be encoded.

    Args:
        keep: characters that stay as they are all the same, newlines for one.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escape(one) for one in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
