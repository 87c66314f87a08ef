"""What the overview says about money, by currency: what is owed, what is held, what recurs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.entitlement.recurrence import parse_interval
from tallybook.catalog.plan import Phase, priced
from tallybook.catalog.price import Price
from tallybook.catalog.subscription import (
    Subscription,
    own_prices,
    state_at,
    timeline,
    units,
)
from tallybook.compose import World
from tallybook.invoice.ports import InvoiceHead, StoredDraft
from tallybook.invoice.state import shown_as
from tallybook.kernel.decimals import EXACT, divide
from tallybook.kernel.money import money_text, to_minor
from tallybook.kernel.period import Period, zone
from tallybook.kernel.timestamps import DAY_US
from tallybook.rate.fee import rate_fee
from tallybook.settle.receivable.ports import KindBalance

HEADS_MAX = 5000
"""Overdue invoices, and drafts, that are added up; beyond them the page says 'at least'."""
MONTH_DAYS = Decimal("30.436875")
"""Days of a mean Gregorian month."""


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """One currency at a glance; amounts are texts.

    Attributes:
        late: something is overdue.
        receivable: what customers owe; overdue: of it, past its due date.
        drafts: what waits to be finalized.
        recurring: fixed fees of what is active, as one month's.
        credit: what customers can use for invoices to come.
        prepaid: what wallets hold.
        refund: what waits to be paid out.
    """

    currency: str
    late: bool
    receivable: str
    overdue: str
    drafts: str
    recurring: str
    credit: str
    prepaid: str
    refund: str


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """Money of all currencies, and how many documents it is about.

    Attributes:
        overdue, drafts: how many.
        more: there are more overdue invoices or drafts than were added up.
    """

    rows: list[Money]
    overdue: int
    drafts: int
    more: bool


def glance(world: World, tenant: str) -> Glance:
    """Return what the overview says about money."""
    now_us = world.clock.now_us()
    late = world.invoices.invoices(tenant, limit=HEADS_MAX, shown=shown_as("overdue", now_us))
    drafts = world.invoices.drafts.drafts(tenant, limit=HEADS_MAX)
    catalog = world.catalog.load(tenant)
    balances = world.settlements.kinds(tenant)
    sums = {
        "receivable": _balance(balances, "receivable", 1),
        "credit": _balance(balances, "credit", -1),
        "prepaid": _balance(balances, "prepaid", -1),
        "refund": _balance(balances, "refund", -1),
        "overdue": _open(late),
        "drafts": _drafted(drafts),
        "recurring": Counter(_recurring(tenant, _Held(catalog), now_us // DAY_US)),
    }
    codes = {code for one in sums.values() for code, minor in one.items() if minor}
    codes |= {one.currency for one in catalog.customers.values()} if not codes else set()
    return Glance(
        rows=[
            Money(
                currency=code,
                late=bool(sums["overdue"][code]),
                **{name: money_text(one[code], code) for name, one in sums.items()},
            )
            for code in sorted(codes)
        ],
        overdue=len(late),
        drafts=len(drafts),
        more=HEADS_MAX in {len(late), len(drafts)},
    )


def _balance(found: Iterable[KindBalance], kind: str, sign: int) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in found:
        if one.kind == kind:
            total[one.currency] += sign * one.balance_minor
    return total


def _open(heads: Iterable[InvoiceHead]) -> Counter[str]:
    total: Counter[str] = Counter()
    for head in heads:
        total[head.currency] += head.open_minor
    return total


def _drafted(drafts: Iterable[StoredDraft]) -> Counter[str]:
    total: Counter[str] = Counter()
    for draft in drafts:
        total[draft.head.currency] += draft.head.total_minor
    return total


class _Held:
    """A catalog as a key of a cache: the same while it is the one that was read before."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def __hash__(self) -> int:
        return id(self.catalog)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and other.catalog is self.catalog


@lru_cache(maxsize=8)
def _recurring(tenant: str, held: _Held, day: int) -> dict[str, int]:
    """Return `recurring` of the end of a day; the same catalog and day are worked out once."""
    del tenant
    return recurring(held.catalog, (day + 1) * DAY_US - 1)


def recurring(catalog: Catalog, at_us: int) -> dict[str, int]:
    """Return one month's worth of the fixed fees of everything active at an instant.

    By currency, in minor units. Usage, coupons, commitments and taxes are left out.
    """
    total: dict[str, Decimal] = {}
    for one in catalog.subscriptions.values():
        base = catalog.subscriptions.get(one.base)
        if not catalog.live("subscription", one.key):
            continue
        if state_at(one, at_us, base) not in {"active", "cancelled"}:
            continue
        currency = catalog.customer(one.customer).currency
        monthly = _monthly(catalog, one, base, currency, at_us)
        total[currency] = EXACT.add(total.get(currency, Decimal(0)), monthly)
    return {code: to_minor(amount, code) for code, amount in total.items()}


def _monthly(
    catalog: Catalog, one: Subscription, base: Subscription | None, currency: str, at_us: int
) -> Decimal:
    place = catalog.customer(one.customer).zone

    def phases(key: str, version: int | None, _at_us: int) -> Sequence[Phase]:
        return catalog.plan(key, version).phases

    found = Decimal(0)
    for stretch in timeline(one, phases, place, base):
        if stretch.start_us <= at_us and (stretch.end_us is None or at_us < stretch.end_us):
            plan, own = catalog.plan(stretch.plan, stretch.plan_version), own_prices(one, at_us)
            for charge in priced(plan, stretch.phase, currency):
                if charge.meter is None and not charge.once:
                    told = units(one, charge.key, at_us, at_us + 1)
                    fee = _fee(
                        own.get(charge.key, charge.price), told[-1][1] if told else charge.quantity
                    )
                    found = EXACT.add(found, divide(fee, months(plan.interval_of(charge))))
    return found


def _fee(price: Price, count: Decimal) -> Decimal:
    """Return what so many units cost for a whole period."""
    whole = Period(0, 1)
    return rate_fee(price, "none", whole, whole, zone("UTC"), ((0, count),)).amount


def months(interval: str) -> Decimal:
    """Return how many months a period is; days and weeks by the mean month."""
    parsed = parse_interval("interval", interval)
    return EXACT.add(Decimal(parsed.months), divide(Decimal(parsed.days), MONTH_DAYS))
