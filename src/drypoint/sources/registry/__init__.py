"""The client for OCI and Docker registries: auth as a generator, transfers that resume."""

from ...http.retry import RetryPolicy
from .auth import TokenProvider
from .credentials import Credentials, CredentialStore, DockerConfigStore, StaticCredentials
from .options import RegistryOptions
from .source import RegistrySource

__all__ = [
    "CredentialStore",
    "Credentials",
    "DockerConfigStore",
    "RegistryOptions",
    "RegistrySource",
    "RetryPolicy",
    "StaticCredentials",
    "TokenProvider",
]
