"""Read a finished disk image back and verify it, byte for byte, without changing it."""

from ..stores import Kind, Severity
from ..volumes.target import Container
from .container import FindContainer
from .filesystem import check_file_system
from .finding import CODES, FileSystemVerdict, Finding, ImageVerdict, Report, ServiceVerdict, finding
from .image import verify
from .kinds import KINDS
from .processes import LayerProcesses
from .required_images import RequiredImage, RequiredImages, RequiredImagesReader
from .store import missing_images, verify_store

__all__ = [
    "CODES",
    "Container",
    "KINDS",
    "RequiredImages",
    "RequiredImagesReader",
    "FileSystemVerdict",
    "FindContainer",
    "Finding",
    "ImageVerdict",
    "Kind",
    "LayerProcesses",
    "Report",
    "ServiceVerdict",
    "Severity",
    "RequiredImage",
    "check_file_system",
    "finding",
    "missing_images",
    "verify",
    "verify_store",
]
