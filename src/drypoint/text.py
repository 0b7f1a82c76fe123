"""Making untrusted text from a disk image safe to print."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """*text* with every unprintable character as an escape, such as ``\\x1b``.

    Control characters steer terminals and are invalid in XML; invisible ones and those that change the writing direction make
    one name look like another; lone surrogates cannot be encoded.

    Args:
        keep: characters that stay unchanged, such as newlines.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escape(one) for one in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
