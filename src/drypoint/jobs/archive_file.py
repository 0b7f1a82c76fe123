"""Writing an archive to a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..concurrency.stage import Write
from ..disk.host.output import whole_file
from ..errors import OutputError


@contextmanager
def archive_file(
    path: Path, *, overwrite: bool = False, base: Path | None = None, secrets: tuple[Path, ...] = ()
) -> Iterator[Write]:
    """Yield a function that writes to the file *path*, which appears when the block succeeds.

    Args:
        overwrite: whether an existing file may be replaced.
        base: the base, if it is a file: the archive must not replace it.
        secrets: files whose content goes into it, as in :class:`~drypoint.Destination`.

    Raises:
        OutputError: the file cannot be written, or exists.
    """
    inputs = (base,) if base is not None and base.exists() else ()
    with (
        whole_file(path, overwrite=overwrite, inputs=inputs, secrets=secrets) as part,
        part.path.open("wb", buffering=0) as file,
    ):
        yield writer(file.fileno(), str(path))


def writer(fd: int, name: str) -> Write:
    """A function that writes all of each piece to *fd*, called *name* in messages.

    Raises:
        OutputError: from that function: it cannot be written.
    """

    def write(data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(fd, view) :]
        except OSError as error:
            raise OutputError(f"cannot write {name}: {error.strerror}") from error

    return write
