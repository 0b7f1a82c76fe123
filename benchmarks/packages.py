"""Trees of public packages, for realistic workloads; kept in the user's cache directory.

Needs Debian's archive, npm and PyPI the first time, and the programs npm and pip. Top-level packages are pinned.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs
from tests.support.debian import locked

_NODE = ("react-scripts@5.0.1", "typescript@4.9.5")
_SCIENCE = (
    "numpy==1.26.4",
    "scipy==1.13.1",
    "pandas==2.2.2",
    "scikit-learn==1.5.0",
    "matplotlib==3.9.0",
    "pyarrow==16.1.0",
    "numba==0.59.1",
    "polars==1.1.0",
)
_RECIPE = 2
"""Part of the cached files' names: increase it with every change above."""
NODE_FILES = 34_000
"""The number of files of node_modules to use, in the order of their names."""
SCIENCE_FILES = 30_000


def node_modules() -> Path:
    """A tar of ``srv/node_modules``."""
    return _cached("node", lambda directory: _install_node(directory, "srv"), NODE_FILES)


def science_stack() -> Path:
    """A tar of ``opt/science``, what pip installs of a Python science stack."""
    return _cached("science", lambda directory: _install_science(directory / "opt/science"), SCIENCE_FILES)


def _cached(name: str, install: Callable[[Path], None], most: int) -> Path:
    directory = platformdirs.user_cache_path("drypoint", appauthor=False, ensure_exists=True)
    tar = directory / f"bench-{name}-{os.uname().machine}-{_RECIPE}.tar"
    with locked(tar.with_suffix(".lock")):
        if not tar.exists():
            with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=directory) as scratch:
                tree = Path(scratch) / "tree"
                tree.mkdir()
                install(tree)
                part = Path(scratch) / tar.name
                _pack(tree, part, most)
                part.rename(tar)
    return tar


def _pack(tree: Path, tar: Path, most: int) -> None:
    names = "\0".join(itertools.islice(_files(tree), most))
    subprocess.run(
        [
            "tar", "--create", "--file", tar, "--format=pax", "--pax-option=delete=atime,delete=ctime", "--numeric-owner",
            "--owner=0", "--group=0", "--mtime=@1700000000", "--directory", tree, "--null", "--files-from=-",
        ],
        input=names.encode(),
        check=True,
    )  # fmt: skip


def _files(tree: Path) -> Iterator[str]:
    for folder, directories, files in os.walk(tree):
        directories.sort()
        for file in sorted(files):
            yield str((Path(folder) / file).relative_to(tree))


def _install_node(tree: Path, prefix: str) -> None:
    target = tree / prefix
    target.mkdir(parents=True)
    _program(
        "npm", "install", "--prefix", str(target), "--no-audit", "--no-fund", "--ignore-scripts", "--silent", *_NODE
    )


def _install_science(target: Path) -> None:
    _program(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(target), *_SCIENCE)


def _program(name: str, *arguments: str) -> None:
    if shutil.which(name) is None:
        raise SystemExit(f"the workload needs {name}; install it")
    subprocess.run([name, *arguments], check=True)
