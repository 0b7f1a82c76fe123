"""Ext4 file systems for tests, made and checked by e2fsprogs."""

from __future__ import annotations

import re
from pathlib import Path

from drypoint.errors import VerificationError
from drypoint.samples.tools import run_tool

_EXPECTED = re.compile(r"Pass \d[A-Z]?: |.*: \d+/\d+ files \(\d+\.\d% non-contiguous\), \d+/\d+ blocks$")
_FIELD = re.compile(r"^([^:\n]+):\s+(.*)$", re.MULTILINE)
HASH_SEED = "6b0c4b40-9f38-4b5c-8c0f-1d6bb9a3e5d1"
UUID = "0f4ad4b1-4a4c-4f9e-9a57-2f4e3ad3c1b2"


def make_ext4(image: Path, size: int, *options: str, offset: int = 0, garbage: bool = False) -> Path:
    """Make *image*: *offset* empty bytes, then an ext4 file system of *size* bytes, deterministic.

    With *garbage*, blocks that mkfs does not write are not zero, as on a disk that was used before.
    """
    with open(image, "wb") as file:
        if garbage:
            file.write(b"\xa5" * (offset + size))
        file.truncate(offset + size)
    extended = ",".join([f"offset={offset}", f"hash_seed={HASH_SEED}", "root_owner=0:0"])
    run_tool(
        "mkfs.ext4", "-q", "-F", "-U", UUID, "-E", extended, *options, image, f"{size // 1024}k",
        extra_environment={"E2FSPROGS_FAKE_TIME": "1600000000"},
    )  # fmt: skip
    return image


def judge_ext4(image: Path, *, offset: int = 0) -> None:
    """Check the file system at *offset* of *image* with ``e2fsck -fn``.

    Raises:
        ToolError: it found errors; the message has its output.
        VerificationError: it succeeded, but printed something that it does not print for an undamaged file system.
    """
    output = run_tool("e2fsck", "-fn", f"{image}?offset={offset}", timeout=300)
    remarks = [line for line in output.splitlines() if line and not _EXPECTED.match(line)]
    if remarks:
        raise VerificationError(f"e2fsck says about {image} at {offset}: {remarks}")


def ask_dumpe2fs(image: Path, *, offset: int = 0) -> dict[str, str]:
    """The superblock's fields by dumpe2fs, with its names (``Free blocks``)."""
    return dict(_FIELD.findall(run_tool("dumpe2fs", "-h", f"{image}?offset={offset}")))


def ask_debugfs(image: Path, command: str, *, offset: int = 0) -> str:
    """The output of debugfs for *command*."""
    return run_tool("debugfs", "-R", command, f"{image}?offset={offset}")
