"""How a registry is to be reached: everything a caller may choose."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...http.options import HttpOptions
from .auth import TokenProvider
from .credentials import CredentialStore, DockerConfigStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions(HttpOptions):
    """Options of registries; the defaults do what ``docker pull`` does on this machine.

    Attributes:
        credentials: where user names and passwords come from.
        token_provider: asked for bearer tokens before the common dialogue.
    """

    credentials: CredentialStore = field(default_factory=DockerConfigStore)
    token_provider: TokenProvider | None = None
