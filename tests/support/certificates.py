"""Keys and X.509 certificates for tests, as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

_VALID = datetime.timedelta(days=1)


@dataclass(frozen=True)
class CertifiedKey:
    """A private key and its certificate."""

    key: CertificateIssuerPrivateKeyTypes
    certificate: x509.Certificate

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Write ``NAME.pem`` and ``NAME.key``; returns their paths, the certificate's first."""
        certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
        certificate.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, key


def self_signed(common_name: str, *alternative_names: str) -> CertifiedKey:
    """An RSA key of 2048 bits and its certificate, for the names and IP addresses *alternative_names*."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    builder = _builder(common_name, common_name, key, alternative_names)
    return CertifiedKey(key, builder.sign(key, hashes.SHA256()))


def authority(common_name: str) -> CertifiedKey:
    """A key on the curve P-256, and the certificate of an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = dict.fromkeys(
        (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "crl_sign", "encipher_only", "decipher_only",
        ),
        False,
    )  # fmt: skip
    builder = (
        _builder(common_name, common_name, key, ())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return CertifiedKey(key, builder.sign(key, hashes.SHA256()))


def issued_by(issuer: CertifiedKey, common_name: str, *alternative_names: str) -> CertifiedKey:
    """A key on the curve P-256, and a certificate for it that *issuer* signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_name = issuer.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = _builder(common_name, str(issuer_name), key, alternative_names).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
    )
    return CertifiedKey(key, builder.sign(issuer.key, hashes.SHA256()))


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, alternative_names: tuple[str, ...]
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALID)
        .not_valid_after(now + _VALID)
    )
    if alternative_names:
        names = x509.SubjectAlternativeName([_general_name(name) for name in alternative_names])
        builder = builder.add_extension(names, critical=False)
    return builder


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
