"""The conversion of urllib3's errors to drypoint's, with or without a retry."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from urllib3 import exceptions

from ..errors import TransferError
from .address import shown
from .connections import AddressRefusedError
from .retry import TransientError
from .zones import zone_of

_NO_SUCH_HOST = frozenset((socket.EAI_NONAME,))
_REFUSED_CERTIFICATE = frozenset(
    (
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "SSLV3_ALERT_NO_CERTIFICATE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE",
    )
)
"""OpenSSL's names of the alerts by which a server refuses, or misses, a client's certificate (RFC 8446, section 6.2; servers of
TLS 1.2 send handshake_failure for a missing one)."""


_NOT_TLS = frozenset(("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"))
"""OpenSSL's names for an answer that is not TLS, such as that of a server of plain http."""


class PlainHttpError(TransferError):
    """The server does not speak TLS; the caller adds the advice to the message."""


def failure_of(error: Exception, url: str, certificates: Path) -> TransferError | TransientError:
    """The error to raise for *error*, with which a request to *url* ended.

    Args:
        certificates: the directory for this registry's client certificates.
    """
    match error:
        case exceptions.SSLError() | ssl.SSLError():
            return _tls_failure(error, url, certificates)
        case AddressRefusedError():
            return address_failure(url, error.address)
        case exceptions.ProxyError():
            reason = _tls_reason(error.original_error)
            if isinstance(reason, ssl.SSLError) and reason.reason in _NOT_TLS:
                return TransferError(
                    f"{shown(url)}: the proxy does not speak TLS ({reason.reason}); give its address as http:// in HTTPS_PROXY "
                    "or HTTP_PROXY, which says how the proxy itself is reached"
                )
        case exceptions.NameResolutionError():
            cause = error.__cause__
            if isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_HOST:
                return TransferError(f"{shown(url)}: no such host; check the name, the network and the proxy settings")
        case exceptions.LocationValueError() | UnicodeError():
            return TransferError(f"{shown(url)}: not a valid address")
        case _:
            pass
    return TransientError(reason_of(error))


def _tls_failure(error: Exception, url: str, certificates: Path) -> TransferError | TransientError:
    reason = _tls_reason(error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return TransferError(
            f"{shown(url)}: the certificate is not trusted: {reason.verify_message}. If the server has its own "
            f"certificate authority, give its certificate with --add-certificate, or put it in {certificates}/"
        )
    if isinstance(reason, ssl.SSLError) and reason.reason in _REFUSED_CERTIFICATE:
        return TransferError(
            f"{shown(url)}: the server ends the TLS handshake ({reason.reason}): it does not accept this client's "
            f"certificate, or requires one. Put one in {certificates}/, as client.cert with client.key"
        )
    if isinstance(reason, ssl.SSLError) and reason.reason in _NOT_TLS:
        return PlainHttpError(
            f"{shown(url)}: the server does not speak TLS, but plain http most likely ({reason.reason})"
        )
    return TransientError(reason_of(error))


def address_failure(url: str, address: str) -> TransferError:
    """The error for *url*, whose host has the address *address*, which is not permitted."""
    host = urlsplit(url).netloc
    return TransferError(
        f"{shown(url)}: its address {address} is {zone_of(address).value}, and a redirect, a token server's address or an "
        f"apps.json names it, from a network that is not; nothing was sent there. Allow it with --allow-host {host} if you "
        "trust the server or file that names it"
    )


def _tls_reason(error: BaseException) -> BaseException:
    """The OpenSSL error inside urllib3's error."""
    while isinstance(error, exceptions.SSLError) and error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    return error


def reason_of(error: BaseException) -> str:
    """What failed, without the URL: urllib3's own messages may quote a signed one."""
    match error:
        case exceptions.NameResolutionError():
            return "the host's name could not be resolved"
        case exceptions.ReadTimeoutError():
            return "the connection stalled"
        case exceptions.ProxyError():
            return f"the proxy failed: {reason_of(error.original_error)}"
        case exceptions.ConnectTimeoutError() if not isinstance(error, exceptions.NewConnectionError):
            return "connecting took too long"
        case exceptions.SSLError() | ssl.SSLError():
            reason = _tls_reason(error)
            return (
                f"TLS failed: {reason.reason or 'no reason given'}"
                if isinstance(reason, ssl.SSLError)
                else "TLS failed"
            )
        case exceptions.IncompleteRead():
            return "the connection ended early"
        case exceptions.ProtocolError():
            inner = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], BaseException) else None
            return f"the connection broke ({reason_of(inner)})" if inner is not None else "the connection broke"
        case exceptions.NewConnectionError():
            cause = error.__cause__
            return f"cannot connect ({reason_of(cause)})" if cause is not None else "cannot connect"
        case OSError():
            return error.strerror or type(error).__name__
        case _:
            return type(error).__name__
