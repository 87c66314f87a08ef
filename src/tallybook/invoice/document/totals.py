"""The invoice of finished lines: sums, parties, and what funds pay.

Source: docs/algorithms/invoice-totals.md
"""

from collections.abc import Sequence
from functools import lru_cache

from tallybook.catalog.customer import Customer, Seller
from tallybook.invoice.document.discount import Discounted
from tallybook.invoice.document.funding import Due, credits_used, wallets_used
from tallybook.invoice.document.invoice import Invoice, MemberTotal, Party
from tallybook.invoice.document.shares import share_totals
from tallybook.invoice.document.taxation import Taxed
from tallybook.invoice.line import Line
from tallybook.invoice.manifest import Manifest
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import format_us

DRAFT_NUMBER = "DRAFT"


def invoice_of(
    manifest: Manifest,
    identity: str,
    lines: Sequence[Line],
    discounts: Discounted,
    taxes: Taxed,
) -> Invoice:
    """Return the invoice that lines make.

    Args:
        manifest: with what the lines depend on.
        identity: of the invoice.
        lines: finished, at least one.
        discounts, taxes: of these lines.
    """
    currency = manifest.currency
    subtotal = sum(line.amount_minor for line in lines)
    discount = sum(used.amount_minor for used in discounts.used)
    taken_back = discount - sum(discounts.by_line)
    tax = sum(taxes.added)
    total = subtotal - discount + taken_back + tax
    credited = credits_used(total, manifest.funds.credits, currency)
    due = total - sum(used.amount_minor for used in credited)
    gross = [
        Due(line.kind, line.net_minor + added)
        for line, added in zip(lines, taxes.added, strict=True)
    ]
    prepaid = wallets_used(due, gross, manifest.funds.wallets, currency)
    payable = max(due, 0) - sum(used.amount_minor for used in prepaid)
    current = [line for line in lines if not line.adjustment] or lines
    seller, customer = manifest.seller, manifest.customer
    return Invoice(
        id=identity,
        number=DRAFT_NUMBER,
        series=seller.series,
        issued=_instant(manifest.issued_us),
        due=_instant(manifest.due_us),
        seller=_party(seller),
        customer_key=customer.key,
        customer=_party(customer),
        locale=customer.locale,
        zone=customer.zone,
        currency=currency,
        period_start=min(line.period_start for line in current),
        period_end=max(line.until for line in current),
        lines=tuple(lines),
        subtotal=money_text(subtotal, currency),
        subtotal_minor=subtotal,
        discounts=discounts.used,
        discount_minor=discount,
        taken_back=money_text(taken_back, currency),
        taken_back_minor=taken_back,
        taxes=taxes.totals,
        tax_minor=tax,
        total=money_text(total, currency),
        total_minor=total,
        credits=credited,
        prepaid=prepaid,
        carried=money_text(max(-total, 0), currency),
        carried_minor=max(-total, 0),
        payable=money_text(payable, currency),
        payable_minor=payable,
        notes=seller.notes,
        manifest=manifest,
        reference=customer.reference,
        replaces=manifest.replaces,
        bank=seller.bank,
        terms=seller.terms,
        members=_members(manifest, lines, taxes.added),
        shares=share_totals((line.shares for line in lines), currency),
    )


_instant = lru_cache(maxsize=256)(format_us)
"""A run's invoices have one date."""


def _party(who: Seller | Customer) -> Party:
    return Party(
        name=who.name,
        address=who.address,
        email=who.email,
        tax_id=who.tax_id,
        place=who.place,
    )


def _members(
    manifest: Manifest, lines: Sequence[Line], added: Sequence[int]
) -> tuple[MemberTotal, ...]:
    """Return the sums of each customer's lines, in the order of the lines."""
    if not manifest.members:
        return ()
    names = {member.key: member.name for member in manifest.members}
    of_member: dict[str, list[int]] = {}
    for at, line in enumerate(lines):
        of_member.setdefault(line.customer, []).append(at)
    found = []
    for key, places in of_member.items():
        own = [lines[at] for at in places]
        name = names[key] if key else manifest.customer.name
        found.append(_member(key, name, own, sum(added[at] for at in places), manifest.currency))
    return tuple(found)


def _member(
    key: str, name: str, lines: Sequence[Line], tax_minor: int, currency: str
) -> MemberTotal:
    subtotal = sum(line.amount_minor for line in lines)
    discount = sum(line.discount_minor for line in lines)
    return MemberTotal(
        customer=key,
        name=name,
        lines=len(lines),
        subtotal=money_text(subtotal, currency),
        subtotal_minor=subtotal,
        discount=money_text(discount, currency),
        discount_minor=discount,
        net=money_text(subtotal - discount, currency),
        net_minor=subtotal - discount,
        tax=money_text(tax_minor, currency),
        tax_minor=tax_minor,
    )
