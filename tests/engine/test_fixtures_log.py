"""The reader of the engine's log, and what a real engine says about a damaged store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from drypoint.errors import ToolError
from tests.support.docker_engine import DockerEngine
from tests.support.engine_log import LogRecord, complaints, parse_log
from tests.support.userland import IMAGE_OUTPUT, SUPERVISOR

from .conftest import ServedImages

LOST = 'time="2026-01-01T00:00:00Z" level=error msg="layer does not exist, not restoring image sha256:5d1f, sha256:15dc, linux"'
QUIETLY_LOST = 'time="2026-01-01T00:00:00Z" level=debug msg="Failed to load layer sha256:15dc: no such file"'
HARMLESS = """\
time="2026-01-01T00:00:00Z" level=warning msg="Your kernel does not support cgroup blkio weight"
time="2026-01-01T00:00:00Z" level=warning msg="could not use snapshotter devmapper" error="devmapper not configured"
time="2026-01-01T00:00:00Z" level=debug msg="found 0 orphan layers"
time="2026-01-01T00:00:00.5Z" level=info msg="Docker daemon" commit=5d6db84 graphdriver(s)=overlay2 version=20.10.24+dfsg1
"""


def test_a_line_is_taken_apart() -> None:
    line = 'time="T" level=error msg="it said \\"no\\"\\tand left" error="a b" graphdriver(s)=overlay2'
    [record] = parse_log(line)
    assert record == LogRecord("error", 'it said "no"\tand left', (("error", "a b"), ("graphdriver(s)", "overlay2")))
    assert str(record) == 'error: it said "no"\tand left error=a b graphdriver(s)=overlay2'


def test_a_line_of_another_form_is_grave() -> None:
    assert parse_log("panic: image store\n\n") == (LogRecord("fatal", "panic: image store"),)
    assert len(complaints(parse_log("panic: image store"))) == 1


@pytest.mark.parametrize("line", [LOST, QUIETLY_LOST])
def test_a_lost_image_is_a_complaint(line: str) -> None:
    assert len(complaints(parse_log(HARMLESS + line))) == 1


def test_an_ordinary_start_has_no_complaints() -> None:
    assert complaints(parse_log(HARMLESS)) == ()


@dataclass(frozen=True, slots=True)
class Store:
    """A store with one image of two layers, and where its parts are."""

    root: Path

    @property
    def base(self) -> Path:
        [layer] = [layer for layer in self.layers if not (layer / "parent").exists()]
        return layer

    @property
    def layers(self) -> list[Path]:
        return list((self.root / "image/overlay2/layerdb/sha256").iterdir())

    @property
    def base_cache(self) -> Path:
        return self.root / "overlay2" / (self.base / "cache-id").read_text()

    @property
    def config(self) -> Path:
        [config] = (self.root / "image/overlay2/imagedb/content/sha256").iterdir()
        return config


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, served: ServedImages) -> Path:
    root = tmp_path_factory.mktemp("pristine") / "docker"
    with DockerEngine(root) as engine:
        engine.pull(served.by_digest(SUPERVISOR))
        engine.tag(served.by_digest(SUPERVISOR), "supervisor:1")
    return root


LOSSES: dict[str, Callable[[Store], None]] = {
    "size": lambda store: (store.base / "size").unlink(),
    "a newline behind size": lambda store: append(store.base / "size", b"\n"),
    "diff-id": lambda store: (store.base / "diff").unlink(),
    "cache-id": lambda store: (store.base / "cache-id").unlink(),
    "the layer's entry": lambda store: shutil.rmtree(store.base),
    "a changed config": lambda store: append(store.config, b"\n"),
}


@pytest.mark.engine
@pytest.mark.parametrize("loss", LOSSES)
def test_an_engine_that_passes_an_image_over_says_so(loss: str, pristine: Path, tmp_path: Path) -> None:
    root = copy_of(pristine, tmp_path)
    LOSSES[loss](Store(root))
    with DockerEngine(root, offline=True) as engine:
        assert engine.images() == ()
    assert any("image" in complaint.message for complaint in engine.complaints())


@pytest.mark.engine
def test_an_engine_finds_some_damage_only_when_it_saves(pristine: Path, tmp_path: Path) -> None:
    root = copy_of(pristine, tmp_path)
    (Store(root).base / "tar-split.json.gz").unlink()
    with DockerEngine(root, offline=True) as engine:
        assert engine.run("supervisor:1") == IMAGE_OUTPUT[SUPERVISOR]
        assert engine.complaints() == ()
        with pytest.raises(ToolError, match=r"tar-split\.json\.gz: no such file"):
            engine.save(tmp_path / "saved.tar", "supervisor:1")
        assert len(engine.complaints()) == 1


@pytest.mark.engine
def test_an_engine_says_nothing_of_a_lost_cache_directory_until_it_is_used(pristine: Path, tmp_path: Path) -> None:
    root = copy_of(pristine, tmp_path)
    shutil.rmtree(Store(root).base_cache)
    with DockerEngine(root, offline=True) as engine:
        assert len(engine.images()) == 2
        assert engine.complaints() == ()
        with pytest.raises(ToolError, match="no such file"):
            engine.run("supervisor:1")


def copy_of(pristine: Path, directory: Path) -> Path:
    """A copy with links and devices; the engine's socket directory is not part of a data root."""
    shutil.copytree(pristine, directory / "docker", symlinks=True, ignore=shutil.ignore_patterns("backingFsBlockDev"))
    return directory / "docker"
