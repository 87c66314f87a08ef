"""Laws of an invoice, for any lines, coupons, taxes, credits, wallets and shares."""

from decimal import Decimal
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tallybook.catalog.coupon import Coupon
from tallybook.catalog.customer import Customer
from tallybook.catalog.entitlement import Wallet, covers_minor
from tallybook.catalog.plan import Minimum, Share
from tallybook.invoice.document import Draft, compose, encode_invoice, with_number
from tallybook.invoice.document.number import decode_invoice
from tallybook.invoice.funds import CouponInHand, CreditInHand, Funds, WalletInHand
from tallybook.invoice.line import Line
from tallybook.invoice.manifest import Manifest
from tallybook.kernel.money import allocate, rounded_parts
from tests.support.composing import (
    Fee,
    amount_off,
    catalog_of,
    drafted,
    facts_of,
    invoiced,
    item_of,
    manifest_of,
    minimum_item,
    one_off,
    tax_of,
)

TAXES = ("0", "5", "8.25", "19", "7i", "19i")
MEMBERS = tuple(Customer(key=key, name=key.upper(), currency="USD") for key in ("kid", "son"))
MINORS = st.integers(-20_000, 60_000)
KEYS = st.lists(st.sampled_from(TAXES), max_size=3, unique=True).map(tuple)
SHARES = st.lists(st.tuples(st.sampled_from("abc"), st.decimals(0, 33, places=2)), max_size=3).map(
    lambda pairs: tuple(Share(party, percent) for party, percent in pairs)
)


@st.composite
def fees(draw: st.DrawFn) -> list[Fee]:
    """Return charges, some billed before and now less, some of other customers."""
    found = []
    for number in range(draw(st.integers(0, 6))):
        before = draw(st.integers(0, 30_000))
        minor = draw(st.integers(0, 60_000))
        discount = draw(st.integers(0, before))
        found.append(
            Fee(
                key=f"f{number}",
                minor=minor,
                meter=draw(st.sampled_from([None, "m1", "m2"])),
                plan=draw(st.sampled_from(["web", "app"])),
                taxes=draw(KEYS),
                before=draw(st.sampled_from([None, (before, discount)])),
                shares=draw(SHARES),
                customer=draw(st.sampled_from(["", "kid", "son"])),
            )
        )
    return found


@st.composite
def coupons(draw: st.DrawFn) -> CouponInHand:
    """Return a coupon of any kind."""
    percent = draw(st.none() | st.decimals(1, 100, places=1))
    limits = st.lists(st.sampled_from(["web", "m1", "f0", "f1"]), max_size=2).map(tuple)
    coupon = Coupon(
        key="c",
        name="c",
        percent=percent,
        amount=None if percent is not None else draw(st.decimals("0.01", 900, places=2)),
        currency="" if percent is not None else draw(st.sampled_from(["USD", "EUR"])),
        duration=draw(st.sampled_from(["once", "recurring", "forever"])),
        plans=draw(limits),
        meters=draw(limits),
        charges=draw(limits),
    )
    return CouponInHand(
        redemption=draw(st.uuids()).hex,
        coupon=coupon,
        left_minor=draw(st.none() | st.integers(0, 5000)),
        invoices_left=draw(st.none() | st.integers(0, 3)),
        redeemed_us=draw(st.integers(0, 3)),
    )


@st.composite
def wallets(draw: st.DrawFn, key: str) -> WalletInHand:
    """Return a wallet of money or units."""
    unit = draw(st.sampled_from(["", "credits"]))
    wallet = Wallet(
        key=key,
        customer="acme",
        currency=draw(st.sampled_from(["USD", "USD", "JPY"])),
        unit=unit,
        rate=draw(st.decimals("0.001", 20, places=3)) if unit else Decimal(1),
        priority=draw(st.integers(1, 2)),
        only=draw(st.sampled_from([(), ("usage",), ("fee", "one-off")])),
    )
    balance = draw(st.decimals(0, 500, places=3))
    return WalletInHand(wallet=wallet, balance=balance, since_us=draw(st.integers(0, 2)))


