"""The version of drypoint."""

__version__ = "0.1.0"
