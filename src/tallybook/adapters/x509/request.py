"""A new private key and a request for a certificate; also as a program, for a process of its own.

`python -m tallybook.adapters.x509.request NAME` prints both as PEM: the agent calls it when it
renews, so that the library's memory is given back at once.
"""

import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh key: ECDSA on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, not encrypted: its file is closed to others instead."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def request_pem(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """Return a request for a certificate (PKCS #10), signed with the key that it is for."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def main(name: str) -> None:
    """Print a new key and a request for it."""
    key = new_key()
    sys.stdout.write((key_pem(key) + request_pem(key, name)).decode())


if __name__ == "__main__":
    main(sys.argv[1])
