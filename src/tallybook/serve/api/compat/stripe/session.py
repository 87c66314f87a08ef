"""Sessions of Stripe's event stream: a token for fifteen minutes instead of the key.

The token names the key that asked for it and an end, under a signature of the server's secret;
nothing is stored. It is good for as long as its key is.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Any

import msgspec

from tallybook.kernel.errors import Forbidden, Invalid
from tallybook.kernel.ids import derived_id
from tallybook.kernel.timestamps import SECOND_US, format_us
from tallybook.serve.api.compat.stripe.words import EXPIRED

PREFIX = "tbs_"
SESSION_SECONDS = 15 * 60
_CONTEXT = b"tallybook.compat.stripe.session\0"


class _Claim(msgspec.Struct, frozen=True):
    key: str
    ends_us: int


def open_session(secret: bytes, key_id: str, now_us: int) -> dict[str, object]:
    """Return a new session as Stripe answers it."""
    ends_us = now_us + SESSION_SECONDS * SECOND_US
    claim = msgspec.json.encode(_Claim(key_id, ends_us))
    token = f"{PREFIX}{_text(claim)}.{_text(_mac(secret, claim))}"
    return {
        "object": "v2.billing.meter_event_session",
        "id": derived_id("mes", token),
        "authentication_token": token,
        "created": format_us(now_us),
        "expires_at": format_us(ends_us),
        "livemode": True,
    }


def key_of_session(secret: bytes, token: str, now_us: int) -> str:
    """Return the id of the key that a session stands for.

    Raises:
        Forbidden: no such session ('no-key').
        Invalid: it has ended (`EXPIRED`); ask for a new one.
    """
    claim, _, mac = token.removeprefix(PREFIX).partition(".")
    try:
        raw, signed = _bytes(claim), _bytes(mac)
        good = hmac.compare_digest(signed, _mac(secret, raw))
        found = msgspec.json.decode(raw, type=_Claim) if good else None
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        found = None
    if found is None:
        raise Forbidden("this session is not known", code="no-key")
    if found.ends_us <= now_us:
        raise Invalid("the session has expired; create a new one", code=EXPIRED)
    return found.key


def _mac(secret: bytes, claim: bytes) -> bytes:
    return hmac.new(secret, _CONTEXT + claim, hashlib.sha256).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> Any:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
