"""`Seal` by AES-256-GCM, under a key derived from the server's secret.

What is kept is `v1.` and base64url of nonce and ciphertext; the place is authenticated with it, so
that a row copied to another endpoint cannot be opened. Whoever changes the server's secret cannot
open what was closed before.
"""

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallybook.kernel.errors import Corrupt

_PREFIX = "v1."
_NONCE_BYTES = 12
_PURPOSE = b"tallybook: secrets of endpoints"


class AesGcmSeal:
    """Encrypts under the server's secret.

    Args:
        secret: of the server, at least 32 random bytes.
    """

    def __init__(self, secret: bytes) -> None:
        """Derive the key; the secret itself encrypts nothing."""
        self._cipher = AESGCM(HKDF(SHA256(), 32, None, _PURPOSE).derive(secret))

    def close(self, text: str, place: str) -> str:
        """Return a text encrypted."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), place.encode())
        return _PREFIX + base64.urlsafe_b64encode(sealed).decode()

    def open(self, sealed: str, place: str) -> str:
        """Return the text again; raises Corrupt."""
        message = "a secret cannot be opened: it was closed under another server's secret"
        try:
            raw = base64.urlsafe_b64decode(sealed.removeprefix(_PREFIX))
            nonce, closed = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, closed, place.encode()).decode()
        except (binascii.Error, InvalidTag, ValueError) as error:
            raise Corrupt(f"{message}; rotate it", code="bad-secret") from error