@st.composite
def funds(draw: st.DrawFn) -> Funds:
    """Return funds of any kind."""
    credited = draw(st.lists(st.integers(0, 20_000), max_size=3))
    return Funds(
        version=3,
        coupons=tuple(draw(st.lists(coupons(), max_size=4, unique_by=lambda c: c.redemption))),
        credits=tuple(
            CreditInHand(source=f"s{n}", number=f"N-{n}", left_minor=minor, at_us=n % 2)
            for n, minor in enumerate(credited)
        ),
        wallets=tuple(draw(wallets(f"w{n}")) for n in range(draw(st.integers(0, 3)))),
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Manifest, list[Fee]]:
    """Return a manifest and its charges."""
    charged = draw(fees())
    extras = [
        replace(
            one_off(draw(MINORS), f"x{n}", draw(st.none() | KEYS)),
            shares=draw(SHARES),
            customer=draw(st.sampled_from(["", "kid"])),
        )
        for n in range(draw(st.integers(0, 2)))
    ]
    manifest = manifest_of(
        [*(item_of(fee) for fee in charged), minimum_item(str(draw(st.integers(0, 900))))],
        extras,
        funds=draw(funds()),
        taxes=[tax_of(key) for key in TAXES],
        customer=Customer(key="acme", name="Acme", currency="USD", taxes=("8.25",)),
        members=MEMBERS,
    )
    return manifest, charged


def composed(world: tuple[Manifest, list[Fee]]) -> Draft | None:
    manifest, charged = world
    return compose(manifest, catalog_of(charged), facts_of(charged))


def inclusive(line: Line) -> int:
    return sum(part.amount_minor for part in line.taxes if part.tax.endswith("i"))


@settings(max_examples=80)
@given(worlds())
def test_an_invoice_adds_up(world: tuple[Manifest, list[Fee]]) -> None:
    draft = composed(world)
    if draft is None:
        return
    found = draft.invoice
    nets = sum(line.net_minor for line in found.lines)
    added = sum(tax.amount_minor for tax in found.taxes if not tax.inclusive)
    assert found.total_minor == nets + added
    for tax in found.taxes:
        parts = [p.amount_minor for line in found.lines for p in line.taxes if p.tax == tax.tax]
        assert sum(parts) == tax.amount_minor
    discounts = sum(line.discount_minor for line in found.lines)
    assert discounts == found.discount_minor - found.taken_back_minor
    assert found.discount_minor == sum(used.amount_minor for used in found.discounts)
    for line in found.lines:
        assert line.base_minor == line.net_minor - inclusive(line)
        low, high = sorted((0, line.amount_minor))
        assert low <= line.discount_minor <= high
        assert abs(sum(share.amount_minor for share in line.shares)) <= abs(line.base_minor)
    assert found.shares == tuple(sorted(found.shares, key=lambda share: share.party))
    assert sum(share.amount_minor for share in found.shares) == sum(
        share.amount_minor for line in found.lines for share in line.shares
    )


@settings(max_examples=80)
@given(worlds())
def test_nothing_is_paid_twice_and_nothing_is_below_zero(
    world: tuple[Manifest, list[Fee]],
) -> None:
    draft = composed(world)
    if draft is None:
        return
    found = draft.invoice
    credits_minor = sum(used.amount_minor for used in found.credits)
    prepaid = sum(used.amount_minor for used in found.prepaid)
    assert found.payable_minor >= 0 <= found.carried_minor
    assert found.total_minor == credits_minor + prepaid + found.payable_minor - found.carried_minor
    if found.total_minor <= 0:
        assert not found.credits
        assert not found.prepaid
    for used in (*found.discounts, *found.credits, *found.prepaid):
        assert used.amount_minor > 0
    hands = {hand.wallet.key: hand for hand in found.manifest.funds.wallets}
    for drawn in found.prepaid:
        hand = hands[drawn.wallet]
        assert drawn.amount_minor <= covers_minor(hand.wallet, hand.balance)
        assert Decimal(drawn.units) <= hand.balance
        if hand.wallet.only:
            kinds = [line for line in found.lines if line.kind in hand.wallet.only]
            tax = {tax.tax for tax in found.taxes if not tax.inclusive}
            gross = [
                line.net_minor + sum(p.amount_minor for p in line.taxes if p.tax in tax)
                for line in kinds
            ]
            assert drawn.amount_minor <= sum(max(minor, 0) for minor in gross)
    left = {c.source: c.left_minor for c in found.manifest.funds.credits}
    assert all(used.amount_minor <= left[used.source] for used in found.credits)


@settings(max_examples=80)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_what_is_read_does_not_matter(
    world: tuple[Manifest, list[Fee]], random: Random
) -> None:
    manifest, charged = world
    orders = [list(getattr(manifest.funds, name)) for name in ("coupons", "credits", "wallets")]
    extras = list(manifest.extras)
    for one in (*orders, extras):
        random.shuffle(one)
    mixed = Funds(
        version=3, coupons=tuple(orders[0]), credits=tuple(orders[1]), wallets=tuple(orders[2])
    )
    other = composed((replace(manifest, funds=mixed, extras=tuple(extras)), charged))
    assert other == composed(world)


