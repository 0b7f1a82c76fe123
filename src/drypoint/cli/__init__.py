"""The command line. One module a command; :mod:`.render` alone prints and exits."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Entry point of the ``drypoint`` program."""
    import gc

    # What is made for each file of a layer is in no cycle: looking for one after every 700 objects takes 1 % of the time, and
    # one look at 100,000 takes 30 ms.
    gc.set_threshold(1_000_000)

    from .app import run

    try:
        run()
    finally:
        # Nor need a process that ends look for cycles once more.
        gc.freeze()
