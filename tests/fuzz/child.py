"""One target under the fuzzer, in a process of its own; started by :mod:`.run`.

Usage: ``python -m tests.fuzz.child TARGET PACKAGES ARGUMENT...``: packages to cover, parted by commas; libFuzzer's arguments.
"""

from __future__ import annotations

import importlib
import sys


def main(arguments: list[str]) -> None:
    name, packages, *rest = arguments
    atheris = importlib.import_module("atheris")
    # Coverage is counted in what is imported here.
    # Coverage is counted in what is imported here, and only where "include" allows it: whole top-level packages.
    with atheris.instrument_imports(include=["drypoint", "tests"], enable_loader_override=False):
        for package in packages.split(","):
            importlib.import_module(package)
    catalogue = importlib.import_module("tests.fuzz.catalogue")
    examine = importlib.import_module("tests.fuzz.target").examine
    target = catalogue.TARGETS[name]
    # What is made on first use must not count as left behind by an input.
    for seed in target.seeds():
        examine(target, seed)
    atheris.Setup([sys.argv[0], *rest], lambda data: examine(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
