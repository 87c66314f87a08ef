"""What a key may be, decided before it is made: rights, ends, rotation with overlap."""

from collections.abc import Sequence

import msgspec

from tallybook.admit.key import (
    ADMIN,
    INGEST,
    READ,
    ROLES,
    SCOPES,
    ApiKey,
    Grant,
    scopes_of,
)
from tallybook.kernel.errors import Conflict, Forbidden, Invalid
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.kernel.timestamps import SECOND_US, parse_rfc3339

NAME_CHARS_MAX = 128
SUBJECTS_MAX = 1000
REFERENCE_CHARS_MAX = 255
PLAN_CHARS_MAX = 128
OVERLAP_SECONDS_DEFAULT = 24 * 3600
OVERLAP_SECONDS_MAX = 90 * 24 * 3600


class KeyTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may do, checked.

    Attributes: as of `ApiKey`.
    """

    name: str
    scopes: tuple[str, ...]
    subjects: tuple[str, ...] = ()
    customer: str = ""
    usage_plan: str = ""
    expires_us: int | None = None


class KeyText(msgspec.Struct, frozen=True, kw_only=True):
    """A fresh key, as far as chance decides it.

    Attributes:
        id: of the key.
        shown: the first characters of its text.
        digest: of its text.
    """

    id: str
    shown: str
    digest: str


class KeySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to make, as written.

    Attributes:
        name: for people.
        scopes: some of ingest, read, billing, admin, operator.
        roles: some of sender, viewer, biller, owner, operator; their scopes are added.
        subjects: the only ones that it may send events of and read usage of; empty for all.
        customer: the only one that it sends and reads for; '' for all.
        usage_plan: what limits it; '' for the tenant's own.
        expires_time: RFC 3339, in the future; null never.
    """

    name: str
    scopes: list[str] = []
    roles: list[str] = []
    subjects: list[str] = []
    customer: str = ""
    usage_plan: str = ""
    expires_time: str | None = None


def check_terms(spec: KeySpec, now_us: int) -> KeyTerms:
    """Return what a key may do, from what somebody wrote.

    Raises:
        Invalid: names the field.
    """
    terms = KeyTerms(
        name=check_name(spec.name),
        scopes=check_scopes(spec.scopes, spec.roles),
        subjects=_subjects(spec.subjects),
        customer=_short(spec.customer, "customer", REFERENCE_CHARS_MAX),
        usage_plan=check_plan_name(spec.usage_plan),
        expires_us=check_expiry(spec.expires_time, now_us),
    )
    if (terms.subjects or terms.customer) and set(terms.scopes) - {INGEST, READ}:
        message = "a key for some subjects or one customer may only have the scopes ingest and read"
        raise Invalid(message, field="scopes")
    return terms


def check_name(name: str) -> str:
    """Return the name of a key; raises Invalid."""
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        message = f"name must have 1 to {NAME_CHARS_MAX} printable characters"
        raise Invalid(message, field="name")
    return name


def check_expiry(text: str | None, now_us: int) -> int | None:
    """Return the instant from which on a key is refused; raises Invalid where that is no future."""
    if text is None:
        return None
    found = parse_rfc3339(text)
    if found is None or found <= now_us:
        message = "expires_time must be RFC 3339 and in the future, such as 2027-01-01T00:00:00Z"
        raise Invalid(message, field="expires_time")
    return found


def check_plan_name(text: str) -> str:
    """Return the name of a usage plan, '' for none; raises Invalid."""
    return _short(text, "usage_plan", PLAN_CHARS_MAX)


