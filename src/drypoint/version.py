"""The version, as sent to registries and recorded in archives."""

__version__ = "0.1.0"
