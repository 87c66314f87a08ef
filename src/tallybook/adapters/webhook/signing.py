"""Signatures of the Standard Webhooks specification, made by its own library.

Source: standardwebhooks.com, Signature scheme
"""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    """Return a fresh secret: `whsec_` and base64 of 32 random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(
    name: str, body: bytes, signing: Sequence[str], at_seconds: int
) -> dict[str, str]:
    """Return the headers that let a receiver verify a body.

    Args:
        name: of the message; the same at every attempt.
        body: as it is sent.
        signing: secrets, newest first; each makes a signature.
        at_seconds: since 1970, of this attempt.
    """
    at, text = datetime.fromtimestamp(at_seconds, UTC), body.decode()
    signatures = (Webhook(secret).sign(name, at, text) for secret in signing)
    return {
        "webhook-id": name,
        "webhook-timestamp": str(at_seconds),
        "webhook-signature": " ".join(signatures),
    }
