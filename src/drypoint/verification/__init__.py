"""Read a finished disk image back and verify it, byte for byte, without changing it."""

from ..concurrency.checks import checkers
from .container import Container, FindContainer
from .demand import Demand, DemandReader, Wish
from .filesystem import check_file_system
from .finding import CODES, FileSystemVerdict, Finding, ImageVerdict, Report, ServiceVerdict, finding
from .image import verify
from .kinds import KINDS, Kind, Severity
from .processes import LayerProcesses
from .store import unmet, verify_store

__all__ = [
    "CODES",
    "Container",
    "KINDS",
    "Demand",
    "DemandReader",
    "FileSystemVerdict",
    "FindContainer",
    "Finding",
    "ImageVerdict",
    "Kind",
    "LayerProcesses",
    "Report",
    "ServiceVerdict",
    "Severity",
    "Wish",
    "check_file_system",
    "checkers",
    "finding",
    "unmet",
    "verify",
    "verify_store",
]
