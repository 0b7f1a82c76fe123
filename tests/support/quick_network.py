"""Options for registries on loopback: nothing of this machine is read, and faults are retried at once."""

from __future__ import annotations

from pathlib import Path

from drypoint.sources.registry import RegistryOptions, RetryPolicy, StaticCredentials

QUICK = RegistryOptions(
    credentials=StaticCredentials({}),
    certs_directory=Path("/nonexistent"),
    environment={},
    connect_timeout=5.0,
    read_timeout=5.0,
    retry=RetryPolicy(attempts=4, first_wait=0.001, longest_wait=0.01),
)
