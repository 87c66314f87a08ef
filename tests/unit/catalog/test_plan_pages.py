"""Every row of docs/algorithms/plans.md is recomputed."""

import re
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tallybook.catalog.catalog import Catalog, Entry, with_entries
from tallybook.catalog.check import check_references
from tallybook.catalog.customer import Customer
from tallybook.catalog.document import parse_document
from tallybook.catalog.plan import Charge, Plan, commitment, priced, thresholds
from tallybook.catalog.price import FlatPrice, UnitPrice
from tallybook.catalog.subscription import Subscription
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Conflict, Missing
from tallybook.kernel.period import parse_moment, zone

PAGE = Path(__file__).resolve().parents[3] / "docs" / "algorithms" / "plans.md"
NONE = "–"
SAMPLE = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
(TEAM,) = parse_document(SAMPLE).plans
FEE = Charge(key="fee", name="Fee", price=FlatPrice(Decimal(1)))


def table(first: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading."""
    rows, inside = [], False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and not cells[0].startswith("---"):
            rows.append(cells)
    assert rows, first
    return rows


def at(text: str) -> int:
    return parse_moment(text, zone("UTC"), "at")


def made(kind: str = "plan", **fields: object) -> Plan:
    plan = Plan(key="p", name="p", currency="USD", charges=(FEE,))
    return msgspec.structs.replace(plan, kind=kind, **fields)


@pytest.mark.parametrize("row", table("versions, with their effective dates"), ids=str)
def test_the_version_that_a_period_is_opened_with(row: list[str]) -> None:
    versions, start, expected = row
    plans = []
    for text in versions.split(","):
        number, _, since = text.strip().partition(" from ")
        effective = at(since) if since else None
        plans.append(made(version=int(number), effective_us=effective))
    catalog = with_entries(Catalog(), plans)
    if expected == "none":
        with pytest.raises(Missing, match="not in effect"):
            catalog.plan_at("p", at(start))
        customer = Customer(key="c", name="c", currency="USD")
        early = Subscription(key="s", customer="c", plan="p", start_us=at(start))
        with pytest.raises(Conflict, match="subscription s: plan 'p' is not in effect"):
            check_references(with_entries(catalog, [customer, early]))
        return
    assert catalog.plan_at("p", at(start)).version == int(expected)


def test_a_plan_that_is_not_there_has_no_version() -> None:
    with pytest.raises(Missing, match="no plan 'p'"):
        Catalog().plan_at("p", 0)


@pytest.mark.parametrize("row", table("phase"), ids=str)
def test_the_price_in_a_phase_and_a_currency(row: list[str]) -> None:
    phase, currency, *amounts = row
    found = {}
    for charge in priced(TEAM, "" if phase == NONE else phase, currency):
        price = charge.price
        assert isinstance(price, FlatPrice | UnitPrice)
        found[charge.key] = price.amount if isinstance(price, FlatPrice) else price.unit_amount
    texts = [plain(found[key]) if key in found else NONE for key in ("seats", "calls")]
    assert texts == amounts


@pytest.mark.parametrize("row", table("in phase"), ids=str)
def test_the_commitment_in_a_phase_and_a_currency(row: list[str]) -> None:
    phase, currency, amount, rising = row
    found = commitment(TEAM, "" if phase == NONE else phase, currency)
    assert (NONE if found is None else plain(found.amount)) == amount
    assert ", ".join(plain(one) for one in thresholds(TEAM, currency)) == rising


def test_what_is_left_out_is_the_plans_own() -> None:
    assert priced(TEAM) == priced(TEAM, "", "USD") == TEAM.charges
    assert commitment(TEAM) == commitment(TEAM, "", "USD")
    assert commitment(made()) is None
    assert thresholds(TEAM) == (Decimal(500), Decimal(1000))


def test_a_phase_without_a_commitment_of_its_own_has_the_plans() -> None:
    trial = msgspec.structs.replace(TEAM.phases[0], charges=("calls",))
    plan = msgspec.structs.replace(TEAM, phases=(trial,))
    assert commitment(plan, "trial") == commitment(plan)
    every = msgspec.structs.replace(trial, charges=None)
    assert commitment(msgspec.structs.replace(TEAM, phases=(every,)), "trial") == commitment(plan)
    free = msgspec.structs.replace(TEAM.phases[1].minimum, amount=Decimal(0))  # type: ignore[type-var]
    phase = msgspec.structs.replace(TEAM.phases[1], minimum=free)
    assert commitment(msgspec.structs.replace(TEAM, phases=(phase,)), "ramp") is None


def test_a_phase_or_currency_that_a_plan_does_not_have_is_refused() -> None:
    with pytest.raises(Missing, match="no phase 'later'"):
        priced(TEAM, "later")
    for asked in (priced, commitment):
        with pytest.raises(Missing, match="not sold in GBP, only in USD, EUR"):
            asked(TEAM, "", "GBP")
    with pytest.raises(Missing, match="not sold in GBP"):
        thresholds(TEAM, "GBP")


BASES = {
    NONE: "",
    "main": "main",
    "other": "other",
    "another add-on": "extra2",
    "another customer's": "theirs",
}


@pytest.mark.parametrize("row", table("subscription"), ids=str)
def test_an_add_on_belongs_to_a_plan_of_the_same_customer(row: list[str]) -> None:
    key, kind, base, verdict = row
    entries: list[Entry] = [
        made(),
        made("add-on", key="a"),
        Customer(key="c", name="c", currency="USD"),
        Customer(key="d", name="d", currency="USD"),
    ]
    for name, owner, plan, under in (
        ("main", "c", "p", ""),
        ("other", "c", "p", ""),
        ("extra2", "c", "a", "other"),
        ("theirs", "d", "p", ""),
        (key, "c", "p" if kind == "plan" else "a", BASES[base]),
    ):
        entries.append(Subscription(key=name, customer=owner, plan=plan, start_us=0, base=under))
    catalog = with_entries(Catalog(), entries)
    if verdict == "right":
        check_references(catalog)
        return
    with pytest.raises(Conflict, match=f"subscription {key}: ") as caught:
        check_references(catalog)
    assert caught.value.field == "base"


@pytest.mark.parametrize("row", table("customer"), ids=str)
def test_a_parent_pays_for_one_level(row: list[str]) -> None:
    key, parent, pays = row
    rows = {name: "" if above == NONE else above for name, above, _ in table("customer")[:2]}
    rows |= {key: "" if parent == NONE else parent}
    customers = [
        Customer(key=name, name=name, currency="USD", parent=above) for name, above in rows.items()
    ]
    catalog = with_entries(Catalog(), customers)
    if pays == "refused":
        with pytest.raises(Conflict, match=f"{key}: parent"):
            check_references(catalog)
        return
    check_references(catalog)
    assert catalog.payer(key).key == pays
