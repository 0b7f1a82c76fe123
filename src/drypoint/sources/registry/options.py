"""Options for registries."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...http.options import HttpOptions
from .auth import TokenProvider
from .credentials import CredentialStore, DockerConfigStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions(HttpOptions):
    """Options for registries; the defaults are those of ``docker pull`` on this machine.

    Attributes:
        credentials: the store of user names and passwords.
        token_provider: provides bearer tokens before the common dialogue is used.
    """

    credentials: CredentialStore = field(default_factory=DockerConfigStore)
    token_provider: TokenProvider | None = None
