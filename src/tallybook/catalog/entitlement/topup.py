"""A top-up as it is written.

Source: docs/algorithms/wallets.md
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.entitlement.grant import check_priority
from tallybook.catalog.entitlement.recurrence import parse_interval, plus
from tallybook.catalog.entitlement.wallet import TopUp
from tallybook.catalog.meter import name_ok
from tallybook.catalog.price.fields import amount, positive, refused
from tallybook.kernel.period import parse_moment, zone

RECHARGE = "recharge-"
"""How the keys of top-ups begin that a wallet's rule made; no other key may."""
TEXT_CHARS_MAX = 64
REFERENCE_CHARS_MAX = 255


class TopUpSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A top-up as it is written; dates without an offset are in the customer's zone.

    Attributes:
        key: unique within the wallet; None for one that is made up.
        amount: in the wallet's unit.
        at: from when on it may be drawn from; None for now.
        expires: first instant it may not; or else
        expires_after: a duration from `at` on, such as P1Y; neither for never.
        free: it costs nothing.
        method: how it was paid, such as card.
        reference: of the payment.
    """

    amount: Decimal
    key: str | None = None
    at: str | None = None
    expires: str | None = None
    expires_after: str | None = None
    priority: int = 1
    free: bool = False
    method: str = "cash"
    reference: str = ""


def check_top_up_spec(spec: TopUpSpec, zone_name: str, now_us: int, fresh: str) -> TopUp:
    """Return the top-up that a specification means; its amount is rounded by `put_in`.

    Args:
        spec: as written.
        zone_name: the customer's zone.
        now_us: the present.
        fresh: its key where none is named.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    key = fresh if spec.key is None else spec.key
    name_ok("key", key)
    if key.startswith(RECHARGE):
        raise refused("key", f"must not begin with '{RECHARGE}': such are made by the rule")
    check_priority(spec.priority)
    check_payment(spec.method, spec.reference)
    at_us = now_us if spec.at is None else parse_moment(spec.at, zone(zone_name), "at")
    return TopUp(
        key=key,
        amount=positive("amount", amount("amount", spec.amount, decimals_max=40)),
        at_us=at_us,
        expires_us=_expiry(spec, at_us, zone_name),
        priority=spec.priority,
        free=spec.free,
    )


def check_payment(method: str, reference: str) -> None:
    """Check how something was paid; raises Invalid."""
    _short("method", method, TEXT_CHARS_MAX)
    _short("reference", reference, REFERENCE_CHARS_MAX)


def _short(field: str, text: str, chars_max: int) -> None:
    if len(text) > chars_max or not text.isprintable():
        raise refused(field, f"must be one line of at most {chars_max} characters")


def _expiry(spec: TopUpSpec, at_us: int, zone_name: str) -> int | None:
    if spec.expires is not None and spec.expires_after is not None:
        raise refused("expires", "and expires_after exclude each other")
    if spec.expires_after is not None:
        return plus(at_us, parse_interval("expires_after", spec.expires_after), 1, zone_name)
    if spec.expires is None:
        return None
    expires = parse_moment(spec.expires, zone(zone_name), "expires")
    if expires <= at_us:
        raise refused("expires", "must be after at")
    return expires
