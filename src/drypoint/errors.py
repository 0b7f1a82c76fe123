"""Everything drypoint raises on purpose.

One tree, rooted in :class:`DrypointError`. A class owns the exit code of the command line; the message owns the story: what
failed, on which object, what was expected and found, and the next step. Messages are whole sentences without a final
newline and never contain a credential.
"""

from __future__ import annotations


class DrypointError(Exception):
    """Base of every error that drypoint raises on purpose."""

    exit_code = 1


class UsageError(DrypointError):
    """The caller asked for something that cannot be meant."""

    exit_code = 2


class InvalidReferenceError(UsageError):
    """A text is not an image reference."""

    exit_code = 2


class SourceError(DrypointError):
    """An image could not be had from where it should be."""

    exit_code = 10


class ImageNotFoundError(SourceError):
    """The source does not hold the image, or not for the wanted platform."""

    exit_code = 11


class AuthenticationError(SourceError):
    """The registry wants other credentials than the ones at hand."""

    exit_code = 12


class TransferError(SourceError):
    """The network or the registry failed, and trying again did not help."""

    exit_code = 13


class ContentError(DrypointError):
    """Bytes from a source are not what they claim to be."""

    exit_code = 20


class DigestMismatchError(ContentError):
    """Content does not hash to the digest that names it."""

    exit_code = 21


class ManifestError(ContentError):
    """A manifest, index or config is malformed, oversized or of a kind that is not supported."""

    exit_code = 22


class LayerError(ContentError):
    """A layer cannot be decompressed, is not a tar archive, or holds an entry that the engine would refuse."""

    exit_code = 23


class StoreError(DrypointError):
    """The engine's store on the disk image is damaged, or cannot take what is to be added."""

    exit_code = 30


class DiskImageError(DrypointError):
    """The disk image, its partition table or a partition is not what the job needs."""

    exit_code = 40


class PartitionTableError(DiskImageError):
    """The partition table is missing, inconsistent or of a kind that is not supported."""

    exit_code = 41


class FilesystemError(DiskImageError):
    """A file system is damaged, of an unsupported kind, or refuses an operation."""

    exit_code = 42


class NoSpaceError(DiskImageError):
    """A file system is full: no free block, or no free inode."""

    exit_code = 43


class OutputError(DrypointError):
    """The result cannot be written where it should go."""

    exit_code = 50


class ToolError(DrypointError):
    """A program that the job needs is missing or failed."""

    exit_code = 51


class VerificationError(DrypointError):
    """A finished disk image does not hold what it should."""

    exit_code = 60
