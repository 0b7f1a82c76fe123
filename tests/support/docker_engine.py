"""A real Docker engine on a data root of the caller, started and stopped without leftovers.

The engine runs in mount and process namespaces of its own. Its mounts (overlays, network namespaces, bind mounts) are invisible
outside, and when the first process of the namespace ends, in any way, the kernel ends containerd, its shims and the containers.
If the caller is killed, the engine ends too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.support.engine_log import LogRecord, complaints, parse_log
from tests.support.mounts import parent_of

from drypoint.digest import Digest
from drypoint.errors import ToolError
from drypoint.samples.tools import find_tool, run_tool, tool_environment

_READY_SECONDS = 60.0
STOP_SECONDS = 20.0
_POLL_SECONDS = 0.02
_CGROUPS = Path("/sys/fs/cgroup")

_START_ON_HOST = """
set -e
data=$1
shift
while read -r _ point _; do
    case $point in
        */drypoint-mount-*) case $data/ in "$point"/*) ;; *) umount --lazy "$point" ;; esac ;;
    esac
done </proc/self/mounts
mkdir -p /run/containerd /etc/docker
mount -t tmpfs tmpfs /run/containerd
mount -t tmpfs tmpfs /etc/docker
exec dockerd "$@"
"""
"""Shims keep their sockets under /run/containerd and old engines a key under /etc/docker: neither is left on the host. Disk
images that other tests have mounted are unmounted here: otherwise they could not be unmounted there."""

_START_IN_ROOT = """
set -e
root=$1 data=$2 runtime=$3
shift 3
mkdir -p "$root/etc/docker"
mount --bind "$root" "$root"
mount -t tmpfs tmpfs "$root/etc/docker"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/mnt"
mkdir "$root/mnt/data" "$root/mnt/runtime" "$root/mnt/host"
mount --bind "$data" "$root/mnt/data"
mount --bind "$runtime" "$root/mnt/runtime"
cd "$root"
pivot_root . mnt/host
umount --lazy /mnt/host
mount -o remount,bind,ro /
exec dockerd "$@"
"""
"""pivot_root, not chroot: runc changes the propagation of /, which must be a mount for that. All engines of a root share it, so
it is read-only."""


@dataclass(frozen=True, slots=True)
class EngineImage:
    """One line of ``docker images --digests --no-trunc``; ``<none>`` is None."""

    repository: str | None
    tag: str | None
    digest: Digest | None
    image_id: Digest


class DockerEngine:
    """A running dockerd, as a context manager.

    Args:
        data_root: the engine's data root; created if missing.
        root: a directory with a whole Debian system (made by debootstrap) whose dockerd runs in place of the host's. The
            client is always the host's.
        offline: run the engine without a network, not even loopback. It still answers on its socket.
        driver: the configured graph driver; None lets the engine choose by what it finds.
        config: more keys of daemon.json.
        pigz: let the engine inflate with unpigz, if that is installed, as it does by itself.

    The caller's thread must outlive the engine: the kernel stops the engine when the thread that started it ends.

    Raises:
        ToolError: a program is missing, the engine does not come up within a minute, or a client call fails.
    """

    def __init__(
        self,
        data_root: Path,
        *,
        root: Path | None = None,
        offline: bool = False,
        pigz: bool = False,
        driver: str | None = "overlay2",
        config: Mapping[str, object] | None = None,
    ) -> None:
        self._data_root = data_root.absolute()
        self._root = root.absolute() if root else None
        self._offline = offline
        self._pigz = pigz
        self._driver = driver
        self._config = {"features": {"containerd-snapshotter": False}, **(config or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()
        self._runtime = Path()
        self._log = ""

    def __enter__(self) -> DockerEngine:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        if not self._data_root.is_symlink():
            self._data_root.mkdir(parents=True, exist_ok=True)
        # A short path: the name of a Unix socket may have at most 107 bytes.
        self._runtime = Path(tempfile.mkdtemp(prefix=f"drypoint-engine-{os.getpid()}-"))
        self._stack.callback(shutil.rmtree, self._runtime, ignore_errors=True)
        self._stack.callback(_remove_cgroups, self._runtime.name)
        # drypoint writes the store of graph drivers, which is no longer the default from 29 on.
        (self._runtime / "daemon.json").write_text(json.dumps(self._config))
        with (self._runtime / "log").open("wb") as log:
            self._process = self._spawn(log)
        self._wait_until_ready()

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        inside, data = self._runtime, self._data_root
        script, script_arguments = _START_ON_HOST, [str(self._data_root)]
        if self._root:
            inside, data = Path("/mnt/runtime"), Path("/mnt/data")
            script, script_arguments = _START_IN_ROOT, [str(self._root), str(self._data_root), str(self._runtime)]
        else:
            find_tool("dockerd")
        unshare = [find_tool("unshare"), "--mount", "--propagation", "private", "--pid", "--mount-proc", "--kill-child"]
        if self._offline:
            unshare.append("--net")
        daemon = [
            f"--data-root={data}",
            f"--exec-root={inside}/exec",
            f"--pidfile={inside}/pid",
            f"--host=unix://{inside}/socket",
            f"--config-file={inside}/daemon.json",
            f"--cgroup-parent=/{self._runtime.name}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            *([f"--storage-driver={self._driver}"] if self._driver else []),
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            # Why a layer is ignored is only logged at this level.
            "--log-level=debug",
        ]
        return subprocess.Popen(
            [find_tool("setpriv"), "--pdeathsig=KILL", *unshare, "sh", "-c", script, "sh", *script_arguments, *daemon],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # If unpigz is installed, the engine inflates with it, and the end of tar-split then depends on how its output
            # is cut: whether an empty last segment is recorded.
            env=tool_environment({} if self._pigz else {"MOBY_DISABLE_PIGZ": "true"}),
            start_new_session=True,
        )

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _READY_SECONDS
        while not _answers(self._runtime / "socket"):
            if self._process.poll() is not None:
                raise ToolError(f"dockerd ended while it started; the end of its log:\n{self.log()[-3000:]}")
            if time.monotonic() > deadline:
                raise ToolError(
                    f"dockerd did not answer within {_READY_SECONDS:g} s; the end of its log:\n{self.log()[-3000:]}"
                )
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop the engine as an init system does, and kill it if that takes too long. Further calls do nothing."""
        with self._stack:
            if self._process is not None:
                self._stop_process(self._process)
                self._process = None
                self._log = self._read_log()

    def _stop_process(self, process: subprocess.Popen[bytes]) -> None:
        try:
            for child in _children(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # It did not end by itself; what follows ends the whole process namespace.
            return
        finally:
            process.kill()
            process.wait()
            _wait_for_namespace(process.pid, self._runtime)

    @property
    def data_root(self) -> Path:
        return self._data_root

    def log(self) -> str:
        """The engine's log since its start; also available after its end."""
        return self._log if self._process is None else self._read_log()

    def _read_log(self) -> str:
        return (self._runtime / "log").read_text(errors="replace")

    def complaints(self) -> tuple[LogRecord, ...]:
        """The log lines about images, layers or store entries that are ignored or damaged."""
        return complaints(parse_log(self.log()))

    def docker(self, *arguments: str, timeout: float = 300.0) -> str:
        """Run ``docker ARGUMENTS`` against this engine and return its standard output.

        Raises:
            ToolError: the call failed.
        """
        return run_tool(
            "docker",
            f"--host=unix://{self._runtime}/socket",
            *arguments,
            extra_environment={"DOCKER_CONFIG": str(self._runtime / "client"), "DOCKER_CONTENT_TRUST": "0"},
            timeout=timeout,
        )

    @property
    def version(self) -> str:
        """The engine's version, for example ``20.10.24+dfsg1``."""
        return self.docker("version", "--format", "{{.Server.Version}}").strip()

    def pull(self, reference: str) -> None:
        self.docker("pull", "--quiet", reference)

    def tag(self, image: str, name: str) -> None:
        self.docker("tag", image, name)

    def images(self) -> tuple[EngineImage, ...]:
        """The output of ``docker images --digests``, in its order."""
        lines = self.docker("images", "--digests", "--no-trunc", "--format", "{{json .}}").splitlines()
        return tuple(_parse_image(line) for line in lines)

    def run(self, image: str, *command: str, arguments: tuple[str, ...] = (), timeout: float = 60.0) -> str:
        """Run *command* (default: the image's own) in a new container without network; returns its standard output.

        *arguments* go to ``docker run`` itself. The container is removed afterwards.
        """
        return self.docker("run", "--rm", "--network=none", *arguments, image, *command, timeout=timeout)

    def save(self, output: Path, *images: str) -> None:
        """Write the archive of ``docker save IMAGES`` to *output*."""
        self.docker("save", f"--output={output}", *images)

    def load(self, archive: Path) -> None:
        self.docker("load", f"--input={archive}")

    def inspect(self, image: str) -> dict[str, object]:
        """The object of ``docker image inspect`` for *image*."""
        found = json.loads(self.docker("image", "inspect", image))
        if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict):
            raise ToolError(f"docker image inspect {image} gave something other than one object")
        return {str(key): value for key, value in found[0].items()}

    def remove_image(self, *images: str) -> None:
        self.docker("rmi", *images)

    def prune(self) -> None:
        """``docker system prune --all``: remove everything that no container uses."""
        self.docker("system", "prune", "--all", "--force")


def _parse_image(line: str) -> EngineImage:
    fields: dict[str, str] = json.loads(line)
    shown = {key: None if value == "<none>" else value for key, value in fields.items()}
    digest = shown["Digest"]
    return EngineImage(shown["Repository"], shown["Tag"], Digest(digest) if digest else None, Digest(fields["ID"]))


def _answers(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5.0)
        try:
            connection.connect(str(address))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return b" 200 " in connection.recv(100)
        except OSError:
            return False


def _children(parent: int) -> list[int]:
    pids = [int(directory.name) for directory in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if parent_of(pid) == parent]


def _wait_for_namespace(unshare_pid: int, runtime: Path) -> None:
    """Wait until no process has this engine's runtime directory in its command line."""
    marker = str(runtime).encode()
    deadline = time.monotonic() + STOP_SECONDS
    while survivors := [pid for pid in _processes_with(marker) if pid not in (os.getpid(), unshare_pid)]:
        if time.monotonic() > deadline:
            raise ToolError(f"processes of the engine in {runtime} do not end: {survivors}")
        time.sleep(_POLL_SECONDS)


def _processes_with(marker: bytes) -> list[int]:
    found: list[int] = []
    for command_line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if marker in command_line.read_bytes():
                found.append(int(command_line.parent.name))
    return found


def _remove_cgroups(name: str) -> None:
    """Remove the control groups of one engine's containers, deepest first; they have no processes any more."""
    for top in (*_CGROUPS.glob(name), *_CGROUPS.glob(f"*/{name}")):
        for directory, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                Path(directory).rmdir()
