"""The errors that drypoint raises.

One tree, rooted in :class:`DrypointError`. A class has the exit code of the command line; the message says what failed, on
which object, what was expected and found, and the next step. Messages are whole sentences without a final
newline and never contain a credential.
"""

from __future__ import annotations

from pathlib import Path


class DrypointError(Exception):
    """The base class of all errors of drypoint."""

    exit_code = 1


class UsageError(DrypointError):
    """The request is malformed or contradicts itself."""

    exit_code = 2


class InvalidReferenceError(UsageError):
    """A text is not an image reference."""

    exit_code = 2


class SourceError(DrypointError):
    """A source does not provide an image."""

    exit_code = 10


class ImageNotFoundError(SourceError):
    """The source does not have the image, or not for the requested platform."""

    exit_code = 11


class AuthenticationError(SourceError):
    """The registry requires other credentials."""

    exit_code = 12


class TransferError(SourceError):
    """The network or the registry failed, after all retries."""

    exit_code = 13


class ContentError(DrypointError):
    """Content from a source is damaged or malformed."""

    exit_code = 20


class DigestMismatchError(ContentError):
    """Content does not hash to the digest that names it."""

    exit_code = 21


class ManifestError(ContentError):
    """A manifest, index or config is malformed, oversized or of an unsupported kind."""

    exit_code = 22


class LayerError(ContentError):
    """A layer cannot be decompressed, is not a tar archive, or has an entry that the engine would refuse."""

    exit_code = 23


class StoreError(DrypointError):
    """The engine's store on the disk image is damaged, or the images cannot be added to it."""

    exit_code = 30


class DiskImageError(DrypointError):
    """The disk image, its partition table or a partition is damaged or unsuitable for the job."""

    exit_code = 40


class PartitionTableError(DiskImageError):
    """The partition table is missing, inconsistent or of an unsupported kind."""

    exit_code = 41


class FilesystemError(DiskImageError):
    """A file system is damaged, of an unsupported kind, or refuses an operation."""

    exit_code = 42


class NoSpaceError(DiskImageError):
    """A file system is full: no free block, or no free inode."""

    exit_code = 43


class OutputError(DrypointError):
    """The output cannot be written.

    Attributes:
        full: the directory whose file system is full, if that is the reason and the message says so.
    """

    exit_code = 50
    full: Path | None = None


class ToolError(DrypointError):
    """A program that the job needs is missing or failed."""

    exit_code = 51


class ResourceError(DrypointError):
    """The machine has no memory left, or starts no more threads."""

    exit_code = 52


class VerificationError(DrypointError):
    """The verification of a finished disk image failed."""

    exit_code = 60
