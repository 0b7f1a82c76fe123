"""The version, which registries are told and archives note."""

__version__ = "0.1.0"
