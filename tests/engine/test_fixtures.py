"""The judges themselves: that they start, work, and leave nothing behind whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
import urllib3

from drypoint.errors import ToolError
from drypoint.samples.applications import sample_images
from drypoint.samples.images import registry_content
from drypoint.samples.registry import RegistryContent
from drypoint.samples.tools import run_tool
from tests.support import docker_engine, docker_registry, mounts
from tests.support.docker_engine import DockerEngine
from tests.support.docker_registry import PASSWORD, USER, DockerRegistry
from tests.support.mounts import leftovers, mounted
from tests.support.userland import ALPHA, BETA, IMAGE_OUTPUT, SUPERVISOR

from .conftest import ServedImages

pytestmark = [pytest.mark.engine]


def test_an_engine_leaves_nothing(tmp_path: Path, served: ServedImages) -> None:
    with DockerEngine(tmp_path / "docker") as engine:
        assert engine.version
        engine.pull(served.by_digest(SUPERVISOR))
        arguments = ("--detach", "--network=none", "--stop-timeout=1")
        engine.docker("run", *arguments, served.by_digest(SUPERVISOR), "/bin/sh", "-c", "while :; do :; done")
        assert any("drypoint-engine" in line for line in leftovers(tmp_path))
    assert "Daemon has completed initialization" in engine.log()
    assert engine.complaints() == ()
    assert left_in(tmp_path) == []


def test_an_engine_leaves_nothing_when_the_body_raises(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        with DockerEngine(tmp_path / "docker"):
            raise KeyboardInterrupt
    assert left_in(tmp_path) == []


def test_an_engine_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_engine, "STOP_SECONDS", 1.0)
    with DockerEngine(tmp_path / "docker"):
        [daemon] = [pid for pid, command in processes(str(tmp_path)) if command.startswith("dockerd")]
        run_tool("kill", "-STOP", str(daemon))
    assert left_in(tmp_path) == []


def test_an_engine_dies_with_its_caller(tmp_path: Path) -> None:
    program = """
        import os, signal, sys
        from pathlib import Path
        from tests.support.docker_engine import DockerEngine
        with DockerEngine(Path(sys.argv[1])):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    # A caller that is killed cannot tidy up its own directory; the name stays short, for the engine's sockets.
    with tempfile.TemporaryDirectory() as temporary:
        environment = {**os.environ, "TMPDIR": temporary}
        command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "docker")]
        done = subprocess.run(command, env=environment, check=False)
    assert done.returncode == -9
    deadline = time.monotonic() + 10
    while processes(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_in(tmp_path) == []


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "overlay2").write_text("in the way")
    with pytest.raises(ToolError, match=r"dockerd ended while it started(.|\n)*not a directory"):
        with DockerEngine(tmp_path / "docker"):
            pytest.fail("it started")
    assert left_in(tmp_path) == []


def test_an_engine_pulls_lists_and_runs(tmp_path: Path, served: ServedImages) -> None:
    with DockerEngine(tmp_path / "docker") as engine:
        engine.pull(served.by_tag(ALPHA))
        engine.pull(served.by_tag(BETA))
        engine.pull(served.by_digest(SUPERVISOR))
        engine.tag(served.by_digest(SUPERVISOR), "balena_supervisor:v1")

        listed = {(image.repository, image.tag): image for image in engine.images()}
        alpha = listed[f"{served.registry.address}/apps/alpha", "1.0"]
        assert (alpha.digest, alpha.image_id) == (served.images[ALPHA].digest, served.images[ALPHA].image_id)
        untagged = listed[f"{served.registry.address}/balena/supervisor", None]
        assert untagged.digest == served.images[SUPERVISOR].digest
        assert listed["balena_supervisor", "v1"].image_id == untagged.image_id
        assert engine.inspect(served.by_tag(BETA))["Id"] == served.images[BETA].image_id

        for name, reference in (
            (ALPHA, served.by_tag(ALPHA)),
            (BETA, served.by_tag(BETA)),
            (SUPERVISOR, "balena_supervisor:v1"),
        ):
            assert engine.run(reference) == IMAGE_OUTPUT[name]
        assert engine.run("balena_supervisor:v1", "/bin/sh", "-c", "echo $X", arguments=("--env=X=1",)) == "1\n"
    assert engine.complaints() == ()


def test_an_engine_saves_loads_and_removes(tmp_path: Path, served: ServedImages) -> None:
    reference = served.by_digest(SUPERVISOR)
    archive = tmp_path / "saved.tar"
    with DockerEngine(tmp_path / "docker") as engine:
        engine.pull(reference)
        engine.tag(reference, "supervisor:1")
        engine.save(archive, "supervisor:1")
        engine.remove_image("supervisor:1")
        assert [image.tag for image in engine.images()] == [None]
        engine.prune()
        assert engine.images() == ()
        engine.load(archive)
        assert engine.run("supervisor:1") == IMAGE_OUTPUT[SUPERVISOR]
    with tarfile.open(archive) as saved:
        assert any(name.endswith("manifest.json") for name in saved.getnames())


