"""TLS contexts: they trust the system's certificates, the user's, and those in docker's directory. Checks are never off.

Format: /etc/docker/certs.d/HOST[:PORT]/, where ``*.crt`` are certificate authorities and ``NAME.cert`` with ``NAME.key``
is a client's certificate ("Verify repository client with certificates" in Docker's documentation).
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import truststore

from ..errors import UsageError


def tls_context(domain: str, ca_files: Sequence[Path], certs_directory: Path) -> ssl.SSLContext:
    """The TLS context for the registry *domain* and the hosts that it redirects to.

    Raises:
        UsageError: a certificate cannot be read.
    """
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    directory = certs_directory / domain
    files = _listed(directory)
    for file in (*ca_files, *(file for file in files if file.suffix == ".crt")):
        try:
            context.load_verify_locations(cafile=str(file))
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"{file} is not a readable PEM file of certificates: {_why(error)}") from error
    for certificate in (file for file in files if file.suffix == ".cert"):
        key = certificate.with_suffix(".key")
        try:
            context.load_cert_chain(str(certificate), str(key), password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise UsageError(f"{certificate} and {key} are not a certificate and its key: {_why(error)}") from error
    return context


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"{directory} cannot be read: {error.strerror}") from error


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal.
    raise ValueError("the key is encrypted")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "no certificate in it"
    return error.strerror or "" if isinstance(error, OSError) else str(error)
