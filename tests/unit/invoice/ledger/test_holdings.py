"""What customers hold, and what invoices take from it."""

from decimal import Decimal

import msgspec
import pytest

from tallybook.catalog.coupon import Coupon
from tallybook.invoice.funds import CouponUsed, CreditUsed
from tallybook.invoice.ledger.holdings import (
    Credit,
    Holdings,
    PendingExtra,
    Redemption,
    account_at,
    after_invoice,
    coupon_in_hand,
    drawn,
    returned,
    used,
    withdrawn,
)
from tallybook.invoice.manifest import Extra
from tallybook.invoice.ports import Spent
from tallybook.kernel.errors import Conflict, Corrupt

CREDIT = Credit(
    source="cn_1",
    number="CN-000001",
    customer="c",
    currency="USD",
    at_us=5,
    amount_minor=10,
    left_minor=10,
)
EXTRA = PendingExtra(
    customer="c",
    currency="USD",
    at_us=5,
    extra=Extra(id="e", name="Setup", amount=Decimal(1), start_us=0, end_us=1),
)
SPENT = Spent(customer="c", version=0, invoice="inv_1", number="INV-1", currency="USD", at_us=9)


def redemption(**terms: object) -> Redemption:
    coupon = Coupon(key="k", name="k", **terms)  # type: ignore[arg-type]
    return Redemption(id="r", customer="c", coupon=coupon, at_us=5)


def left(one: Redemption, currency: str = "USD") -> tuple[int | None, int | None] | None:
    hand = coupon_in_hand(one, currency)
    return None if hand is None else (hand.left_minor, hand.invoices_left)


def test_an_amount_that_counts_once_is_used_up() -> None:
    one = redemption(amount=Decimal("1.00"), currency="USD")
    assert left(one) == (100, None)
    assert left(used(one, 40)) == (60, None)
    assert left(used(used(one, 40), 60)) is None
    assert left(returned(used(one, 40), 40)) == (100, None)
    assert left(one, "EUR") is None


def test_a_percentage_that_counts_once_is_for_one_invoice() -> None:
    one = redemption(percent=Decimal(10))
    assert left(one, "JPY") == (None, None)
    assert left(used(one, 1)) is None
    assert left(returned(used(one, 1), 1)) == (None, None)


def test_a_recurring_one_is_for_some_invoices_and_one_forever_for_all() -> None:
    one = redemption(percent=Decimal(10), duration="recurring", invoices=2)
    assert [left(one), left(used(one, 1))] == [(None, 2), (None, 1)]
    assert left(used(used(one, 1), 1)) is None
    forever = redemption(amount=Decimal(1), currency="USD", duration="forever")
    assert left(used(forever, 100)) == (None, None)
    assert left(msgspec.structs.replace(forever, ended_us=7)) is None


def test_what_comes_later_or_in_another_currency_does_not_count() -> None:
    held = Holdings(
        redemptions=(redemption(percent=Decimal(10)),),
        credits=(
            CREDIT,
            msgspec.structs.replace(CREDIT, source="eur", currency="EUR"),
            msgspec.structs.replace(CREDIT, source="out", purpose="refund"),
            msgspec.structs.replace(CREDIT, source="gone", left_minor=0),
        ),
        extras=(
            EXTRA,
            msgspec.structs.replace(EXTRA, batch="b"),
            msgspec.structs.replace(EXTRA, invoice="inv_0"),
        ),
    )
    now = account_at(3, held, (), "USD", 5)
    assert (now.funds.version, len(now.funds.coupons), len(now.extras)) == (3, 1, 1)
    assert [credit.source for credit in now.funds.credits] == ["cn_1"]
    before = account_at(3, held, (), "USD", 4)
    assert (before.funds.coupons, before.funds.credits, before.extras) == ((), (), ())


def test_an_invoice_takes_what_it_names_and_leaves_the_rest() -> None:
    spent = msgspec.structs.replace(
        SPENT,
        coupons=(CouponUsed(redemption="r", coupon="k", name="k", amount="", amount_minor=3),),
        credits=(CreditUsed(source="cn_1", number="", amount="", amount_minor=4),),
        extras=("e",),
        carried_minor=7,
    )
    held = Holdings(
        redemptions=(redemption(percent=Decimal(10)),), credits=(CREDIT,), extras=(EXTRA,)
    )
    after = after_invoice(spent, held)
    assert [(one.used_minor, one.invoices) for one in after.redemptions] == [(3, 1)]
    assert [(one.source, one.left_minor) for one in after.credits] == [("cn_1", 6), ("inv_1", 7)]
    assert [one.invoice for one in after.extras] == ["inv_1"]
    with pytest.raises(Conflict, match="billed already"):
        after_invoice(spent, msgspec.structs.replace(held, extras=after.extras))
    with pytest.raises(Corrupt, match="not there"):
        after_invoice(spent, Holdings())


def test_a_credit_is_never_below_nothing_nor_above_what_it_was() -> None:
    assert drawn(CREDIT, 10).left_minor == 0
    for amount in (11, -1):
        with pytest.raises(Conflict):
            drawn(CREDIT, amount)
    assert withdrawn(CREDIT).left_minor == 0
    with pytest.raises(Conflict, match="is used"):
        withdrawn(drawn(CREDIT, 1))
