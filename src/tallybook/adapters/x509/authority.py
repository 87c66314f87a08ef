"""The authority: issues certificates to edges and to the server itself, and signs what is revoked.

Files of its folder: `ca.pem` and `ca.key` (0600), `server.pem` and `server.key` for the server's
own listener, `crl.pem` for other programs that end TLS. ECDSA on P-256, SHA-256.

Source: RFC 5280; the extensions are those that Python 3.13's strict verification asks for.
"""

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tallybook.adapters.x509.names import EDGE_URN
from tallybook.adapters.x509.request import key_pem, new_key
from tallybook.kernel.errors import Conflict, Corrupt, Invalid, Missing, Unavailable
from tallybook.kernel.timestamps import from_us, to_us

CA_CERT, CA_KEY, CRL = "ca.pem", "ca.key", "crl.pem"
SERVER_CERT, SERVER_KEY = "server.pem", "server.key"
CA_DAYS = 3650
EDGE_DAYS = 30
SERVER_DAYS = 90
CRL_DAYS = 30
BACKDATED = dt.timedelta(minutes=10)
"""A certificate is valid from a little before it was issued, for clocks that are behind."""


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A new certificate.

    Attributes:
        cert: PEM.
        serial: upper-case hexadecimal.
        issued_us, expires_us: microseconds UTC.
    """

    cert: bytes
    serial: str
    issued_us: int
    expires_us: int


class Authority:
    """Signs with the key of a folder.

    Args:
        folder: made by `found`.

    Raises:
        Missing: no authority was founded there.
        Corrupt: its files cannot be read as what they should be.
    """

    def __init__(self, folder: Path) -> None:
        """Read certificate and key."""
        self.folder = folder
        try:
            self.cert = (folder / CA_CERT).read_bytes()
            key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), None)
            self._cert = x509.load_pem_x509_certificate(self.cert)
        except FileNotFoundError as error:
            message = f"there is no authority in {folder}; found one with `tallybook ca init`"
            raise Missing(message, code="no-authority") from error
        except OSError as error:
            raise Unavailable(f"{folder}: {error.strerror or error}") from error
        except ValueError as error:
            raise Corrupt(f"the authority in {folder} cannot be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Corrupt(f"{folder / CA_KEY} is not a key that this authority made")
        self._key = key

    def issue_edge(
        self, tenant: str, edge: str, key: ec.EllipticCurvePublicKey, now_us: int, days: int
    ) -> Issued:
        """Return a certificate that lets the key's holder send as an edge."""
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(EDGE_URN + edge)]
        subject = _subject(edge, tenant)
        return self._issue(subject, names, ExtendedKeyUsageOID.CLIENT_AUTH, key, now_us, days)

    def issue_server(
        self, hosts: Sequence[str], key: ec.EllipticCurvePublicKey, now_us: int, days: int
    ) -> Issued:
        """Return a certificate for a server under these names and addresses.

        Raises:
            Invalid: a name is neither an address nor the name of a host.
        """
        names = [_host(host) for host in hosts]
        if not names:
            raise Invalid("name at least one host", field="host")
        subject = _subject(hosts[0])
        return self._issue(subject, names, ExtendedKeyUsageOID.SERVER_AUTH, key, now_us, days)

    def crl(self, revoked: Sequence[tuple[str, int]], now_us: int) -> bytes:
        """Return the list of revoked certificates, signed: serial numbers and instants."""
        now = from_us(now_us)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._cert.subject)
        builder = builder.last_update(now).next_update(now + dt.timedelta(days=CRL_DAYS))
        for serial, at_us in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
            builder = builder.add_revoked_certificate(entry.revocation_date(from_us(at_us)).build())
        made = builder.sign(self._key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    def _issue(
        self,
        subject: x509.Name,
        names: Sequence[x509.GeneralName],
        use: x509.ObjectIdentifier,
        key: ec.EllipticCurvePublicKey,
        now_us: int,
        days: int,
    ) -> Issued:
        now = from_us(now_us).replace(microsecond=0)
        end = min(now + dt.timedelta(days=days), self._cert.not_valid_after_utc)
        builder = _builder(subject, self._cert.subject, key, now - BACKDATED, end)
        ski = self._cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)
        made = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            cert=made.public_bytes(serialization.Encoding.PEM),
            serial=f"{made.serial_number:X}",
            issued_us=now_us,
            expires_us=to_us(end),
        )


def found(folder: Path, name: str, now_us: int, days: int = CA_DAYS) -> Authority:
    """Found an authority in a folder and return it.

    Raises:
        Conflict: there is one already; another one would lock out every edge.
        Unavailable: the folder cannot be written.
    """
    if (folder / CA_KEY).exists():
        message = f"there is an authority in {folder} already"
        raise Conflict(message, code="authority-exists")
    key, now = new_key(), from_us(now_us).replace(microsecond=0)
    subject = _subject(name)
    end = now + dt.timedelta(days=days)
    made = (
        _builder(subject, subject, key.public_key(), now - BACKDATED, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_closed(folder / CA_KEY, key_pem(key))
    write_open(folder / CA_CERT, made.public_bytes(serialization.Encoding.PEM))
    return Authority(folder)


def requested_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key that a request is for.

    Raises:
        Invalid: it is no such request, its signature is wrong, or it is not a key on P-256.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
        signed = request.is_signature_valid
    except (ValueError, InvalidSignature) as error:
        raise Invalid(f"this is not a certificate request: {error}", field="csr") from error
    if not signed:
        raise Invalid("the request is not signed with the key it is for", field="csr")
    return _p256(request.public_key())


def certified_key(cert: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of a certificate, PEM or DER; raises Invalid."""
    try:
        if cert.startswith(b"-----"):
            return _p256(x509.load_pem_x509_certificate(cert).public_key())
        return _p256(x509.load_der_x509_certificate(cert).public_key())
    except ValueError as error:
        raise Invalid(f"this is not a certificate: {error}", field="certificate") from error


def private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Return a private key on P-256; raises Invalid."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise Invalid(f"this is not a private key: {error}", field="key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Invalid("the key must be ECDSA on P-256", field="key")
    return key


def write_closed(path: Path, content: bytes) -> None:
    """Replace a file that only its owner may read; raises Unavailable."""
    _write(path, content, 0o600)


def write_open(path: Path, content: bytes) -> None:
    """Replace a file that everybody may read; raises Unavailable."""
    _write(path, content, 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}") from error


def _p256(key: object) -> ec.EllipticCurvePublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise Invalid("the key must be ECDSA on P-256", field="key")


def _subject(name: str, organisation: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]
    if organisation is not None:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation[:64]))
    return x509.Name(parts)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass  # then it is a name
    if not text or not text.isascii() or any(c.isspace() or c in "/:@" for c in text):
        raise Invalid(f"'{text}' is not the name of a host", field="host")
    return x509.DNSName(text)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    start: dt.datetime,
    end: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