def test_an_engine_runs_from_another_root(tmp_path: Path, served: ServedImages) -> None:
    root = tmp_path / "root"
    root.mkdir()
    # The host's own system, without what is mounted in it, is a system like one made by debootstrap.
    run_tool("mount", "--bind", "/", root)
    try:
        with DockerEngine(tmp_path / "docker", root=root) as engine:
            engine.pull(served.by_digest(SUPERVISOR))
            assert engine.run(served.by_digest(SUPERVISOR)) == IMAGE_OUTPUT[SUPERVISOR]
            assert (tmp_path / "docker/image/overlay2/repositories.json").exists()
            assert "--data-root=/mnt/data" in "".join(command for _, command in processes("dockerd --data-root=/mnt"))
    finally:
        run_tool("umount", root)
    assert left_in(tmp_path) == []


def test_an_offline_engine_reaches_nothing(tmp_path: Path, served: ServedImages) -> None:
    with DockerEngine(tmp_path / "docker", offline=True) as engine:
        with pytest.raises(ToolError, match=r"network is unreachable|connection refused"):
            engine.pull(served.by_digest(SUPERVISOR))


def test_a_registry_asks_for_the_password() -> None:
    [(name, image)] = list(sample_images().items())[:1]
    with DockerRegistry(authenticated=True) as registry, urllib3.PoolManager() as client:
        registry.push(registry_content({name: image}))
        url = f"http://{registry.address}/v2/_catalog"
        assert client.request("GET", url).status == 401
        answer = client.request("GET", url, headers=urllib3.make_headers(basic_auth=f"{USER}:{PASSWORD}"))
        assert answer.status == 200
        assert name.partition("/")[2].partition(":")[0] in answer.data.decode()
    assert left_in(Path("/nonexistent")) == []


def test_a_registry_refuses_a_manifest_without_its_blobs() -> None:
    content = registry_content(dict(list(sample_images().items())[:1]))
    with DockerRegistry() as registry:
        with pytest.raises(ToolError, match=r"refused the manifest sha256:.*BLOB_UNKNOWN"):
            registry.push(RegistryContent({}, content.manifests))


def test_a_registry_takes_another_port_when_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with DockerRegistry() as first:
        taken = int(first.address.rpartition(":")[2])
        choose = docker_registry.free_port
        answers = iter([taken, choose()])
        monkeypatch.setattr(docker_registry, "free_port", lambda: next(answers))
        with DockerRegistry() as second:
            assert second.address != first.address
            assert "address already in use" in second.log()


def test_a_mount_is_written_and_gone(tmp_path: Path) -> None:
    image = make_file_system(tmp_path)
    with mounted(image, writable=True) as point:
        (point / "file").write_text("written")
        assert any(str(image) in line for line in leftovers(tmp_path))
    assert left_in(tmp_path) == []
    before = image.read_bytes()
    with mounted(image) as point:
        assert (point / "file").read_text() == "written"
        with pytest.raises(OSError, match="Read-only"):
            (point / "file").write_text("again")
    assert image.read_bytes() == before


def test_a_mount_is_gone_when_the_body_raises(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        with mounted(make_file_system(tmp_path)):
            raise KeyboardInterrupt
    assert left_in(tmp_path) == []


def test_a_mount_in_use_is_told_and_goes(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="target is busy"):
        with mounted(make_file_system(tmp_path), writable=True) as point:
            held = (point / "file").open("w")
    assert [line for line in leftovers(tmp_path) if line.startswith("mount")] == []
    held.close()
    deadline = time.monotonic() + 10
    while left_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_in(tmp_path) == []


def test_leftovers_are_found(tmp_path: Path) -> None:
    image = make_file_system(tmp_path)
    point = tmp_path / "point"
    point.mkdir()
    sleeper = subprocess.Popen(["sleep", "60"], executable="/bin/sleep", cwd=tmp_path)
    marked = subprocess.Popen(["/usr/bin/tail", "-f", image], stdout=subprocess.DEVNULL)
    temporary = Path(tempfile.mkdtemp(prefix=f"drypoint-mount-{os.getpid()}-"))
    run_tool("mount", "-o", "loop", image, point)
    try:
        found = leftovers(tmp_path)
        assert any(line.startswith(f"mount on {point}") for line in found)
        assert any(line.startswith("loop device") and str(image) in line for line in found)
        assert any(line.startswith(f"process {marked.pid}") for line in found)
        assert any(str(temporary) in line for line in found)
        assert not any(str(sleeper.pid) in line for line in found), "no mark of ours, no word about it"
    finally:
        run_tool("umount", point)
        temporary.rmdir()
        for process in (sleeper, marked):
            process.kill()
            process.wait()
    assert left_in(tmp_path) == []


def make_file_system(directory: Path) -> Path:
    image = directory / "file-system.img"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    run_tool("mkfs.ext4", "-q", "-F", image)
    return image


def left_in(directory: Path) -> list[str]:
    """What is left, without the registry that the whole session shares."""
    return [line for line in leftovers(directory) if "drypoint-registry-" not in line]


def processes(marker: str) -> list[tuple[int, str]]:
    return [(pid, command.decode()) for pid, command in mounts._foreign_processes([marker.encode()])]
