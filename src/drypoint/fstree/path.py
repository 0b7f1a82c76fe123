"""Paths inside a tree: bytes, relative, clean, and never outside their root."""

from __future__ import annotations


def clean_path(name: bytes) -> bytes:
    """Reduce *name* to the form of paths in entries, with the tree's root as ``/``.

    ``/a``, ``./a``, ``a/`` and ``x/../a`` all give ``a``; ``.`` and ``/`` give ``b""``. As everywhere on Unix, and in the
    engine's filepath.Clean, ``/..`` is ``/``, so that ``/../a`` gives ``a`` too.

    Raises:
        ValueError: a relative *name* leaves the root (``../a``, ``a/../../b``), or *name* holds a NUL byte.
    """
    if b"\0" in name:
        raise ValueError("the name holds a NUL byte")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if parts:
                parts.pop()
            elif not name.startswith(b"/"):
                raise ValueError("the name leaves the root of its tree")
        else:
            parts.append(part)
    return b"/".join(parts)


def parent_and_name(path: bytes) -> tuple[bytes, bytes]:
    """Split a clean path into its directory and last part; the root has no name and no parent.

    Raises:
        ValueError: *path* is the root.
    """
    if not path:
        raise ValueError("the root of a tree has no parent")
    parent, _, name = path.rpartition(b"/")
    return parent, name


def join(*parts: bytes) -> bytes:
    """Join clean paths; empty ones (the root) are ignored."""
    return b"/".join(filter(None, parts))