@settings(max_examples=80)
@given(worlds())
def test_an_invoice_is_made_again_from_its_own_manifest(
    world: tuple[Manifest, list[Fee]],
) -> None:
    draft = composed(world)
    if draft is None:
        return
    again = composed((draft.invoice.manifest, world[1]))
    assert again is not None
    assert encode_invoice(again.invoice) == encode_invoice(draft.invoice)
    body = encode_invoice(with_number(draft, 42))
    assert encode_invoice(decode_invoice(body)) == body


@settings(max_examples=50)
@given(worlds())
def test_the_lines_of_a_member_stand_together(world: tuple[Manifest, list[Fee]]) -> None:
    draft = composed(world)
    if draft is None:
        return
    found = draft.invoice
    assert [line.position for line in found.lines] == list(range(1, len(found.lines) + 1))
    order = [line.customer for line in found.lines]
    assert order == sorted(order)
    told = found.members
    if {line.customer for line in found.lines} == {""}:
        assert told == ()
        return
    assert [one.customer for one in told] == sorted(set(order))
    assert sum(one.net_minor + one.tax_minor for one in told) == found.total_minor
    assert sum(one.lines for one in told) == len(found.lines)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=6), st.integers(0, 900))
def test_billing_in_parts_is_billing_once(cumulated: list[int], committed: int) -> None:
    """Any number of invoices over one position and its commitment add up to one."""
    sums = {"fee": 0, "minimum": 0}
    before, minimum_before = None, None
    for minor in cumulated:
        fee = Fee(key="fee", minor=minor, before=None if before is None else (before, 0))
        draft = drafted([fee], items=[minimum_item(str(committed), minimum_before)])
        for line in () if draft is None else draft.invoice.lines:
            sums[line.kind] += line.amount_minor
        before, minimum_before = minor, max(committed * 100 - minor, 0)
    once = drafted([Fee(key="fee", minor=cumulated[-1])], items=[minimum_item(str(committed))])
    wanted = {"fee": 0, "minimum": 0}
    for line in () if once is None else once.invoice.lines:
        wanted[line.kind] += line.amount_minor
    assert sums == wanted
    assert sum(sums.values()) == max(cumulated[-1], committed * 100)


@settings(max_examples=50)
@given(st.integers(1, 50_000), st.integers(0, 100), st.lists(st.integers(0, 50_000), max_size=5))
def test_a_credit_of_everything_gives_back_what_was_paid(
    first: int, percent: int, course: list[int]
) -> None:
    """However a position rises and falls, at zero the customer has paid nothing."""
    hand = amount_off(first * percent // 100) if percent else None
    paid, before = 0, None
    for step, minor in enumerate([first, *course, 0]):
        coupon = (hand,) if hand is not None and step == 0 else ()
        fee = Fee(key="fee", minor=minor, before=before)
        draft = drafted([fee], funds=Funds(coupons=coupon))
        if draft is None:
            continue
        paid += draft.invoice.total_minor
        (line,) = draft.lines
        before = (line.billed.amount_minor, line.billed.discount_minor)
    assert paid == 0


@settings(max_examples=80)
@given(
    st.lists(st.integers(-(10**12), 10**12), max_size=8),
    st.integers(1, 10**6),
)
def test_rounded_parts_add_up(numerators: list[int], denominator: int) -> None:
    for found in (numerators, [*numerators, -sum(numerators)]):
        assert_split(found, denominator)


def assert_split(numerators: list[int], denominator: int) -> None:
    parts = rounded_parts(numerators, denominator)
    total = sum(numerators)
    assert abs(2 * (sum(parts) * denominator - total)) <= denominator
    for part, numerator in zip(parts, numerators, strict=True):
        assert abs(part * denominator - numerator) < denominator
    assert rounded_parts([-n for n in numerators], denominator) == [-part for part in parts]


@given(st.integers(-(10**9), 10**9), st.lists(st.integers(0, 1000), min_size=1, max_size=6))
def test_both_ways_of_splitting_agree(amount: int, weights: list[int]) -> None:
    if sum(weights) == 0:
        return
    numerators = [amount * weight for weight in weights]
    assert rounded_parts(numerators, sum(weights)) == allocate(amount, weights)


def test_a_minimum_names_the_charges_that_count() -> None:
    found = invoiced(
        [Fee(key="a", minor=100), Fee(key="b", minor=200)],
        items=[minimum_item("10")],
        minimum=Minimum(amount=Decimal(10), name="Floor", charges=("a",)),
    )
    (line,) = [one for one in found.lines if one.kind == "minimum"]
    assert (line.name, line.amount) == ("Floor", "9.00")
