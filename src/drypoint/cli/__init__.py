"""The command line. One module a command; :mod:`.render` alone prints and exits."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Entry point of the ``drypoint`` program."""
    import gc

    from .app import run

    # What is made for each file of a layer is in no cycle: looking for one after every 700 objects takes 1 % of the time.
    gc.set_threshold(50_000)
    run()
