"""Invoices composed from a few figures: no stores, no events."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.coupon import Coupon
from tallybook.catalog.customer import Customer, Seller
from tallybook.catalog.entitlement import Wallet
from tallybook.catalog.meter import Meter
from tallybook.catalog.plan import Charge, Minimum, Plan, Proration, Share
from tallybook.catalog.price import FlatPrice, Price, UnitPrice
from tallybook.catalog.tax import Tax
from tallybook.invoice.document import MINIMUM, Draft, Facts, Invoice, compose
from tallybook.invoice.funds import CouponInHand, CreditInHand, Funds, WalletInHand
from tallybook.invoice.manifest import Billed, Extra, Item, Manifest, Position
from tallybook.invoice.rating import Fact
from tallybook.kernel.money import from_minor
from tallybook.kernel.period import parse_moment, zone


def at(text: str) -> int:
    """Return the instant of a date in UTC."""
    return parse_moment(text, zone("UTC"), "at")


START, END = at("2026-05-01"), at("2026-06-01")


class Fee(msgspec.Struct, frozen=True, kw_only=True):
    """A charge of May 2026 and what it comes to, in minor units.

    Attributes:
        minor: now, cumulated.
        before: amount and discount billed before; None for nothing.
        meter: usage where there is one, else a fixed fee.
        span: its period and its whole period, where not May.
        price: in place of one that comes to `minor`, with the units used.
        proration: of a fixed fee.
    """

    key: str
    minor: int
    plan: str = "web"
    meter: str | None = None
    taxes: tuple[str, ...] = ()
    before: tuple[int, int] | None = None
    shares: tuple[Share, ...] = ()
    customer: str = ""
    subscription: str = "sub"
    adjustment: bool = False
    span: tuple[int, int, int, int] | None = None
    price: Price | None = None
    used: Decimal = Decimal(1)
    proration: Proration = "none"


def item_of(fee: Fee) -> Item:
    """Return the item of a fee."""
    start, end, full_start, full_end = fee.span or (START, END, START, END)
    return Item(
        position=Position(fee.subscription, fee.key, start),
        plan=fee.plan,
        plan_version=1,
        end_us=end,
        full_start_us=full_start,
        full_end_us=full_end,
        until_us=end,
        meter=fee.meter,
        meter_version=None if fee.meter is None else 1,
        adjustment=fee.adjustment,
        before=() if fee.before is None else (billed(*fee.before),),
        customer=fee.customer,
        taxes=fee.taxes,
    )


def billed(minor: int, discount: int = 0) -> Billed:
    """Return what was billed before."""
    return Billed(
        group=(),
        amount_minor=minor,
        quantity="1" if minor else "0",
        events=0,
        digest="0",
        until_us=END,
        cut=1,
        invoice="inv_before",
        discount_minor=discount,
    )


def minimum_item(amount: str, before: int | None = None, **changes: object) -> Item:
    """Return the item of a commitment of the plan `web`."""
    item = item_of(Fee(key=MINIMUM, minor=0, before=None if before is None else (before, 0)))
    return msgspec.structs.replace(item, minimum=Decimal(amount), **changes)


def catalog_of(
    fees: Iterable[Fee], currency: str = "USD", minimum: Minimum | None = None
) -> Catalog:
    """Return a catalog in which fees come to their amounts."""
    charges: dict[str, dict[str, Charge]] = {"web": {}}
    meters = {}
    for fee in fees:
        amount = from_minor(fee.minor, currency)
        price: Price = FlatPrice(amount=amount)
        if fee.meter is not None:
            price = fee.price or UnitPrice(unit_amount=amount)
        charges.setdefault(fee.plan, {})[fee.key] = Charge(
            key=fee.key,
            name=fee.key,
            price=price,
            meter=fee.meter,
            proration=fee.proration,
            shares=fee.shares,
        )
        if fee.meter is not None:
            meters[fee.meter] = (Meter(key=fee.meter, event_type="t", aggregation="COUNT"),)
    plans = {
        key: (
            Plan(
                key=key,
                name=key,
                currency=currency,
                charges=tuple(of.values()),
                minimum=minimum if key == "web" else None,
            ),
        )
        for key, of in charges.items()
    }
    return Catalog(plans=plans, meters=meters)


def facts_of(fees: Iterable[Fee]) -> Facts:
    """Return the usage of each metered fee, one unit where it says nothing."""
    return {
        item_of(fee).position: {(): Fact(fee.used, 1, 1)} for fee in fees if fee.meter is not None
    }


def manifest_of(
    items: Sequence[Item] = (),
    extras: Sequence[Extra] = (),
    *,
    funds: Funds | None = None,
    taxes: Sequence[Tax] = (),
    customer: Customer | None = None,
    members: Sequence[Customer] = (),
    seller: Seller | None = None,
    currency: str = "USD",
) -> Manifest:
    """Return a manifest of a first invoice."""
    return Manifest(
        tenant="default",
        run="run_1",
        request="2026-05",
        sequence=1,
        prior=None,
        customer=customer or Customer(key="acme", name="Acme", currency=currency),
        seller=seller or Seller(),
        currency=currency,
        cut=7,
        catalog_version=1,
        issued_us=END,
        due_us=END,
        tz="2026.1",
        items=tuple(items),
        extras=tuple(extras),
        funds=funds or Funds(),
        taxes=tuple(taxes),
        members=tuple(members),
    )


def drafted(
    fees: Sequence[Fee] = (),
    extras: Sequence[Extra] = (),
    *,
    items: Sequence[Item] = (),
    minimum: Minimum | None = None,
    funds: Funds | None = None,
    taxes: Sequence[Tax] = (),
    customer: Customer | None = None,
    members: Sequence[Customer] = (),
    seller: Seller | None = None,
    currency: str = "USD",
) -> Draft | None:
    """Return the invoice of fees, one-offs and other items; None where there is none."""
    manifest = manifest_of(
        [*(item_of(fee) for fee in fees), *items],
        extras,
        funds=funds,
        taxes=taxes,
        customer=customer,
        members=members,
        seller=seller,
        currency=currency,
    )
    return compose(manifest, catalog_of(fees, currency, minimum), facts_of(fees))


def invoiced(
    fees: Sequence[Fee] = (),
    extras: Sequence[Extra] = (),
    *,
    items: Sequence[Item] = (),
    minimum: Minimum | None = None,
    funds: Funds | None = None,
    taxes: Sequence[Tax] = (),
    customer: Customer | None = None,
    members: Sequence[Customer] = (),
    seller: Seller | None = None,
    currency: str = "USD",
) -> Invoice:
    """Return the invoice of fees, one-offs and other items, which is there."""
    draft = drafted(
        fees,
        extras,
        items=items,
        minimum=minimum,
        funds=funds,
        taxes=taxes,
        customer=customer,
        members=members,
        seller=seller,
        currency=currency,
    )
    assert draft is not None
    return draft.invoice


def one_off(
    minor: int, name: str = "x1", taxes: tuple[str, ...] | None = None, currency: str = "USD"
) -> Extra:
    """Return a one-off charge of May."""
    amount = from_minor(minor, currency)
    return Extra(id=name, name=name, amount=amount, start_us=START, end_us=END, taxes=taxes)


def percent_off(percent: str, **changes: object) -> CouponInHand:
    """Return a coupon of a percentage, forever."""
    coupon = Coupon(key="c", name="c", percent=Decimal(percent), duration="forever")
    return CouponInHand(redemption="r1", coupon=msgspec.structs.replace(coupon, **changes))


def amount_off(minor: int, currency: str = "USD", **changes: object) -> CouponInHand:
    """Return a coupon of an amount that counts once."""
    coupon = Coupon(key="c", name="c", amount=from_minor(minor, currency), currency=currency)
    return CouponInHand(redemption="r1", coupon=msgspec.structs.replace(coupon, **changes))


def in_turn(coupons: Iterable[CouponInHand]) -> tuple[CouponInHand, ...]:
    """Return coupons as redeemed one after the other."""
    return tuple(
        msgspec.structs.replace(hand, redemption=f"r{number}", redeemed_us=number)
        for number, hand in enumerate(coupons, 1)
    )


def credits_of(*minors: int) -> tuple[CreditInHand, ...]:
    """Return credits, oldest first."""
    return tuple(
        CreditInHand(source=f"crn_{n}", number=f"CRN-{n:06}", left_minor=minor, at_us=n)
        for n, minor in enumerate(minors, 1)
    )


def wallet_of(
    minor: int, key: str = "w1", only: Sequence[str] = (), priority: int = 1, since_us: int = 0
) -> WalletInHand:
    """Return a wallet of US dollars."""
    wallet = Wallet(key=key, customer="acme", currency="USD", only=tuple(only), priority=priority)
    return WalletInHand(wallet=wallet, balance=from_minor(minor, "USD"), since_us=since_us)


def tax_of(text: str) -> Tax:
    """Return the tax that '10' (added) or '19i' (contained) stands for."""
    rate = Decimal(text.removesuffix("i"))
    category = "S" if rate else "Z"
    return Tax(key=text, name=text, rate=rate, inclusive=text.endswith("i"), category=category)
