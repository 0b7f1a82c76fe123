"""The command line. One module a command; :mod:`.render` alone prints and exits."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Entry point of the ``drypoint`` program."""
    from .app import run

    run()
