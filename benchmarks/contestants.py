"""The contestants, each a program of its own, so that its CPU time and memory can be measured.

    contestants.py engine BASE OUT BYTES REFERENCE...             as balena preload does it, without its container build
    contestants.py one-hash ARGUMENT...                           drypoint, but blobs are not hashed, only the tars in them
    contestants.py skopeo DIRECTORY REFERENCE...                  only fetches and checks, without decompressing
    contestants.py podman DIRECTORY REFERENCE...                  into an empty store on the host
    contestants.py floor OUT BLOBS...                             C programs only: URL,BLOB,TAR for each layer
    contestants.py copy BASE OUT                                  the base copied and flushed: a part of all others

All but the first are for reference.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_SECTOR = 512


def engine(base: str, out: str, more: str, *references: str) -> None:
    """Grow by *more* bytes, mount, let the engine pull all images at once, stop, unmount, flush."""
    # Imported late, so that it does not count for the other contestants.
    from tests.support.docker_engine import DockerEngine
    from tests.support.mounts import mounted

    image = Path(out)
    _copy(base, out)
    offset, size = _grow(image, int(more))
    with mounted(image, offset=offset, size=size, writable=True) as point:
        with DockerEngine(point / "docker", pigz=True) as docker, ThreadPoolExecutor() as threads:
            for done in [threads.submit(docker.pull, reference) for reference in references]:
                done.result()
    _flush(image)


def one_hash(*arguments: str) -> None:
    """drypoint without hashing blobs, to see what that costs: docs/adr/0009-both-hashes.md. There is no option for it."""
    from drypoint.cli.app import run
    from drypoint.digest import Digest
    from drypoint.layers import pipeline, verify

    hashed = verify.verified

    def tars_only(chunks: Iterator[bytes], digest: Digest, what: str, size: int | None = None) -> Iterator[bytes]:
        return hashed(chunks, digest, what) if size is None else chunks

    vars(pipeline)["verified"] = tars_only
    run(list(arguments))


def skopeo(directory: str, *references: str) -> None:
    """Copy the images to directories, all at once."""
    copies = [
        subprocess.Popen(
            [
                "skopeo",
                "copy",
                "--quiet",
                "--src-tls-verify=false",
                f"docker://{reference}",
                f"dir:{directory}/{number}",
            ]
        )
        for number, reference in enumerate(references)
    ]
    _all_end_well(copies)


def podman(directory: str, *references: str) -> None:
    """Pull the images, all at once, into a store that did not exist."""
    store = ["--root", f"{directory}/root", "--runroot", f"{directory}/run", "--storage-driver", "overlay"]
    _all_end_well(
        [
            subprocess.Popen(
                ["podman", *store, "pull", "--quiet", "--tls-verify=false", *references], stdout=subprocess.DEVNULL
            )
        ]
    )
    # The store's own mount, which would prevent the removal of the directory.
    subprocess.run(["umount", f"{directory}/root/overlay"], stderr=subprocess.DEVNULL, check=False)


def floor(out: str, *layers: str) -> None:
    """Fetch, inflate and write on one processor, hash blobs and tars on the other: the least work for two processors."""
    told = [layer.split(",") for layer in layers]
    fetch = "; ".join(f"curl -sS {url} | igzip -dc >> {out}" for url, _, _ in told)
    hashed = " ".join(path for _, *paths in told for path in paths)
    _run("/bin/sh", "-ec", f"({fetch}) & openssl dgst -sha256 {hashed} > /dev/null; wait")
    _flush(Path(out))


def copy(base: str, out: str) -> None:
    """Copy the base, as every contestant that does not change it must."""
    _copy(base, out)
    _flush(Path(out))


def _copy(base: str, out: str) -> None:
    _run("cp", "--sparse=always", "--reflink=auto", base, out)


def _grow(image: Path, more: int) -> tuple[int, int]:
    """Make the data partition, the last one, *more* bytes larger; its offset and size."""
    lines = _said("sfdisk", "--dump", str(image)).splitlines()
    last = next(line for line in reversed(lines) if "start=" in line)
    start = int(last.partition("start=")[2].split(",")[0])
    size = int(last.partition("size=")[2].split(",")[0])
    added = more // (4 << 20) * (4 << 20) + (64 << 20)
    os.truncate(image, image.stat().st_size + added)
    number = last.split(":")[0].removeprefix(str(image)).strip()
    extended = next((line for line in lines if "type=f" in line or "type=5" in line), None)
    if extended is not None:
        _run(
            "sfdisk",
            "--quiet",
            "--no-reread",
            "-N",
            extended.split(":")[0].removeprefix(str(image)).strip(),
            str(image),
            stdin=", +\n",
        )
    _run("sfdisk", "--quiet", "--no-reread", "-N", number, str(image), stdin=", +\n")
    size += added // _SECTOR
    loop = _said(
        "losetup", "--find", "--show", "--offset", str(start * _SECTOR), "--sizelimit", str(size * _SECTOR), str(image)
    ).strip()
    try:
        _run("e2fsck", "-f", "-p", loop)
        _run("resize2fs", loop)
    finally:
        _run("losetup", "--detach", loop)
    return start * _SECTOR, size * _SECTOR


def _run(*command: str, stdin: str = "") -> None:
    subprocess.run(command, input=stdin, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _all_end_well(processes: list[subprocess.Popen[bytes]]) -> None:
    statuses = [process.wait() for process in processes]
    if any(statuses):
        raise SystemExit("a program of the contest failed")


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


_CONTESTANTS: dict[str, Callable[..., None]] = {
    "engine": engine,
    "one-hash": one_hash,
    "skopeo": skopeo,
    "podman": podman,
    "floor": floor,
    "copy": copy,
}


def missing_programs() -> list[str]:
    """The missing Debian packages, of skopeo, podman, isal, curl and openssl."""
    wanted = ("skopeo", "podman", "igzip", "curl", "openssl", "sfdisk", "resize2fs", "dockerd", "docker-registry")
    return [name for name in wanted if shutil.which(name) is None]


if __name__ == "__main__":
    _CONTESTANTS[sys.argv[1]](*sys.argv[2:])
