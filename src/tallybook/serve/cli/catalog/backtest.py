"""`tallybook apply --backtest`: what a proposed catalog would have given for real history."""

from typing import TYPE_CHECKING

import click
import msgspec

from tallybook.serve.cli.common import DONE, Target, console, table

if TYPE_CHECKING:
    from rich.table import Table

TOML = {"Content-Type": "application/toml"}
CUSTOMERS_SHOWN = 50
WAIT_SECONDS = 3600


class Charge(msgspec.Struct, frozen=True):
    """One charge of one subscription, with both catalogs."""

    subscription: str
    plan: str
    charge: str
    name: str
    present_quantity: str
    proposed_quantity: str
    present: str
    proposed: str
    difference: str
    difference_minor: int


class Compared(msgspec.Struct, frozen=True):
    """One customer, or all of a currency, with both catalogs."""

    customer: str
    name: str
    currency: str
    present: str
    proposed: str
    difference: str
    difference_minor: int
    charges: list[Charge] = []


class Failed(msgspec.Struct, frozen=True):
    """A customer that one of the catalogs cannot price."""

    customer: str
    side: str
    code: str
    message: str


class Backtest(msgspec.Struct, frozen=True):
    """What a proposed catalog changes for a span of time."""

    start: str
    end: str
    changes: list[str]
    totals: list[Compared]
    customers: list[Compared]
    failed: list[Failed] = []


def show_backtest(target: Target, content: bytes, span: tuple[str, str], *, prune: bool) -> int:
    """Ask for a backtest and show it: who pays what more, the largest difference first."""
    params = {"from": span[0], "to": span[1]} | ({"prune": "true"} if prune else {})
    with target.client() as client:
        path = "/api/v1/catalog/backtest"
        answer = client.raw(
            "POST",
            path,
            content=content,
            headers=TOML,
            params=params,
            timeout_seconds=WAIT_SECONDS,
        )
    if target.json:
        click.echo(msgspec.json.format(answer.content, indent=2).decode())
        return DONE
    found = msgspec.json.decode(answer.content, type=Backtest)
    for line in found.changes or ["Everything is as declared; nothing would change."]:
        click.echo(line)
    console().print(compared_table(found))
    for failed in found.failed:
        click.echo(f"not priced: {failed.customer} ({failed.side}): {failed.message}")
    return DONE


def compared_table(found: Backtest) -> "Table":
    """Return who would have paid what: charges that differ, customers, totals."""
    differing = [one for one in found.customers if one.difference_minor]
    differing.sort(key=lambda one: (-abs(one.difference_minor), one.customer))
    rows: list[tuple[object, ...]] = []
    for one in differing[:CUSTOMERS_SHOWN]:
        rows.append((one.customer, "", "", "", *_amounts(one), one.currency))
        rows += [_charge_row(charge) for charge in one.charges if _differs(charge)]
    for total in found.totals:
        rows.append(
            (f"{len(found.customers)} customers", "", "", "", *_amounts(total), total.currency)
        )
    hidden = len(differing) - CUSTOMERS_SHOWN
    more = f"; {hidden} more differ, --json shows all" if hidden > 0 else ""
    title = f"{found.start} to {found.end}, {len(differing)} customers differ{more}"
    numbers = ("units now", "units then", "present", "proposed", "difference")
    return table(("customer", "charge", *numbers, ""), rows, numbers=numbers, title=title)


def _differs(charge: Charge) -> bool:
    moved = charge.present_quantity != charge.proposed_quantity
    return moved or charge.difference_minor != 0


def _amounts(one: Compared | Charge) -> tuple[str, str, str]:
    sign = "+" if one.difference_minor > 0 else ""
    return one.present, one.proposed, f"{sign}{one.difference}"


def _charge_row(charge: Charge) -> tuple[object, ...]:
    what = f"{charge.subscription}: {charge.name}"
    return ("", what, charge.present_quantity, charge.proposed_quantity, *_amounts(charge), "")
