"""Builds the compiled lanes: as a hook of the build backend, and in the checkout by ``python hatch_build.py``.

Without a C compiler, Cython or Python's headers the package is built without them, and runs the same in Python. With
DRYPOINT_LANES=require that is an error instead; with DRYPOINT_LANES=none no lane is built.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
PACKAGE = ROOT / "src" / "drypoint"
STAMP = PACKAGE / "lanes" / f"built{EXTENSION_SUFFIXES[0]}.sha256"
"""Says of which sources the lanes beside it were built; see drypoint.lanes."""
OPTIONS = ["-O2", "-g0", "-fno-strict-aliasing", "-Wall", "-Wno-unused-function"]


class LaneBuildHook(BuildHookInterface[BuilderConfig]):
    """Adds the lanes to a wheel; an editable installation gets them beside their sources."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        built = build_or_explain(self.app.display_warning)
        if not built:
            return
        if version == "editable":
            put_beside_sources(built)
            return
        for path in [*built, write_stamp(built[0].parent / STAMP.name)]:
            inside = (
                STAMP.relative_to(ROOT / "src") if path.suffix == ".sha256" else path.relative_to(built_root(built))
            )
            build_data["force_include"][str(path)] = str(inside)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def build_or_explain(warn: Callable[[str], object]) -> list[Path]:
    """The built modules; none, with a warning, where they cannot be built and need not be."""
    wish = os.environ.get("DRYPOINT_LANES", "")
    if wish == "none":
        return []
    try:
        return build()
    except Exception as error:
        if wish == "require":
            raise
        warn(f"drypoint is installed without its compiled lanes and will be slower; they cannot be built: {error}")
        return []


def sources() -> list[Path]:
    """All files that lanes are made of."""
    return sorted(path for suffix in ("pyx", "pxd", "h") for path in PACKAGE.rglob(f"*.{suffix}"))


def build() -> list[Path]:
    """Compile all lanes below build/, where what is up to date stays."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    work = ROOT / "build" / f"lanes-{sys.implementation.cache_tag}"
    headers = [str(path) for path in sources() if path.suffix == ".h"]
    extensions = [
        Extension(
            ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts),
            [str(path.relative_to(ROOT))],
            include_dirs=sorted({str(path.parent) for path in sources() if path.suffix == ".h"}),
            depends=headers,
            extra_compile_args=OPTIONS,
        )
        for path in sources()
        if path.suffix == ".pyx"
    ]
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        modules = cythonize(  # type: ignore[no-untyped-call]
            extensions,
            build_dir=str(work / "c"),
            include_path=[str(PACKAGE.parent)],
            compiler_directives={"language_level": 3},
            quiet=True,
        )
        command = build_ext(Distribution({"name": "drypoint", "ext_modules": modules}))
        command.build_lib, command.build_temp = str(work / "lib"), str(work / "temp")
        command.parallel = os.cpu_count()
        command.ensure_finalized()
        command.run()
        return [ROOT / command.get_ext_fullpath(module.name) for module in modules]
    finally:
        os.chdir(before)


def built_root(built: list[Path]) -> Path:
    """The directory in which the built package lies."""
    return next(above.parent for above in built[0].parents if above.name == "drypoint")


def put_beside_sources(built: list[Path]) -> None:
    """Copy what was built to where the checkout imports it from; if nothing was, no lane is used."""
    # The stamp goes last: lanes without it are not used.
    STAMP.unlink(missing_ok=True)
    if not built:
        return
    for path in built:
        target = PACKAGE.parent / path.relative_to(built_root(built))
        # Under another inode: a program that runs has the old one mapped.
        target.unlink(missing_ok=True)
        shutil.copy(path, target)
    write_stamp(STAMP)


def write_stamp(path: Path) -> Path:
    digest = hashlib.sha256()
    for source in sources():
        digest.update(source.read_bytes())
    path.write_text(digest.hexdigest() + "\n")
    return path


if __name__ == "__main__":
    os.environ.setdefault("DRYPOINT_LANES", "require")
    put_beside_sources(build_or_explain(print))
