"""Where images come from: a registry, an OCI layout, a docker archive."""

from .protocols import BlobSource, ImageSource

__all__ = ["BlobSource", "ImageSource"]
