"""Reads a finished store back and proves it, byte for byte, changing nothing."""

from .filesystem import check_file_system
from .finding import CODES, Finding, ImageVerdict, Report, Severity
from .store import verify_store

__all__ = ["CODES", "Finding", "ImageVerdict", "Report", "Severity", "check_file_system", "verify_store"]