def check_scopes(scopes: Sequence[str], roles: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes that scopes and roles name; raises Invalid where that is none."""
    if set(scopes) - set(SCOPES):
        raise Invalid(f"scopes must be some of {', '.join(SCOPES)}", field="scopes")
    if set(roles) - set(ROLES):
        raise Invalid(f"roles must be some of {', '.join(ROLES)}", field="roles")
    found = scopes_of(scopes, roles)
    if not found:
        raise Invalid(f"give scopes, some of {', '.join(SCOPES)}, or roles", field="scopes")
    return found


def _subjects(subjects: Sequence[str]) -> tuple[str, ...]:
    if len(subjects) > SUBJECTS_MAX:
        message = f"a key may be for at most {SUBJECTS_MAX} subjects; bind it to a customer instead"
        raise Invalid(message, field="subjects")
    if not all(0 < len(one) <= ATTRIBUTE_CHARS_MAX for one in subjects):
        message = f"a subject must have 1 to {ATTRIBUTE_CHARS_MAX} characters"
        raise Invalid(message, field="subjects")
    return tuple(dict.fromkeys(subjects))


def _short(text: str, field: str, chars_max: int) -> str:
    if len(text) > chars_max or (text and not text.isprintable()):
        raise Invalid(f"{field} must have at most {chars_max} printable characters", field=field)
    return text


def check_giving(grant: Grant, scopes: Sequence[str]) -> None:
    """Refuse to hand out, or to end, what one does not hold; raises Forbidden."""
    lacking = [scope for scope in scopes if not grant.allows(scope)]
    if lacking:
        message = f"this API key lacks the scope '{lacking[0]}' and cannot give it or take it"
        raise Forbidden(message, code="forbidden")


def made(tenant: str, terms: KeyTerms, text: KeyText, now_us: int) -> ApiKey:
    """Return a new key."""
    return ApiKey(
        tenant=tenant,
        id=text.id,
        name=terms.name,
        shown=text.shown,
        digest=text.digest,
        scopes=terms.scopes,
        created_us=now_us,
        subjects=terms.subjects,
        customer=terms.customer,
        usage_plan=terms.usage_plan,
        expires_us=terms.expires_us,
    )


def rotated(
    key: ApiKey, text: KeyText, overlap_seconds: int, expires_us: int | None, now_us: int
) -> tuple[ApiKey, ApiKey]:
    """Return a key that ends after an overlap, and its successor with the same rights.

    Args:
        key: to rotate.
        text: of the successor.
        overlap_seconds: for how long both are good; 0 ends the old one now.
        expires_us: of the successor; None gives it as long a life as the key had.
        now_us: the present instant.

    Raises:
        Conflict: the key is over ('key-over'), or was rotated already ('key-rotated').
        Invalid: the overlap is out of range.
    """
    if not 0 <= overlap_seconds <= OVERLAP_SECONDS_MAX:
        message = f"overlap_seconds must be 0 to {OVERLAP_SECONDS_MAX}"
        raise Invalid(message, field="overlap_seconds")
    if not is_good(key, now_us):
        raise Conflict(f"key {key.id} is over; make a new one", code="key-over")
    if key.successor:
        message = f"key {key.id} was rotated to {key.successor}; rotate that one"
        raise Conflict(message, code="key-rotated")
    ends = now_us + overlap_seconds * SECOND_US
    old = msgspec.structs.replace(
        key,
        expires_us=ends if key.expires_us is None else min(ends, key.expires_us),
        successor=text.id,
    )
    if expires_us is None and key.expires_us is not None:
        expires_us = now_us + key.expires_us - key.created_us
    new = msgspec.structs.replace(
        key,
        id=text.id,
        shown=text.shown,
        digest=text.digest,
        created_us=now_us,
        expires_us=expires_us,
        last_used_us=None,
        replaces=key.id,
    )
    return old, new


def is_good(key: ApiKey, now_us: int) -> bool:
    """Whether a key is neither revoked nor over."""
    return key.revoked_us is None and (key.expires_us is None or key.expires_us > now_us)


def check_leaving(keys: Sequence[ApiKey], key_id: str, now_us: int) -> None:
    """Refuse to end the last key that may make keys; raises Conflict ('last-owner').

    Args:
        keys: all keys of the tenant.
        key_id: the one to end.
        now_us: the present instant.
    """
    owners = [key for key in keys if ADMIN in key.scopes and is_good(key, now_us)]
    if [key.id for key in owners] == [key_id]:
        message = "this is the last key with the scope admin; make another one first"
        raise Conflict(message, code="last-owner")
