"""Sessions of the console: a signed cookie for a key or a person, a token against forged forms.

Nothing is stored: the cookie holds an id and an end, under the server's secret. A revoked key, and
a person who is signed out, ends its sessions within a second.
"""

import base64
import binascii
import hmac
from urllib.parse import urlsplit

import msgspec

from tallybook.kernel.errors import Forbidden
from tallybook.serve.api.gate import SCOPES, Gate, Grant

COOKIE = "tallybook_session"
LIFE_SECONDS = 12 * 3600
KNOWN_COOKIE = "tallybook_known"
KNOWN_SECONDS = 400 * 24 * 3600
_PURPOSE = b"tallybook console session\0"
_KNOWN = b"tallybook console known browser\0"
_FORMS = b"tallybook console form\0"


class Session(msgspec.Struct, frozen=True):
    """Who is signed in.

    Attributes:
        grant: what the key allows.
        form_token: goes into every form of this session.
    """

    grant: Grant
    form_token: str

    @property
    def needs(self) -> tuple[str, ...]:
        """The scopes that the person has, for what is shown only with one."""
        return tuple(scope for scope in SCOPES if self.grant.allows(scope))


def _sign(secret: bytes, purpose: bytes, text: str) -> str:
    return hmac.digest(secret, purpose + text.encode(), "sha256").hex()


def _same(ours: str, sent: str) -> bool:
    """Compare in constant time whatever was sent; `compare_digest` fails on texts beyond ASCII."""
    return hmac.compare_digest(ours.encode(), sent.encode("utf-8", "surrogatepass"))


def new_cookie(secret: bytes, grant: Grant, now_us: int, epoch: int = 0) -> str:
    """Return the cookie of a session that starts now; it is over when a person's epoch grows."""
    place = msgspec.json.encode([grant.key_id, now_us // 1_000_000 + LIFE_SECONDS, epoch])
    text = base64.urlsafe_b64encode(place).decode()
    return f"{text}.{_sign(secret, _PURPOSE, text)}"


def read_cookie(secret: bytes, gate: Gate, cookie: str | None, now_us: int) -> Session | None:
    """Return the session of a cookie; None where it is forged, over, or its key revoked."""
    text, _, signature = (cookie or "").partition(".")
    if not _same(_sign(secret, _PURPOSE, text), signature):
        return None
    try:
        decoded = base64.urlsafe_b64decode(text)
        key_id, ends, epoch = msgspec.json.decode(decoded, type=tuple[str, int, int])
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        return None  # signed by an older version: sign in again
    good = ends > now_us // 1_000_000 and epoch == gate.epoch(key_id)
    grant = gate.by_id(key_id) if good else None
    return None if grant is None else Session(grant, _sign(secret, _FORMS, text))


def new_known(secret: bytes, person: str, nonce: str) -> str:
    """Return the cookie of a browser in which a person has signed in; it opens nothing.

    Source: OWASP, "Slow Down Online Guessing Attacks with Device Cookies".

    Args:
        secret: the server's.
        person: 'TENANT/NAME'.
        nonce: names the browser.
    """
    return f"{nonce}.{_sign(secret, _KNOWN, f'{person} {nonce}')}"


def known_browser(secret: bytes, person: str, cookie: str | None) -> str:
    """Return which browser a cookie of `new_known` names; '' where it is none of this person's."""
    nonce, _, signature = (cookie or "").partition(".")
    return nonce if _same(_sign(secret, _KNOWN, f"{person} {nonce}"), signature) else ""


def check_form(session: Session, token: str) -> None:
    """Refuse a form that did not come from a page of this session; raises Forbidden."""
    if not _same(session.form_token, token):
        raise Forbidden("this form is too old; load the page again", code="stale-form")


def check_origin(origin: str | None, host: str) -> None:
    """Refuse a form that another site's page sent; raises Forbidden."""
    if origin is not None and urlsplit(origin).netloc != host:
        raise Forbidden("forms of other sites are not accepted", code="foreign-form")


def local_path(path: str) -> str:
    """Return a path of this server to go to after signing in; '/' where it is none."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if safe and path.isprintable() else "/"
