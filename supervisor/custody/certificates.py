"""Certificates between the key holder and agents on other machines: a CA of our own, and two of it.

One for the key holder and one for agents; neither passes for the other. A rotation makes both anew
and renews the CA's under the same key, so that old and new files understand each other meanwhile.
"""
# ruff: noqa: PLC0415 - `mana` answers at once where no certificate is made

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from state.secret_files import replace_secret
from supervisor.node.settings import CA, CLIENT, SERVER

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

LIFE = timedelta(days=365)
WARN = timedelta(days=30)
_AGO = timedelta(minutes=5)  # clocks differ
REMEDY = "mana keys rotate tls, then copy the files to the other machines"
CA_NAME = "mana keys CA"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class NoAuthority(Exception):
    """There is nothing to renew; the text names the file and the remedy."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class Validity(msgspec.Struct, frozen=True):
    """Until when a certificate is valid, or why that cannot be told."""

    file: str
    until: datetime | None
    problem: str | None = None

    def fault(self, now: datetime) -> str | None:
        """Why it is of no use."""
        if self.until is None:
            return f"{self.file}: {self.problem}"
        ended = self.until <= now
        return f"{self.file}: expired on {self.until:%Y-%m-%d}: {REMEDY}" if ended else None

    def warning(self, now: datetime) -> str | None:
        """Why it soon will be."""
        if self.until is None or not now < self.until <= now + WARN:
            return None
        return f"{self.file}: expires on {self.until:%Y-%m-%d}: {REMEDY}"


def make_certificates(folder: Path, hosts: Sequence[str], now: datetime) -> list[Path]:
    """A new CA, and all that it signs; nobody trusts certificates of the one before any more."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return _issue_all(folder, ec.generate_private_key(ec.SECP256R1()), hosts, now)


def renew_certificates(folder: Path, hosts: Sequence[str], now: datetime) -> list[Path]:
    """All anew under the CA's key, so that old and new files go together; raises NoAuthority."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = folder / f"{CA}.key"
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as exc:
        raise NoAuthority(
            f"{path} cannot be read ({type(exc).__name__}): mana keys new tls"
        ) from None
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise NoAuthority(f"{path} holds no key of ours: mana keys rotate tls --now")
    return _issue_all(folder, key, hosts, now)


def kept_hosts(folder: Path) -> list[str]:
    """The hosts that the key holder's certificate is for; raises NoAuthority."""
    from cryptography import x509

    path = folder / f"{SERVER}.pem"
    try:
        found = _read(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        raise NoAuthority(f"{path} cannot be read: name its hosts with --host") from None
    return [str(one.value) for one in found]


def validity(paths: Sequence[str]) -> list[Validity]:
    """Until when each of these certificates is valid."""
    found: list[Validity] = []
    for path in paths:
        try:
            found.append(Validity(path, _read(Path(path)).not_valid_after_utc))
        except OSError as exc:
            found.append(Validity(path, None, f"cannot be read ({type(exc).__name__})"))
        except ValueError:
            found.append(Validity(path, None, "is no certificate"))
    return found


def _issue_all(
    folder: Path, ca_key: EllipticCurvePrivateKey, hosts: Sequence[str], now: datetime
) -> list[Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID as Use

    public = ca_key.public_key()
    ca = (
        _dated(_name(CA_NAME), _name(CA_NAME), now)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    _put(folder, CA, ca_key, ca.sign(ca_key, hashes.SHA256()))
    named = [_general_name(host) for host in dict.fromkeys([*hosts, *LOOPBACK])]
    # Only the server's has names; the use keeps agents from passing for the key holder.
    for name, use in ((SERVER, Use.SERVER_AUTH), (CLIENT, Use.CLIENT_AUTH)):
        key = ec.generate_private_key(ec.SECP256R1())
        issued = (
            _dated(_name(f"mana {name}"), _name(CA_NAME), now)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False
            )
            .add_extension(x509.ExtendedKeyUsage([use]), critical=True)
        )
        if name == SERVER:
            issued = issued.add_extension(x509.SubjectAlternativeName(named), critical=False)
        _put(folder, name, key, issued.sign(ca_key, hashes.SHA256()))
    return [folder / f"{name}.pem" for name in (CA, SERVER, CLIENT)]


def _put(
    folder: Path, name: str, key: EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    from cryptography.hazmat.primitives import serialization as forms

    pem = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    replace_secret(folder / f"{name}.key", pem.decode())
    replace_secret(folder / f"{name}.pem", certificate.public_bytes(forms.Encoding.PEM).decode())


def _dated(subject: x509.Name, issuer: x509.Name, now: datetime) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - _AGO)
        .not_valid_after(now.astimezone(UTC) + LIFE)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _read(path: Path) -> x509.Certificate:
    from cryptography import x509

    return x509.load_pem_x509_certificate(path.read_bytes())
