"""Reads a finished disk image back and proves it, byte for byte, changing nothing."""

from .filesystem import check_file_system
from .finding import CODES, Finding, ImageVerdict, Report, Severity
from .image import verify
from .store import verify_store

__all__ = ["CODES", "Finding", "ImageVerdict", "Report", "Severity", "check_file_system", "verify", "verify_store"]
