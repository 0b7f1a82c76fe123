"""``python -m drypoint``: the program where its script is not in PATH."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
