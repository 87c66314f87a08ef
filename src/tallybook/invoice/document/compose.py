"""Compose: the invoice that a manifest makes.

Lines, then coupons, then taxes, then credits, then wallets. A function of manifest, catalog
versions and usage at the cut (guarantee 5).

Source: docs/algorithms/invoice-totals.md
"""

from collections.abc import Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.plan import Share
from tallybook.catalog.tax import Tax
from tallybook.invoice.document.commitment import cumulated, true_ups
from tallybook.invoice.document.discount import Discounted, coupon_order, discounted
from tallybook.invoice.document.extra import EXTRA, extra_lines, extra_order
from tallybook.invoice.document.funding import credit_order, wallet_order
from tallybook.invoice.document.invoice import Draft, Facts
from tallybook.invoice.document.shares import shared
from tallybook.invoice.document.taxation import Taxed, taxed, taxes_used
from tallybook.invoice.document.totals import invoice_of
from tallybook.invoice.due import MINIMUM
from tallybook.invoice.funds import Funds
from tallybook.invoice.line import Drafted, draft_lines
from tallybook.invoice.manifest import Item, Manifest, Position, invoice_id
from tallybook.kernel.ids import derived_id
from tallybook.kernel.money import money_text


def compose(manifest: Manifest, catalog: Catalog, facts: Facts) -> Draft | None:
    """Return the invoice that a manifest makes, or None where nothing differs from before.

    Args:
        manifest: what it has beyond what the lines depend on is left out of the invoice's own.
        catalog: holds every version that the items name.
        facts: usage at the manifest's cut.

    Raises:
        Missing: a plan, meter or tax that an item names is not there.
        Invalid: an amount is too large, or a price has none for some usage.

    Guarantees: composing the invoice's own manifest gives the same invoice.

    Cost: linear in lines, times coupons.
    """
    drafts, depended_on = _drafts(manifest, catalog, facts)
    if not drafts:
        return None
    currency = manifest.currency
    discounts = discounted(drafts, manifest.funds.coupons, currency)
    nets = [
        draft.line.amount_minor - discount
        for draft, discount in zip(drafts, discounts.by_line, strict=True)
    ]
    keys = [draft.item.taxes for draft in drafts]
    taxes = taxes_used(keys, manifest.taxes)
    kept = _kept(manifest, drafts, depended_on, taxes)
    found = taxed(nets, keys, taxes, currency)
    identity = invoice_id(kept)
    shares = _shares(manifest, catalog, drafts)
    lines = _finished(drafts, identity, discounts, found, shares, currency)
    invoice = invoice_of(kept, identity, [d.line for d in lines], discounts, found)
    return Draft(invoice=invoice, lines=tuple(lines))


def _drafts(
    manifest: Manifest, catalog: Catalog, facts: Facts
) -> tuple[list[Drafted], set[Position]]:
    """Return the lines, those of a customer together, and what they depend on besides."""
    zones = {"": manifest.customer.zone}
    zones.update((member.key, member.zone) for member in manifest.members)
    commitments = [item for item in manifest.items if item.position.charge == MINIMUM]
    charges = [item for item in manifest.items if item.position.charge != MINIMUM]
    by_item = {
        item.position: _of_item(item, manifest, catalog, facts, zones[item.customer])
        for item in charges
    }
    depended_on: set[Position] = set()
    if commitments:
        charged = [cumulated(item, by_item[item.position]) for item in charges]
        cut, currency = manifest.cut, manifest.currency
        for one in true_ups(commitments, charged, catalog, currency, cut, zones):
            by_item[one.line.item.position] = [one.line]
            depended_on.update(item.position for item in one.depends_on)
    drafts = [line for item in manifest.items for line in by_item.get(item.position, ())]
    drafts += extra_lines(manifest)
    if manifest.members:
        drafts.sort(key=lambda draft: draft.line.customer)
    return drafts, depended_on


def _of_item(
    item: Item, manifest: Manifest, catalog: Catalog, facts: Facts, zone_name: str
) -> list[Drafted]:
    plan = catalog.plan(item.plan, item.plan_version)
    meter = None if item.meter is None else catalog.meter(item.meter, item.meter_version)
    found, currency = facts.get(item.position, {}), manifest.currency
    return list(draft_lines(item, plan, meter, found, manifest.cut, zone_name, currency))


def _kept(
    manifest: Manifest,
    drafts: Sequence[Drafted],
    depended_on: set[Position],
    taxes: tuple[Tax, ...],
) -> Manifest:
    """Return the manifest with what the lines depend on, in an order of its own."""
    needed = depended_on.union(draft.item.position for draft in drafts)
    items = tuple(item for item in manifest.items if item.position in needed)
    funds = manifest.funds
    if funds.coupons or funds.credits or funds.wallets:
        funds = Funds(
            version=funds.version,
            coupons=tuple(sorted(funds.coupons, key=coupon_order)),
            credits=tuple(sorted(funds.credits, key=credit_order)),
            wallets=tuple(sorted(funds.wallets, key=wallet_order)),
        )
    members = manifest.members
    if members:
        used = {item.customer for item in items} | {extra.customer for extra in manifest.extras}
        members = tuple(member for member in members if member.key in used)
    return msgspec.structs.replace(
        manifest,
        items=items,
        extras=tuple(sorted(manifest.extras, key=extra_order)),
        funds=funds,
        taxes=taxes,
        members=members,
    )


def _shares(
    manifest: Manifest, catalog: Catalog, drafts: Sequence[Drafted]
) -> list[tuple[Share, ...]]:
    """Return whose part of each line is whose."""
    extras = {extra.id: extra.shares for extra in manifest.extras}
    found: list[tuple[Share, ...]] = []
    item: Item | None = None
    shares: tuple[Share, ...] = ()
    for draft in drafts:
        if draft.item is not item:
            item = draft.item
            shares = _item_shares(item, catalog, extras)
        found.append(shares)
    return found


def _item_shares(
    item: Item, catalog: Catalog, extras: dict[str, tuple[Share, ...]]
) -> tuple[Share, ...]:
    if item.position.subscription == EXTRA:
        return extras[item.position.charge]
    charge = catalog.plan(item.plan, item.plan_version).charge(item.position.charge)
    return () if charge is None else charge.shares


def _finished(
    drafts: Sequence[Drafted],
    identity: str,
    discounts: Discounted,
    taxes: Taxed,
    shares: Sequence[tuple[Share, ...]],
    currency: str,
) -> list[Drafted]:
    """Return the lines with their places, discounts, taxes and shares, and what is billed then."""
    found: list[Drafted] = []
    for at, draft in enumerate(drafts):
        line, base = draft.line, taxes.bases[at]
        discount = discounts.by_line[at]
        net = line.amount_minor - discount
        finished = msgspec.structs.replace(
            line,
            id=derived_id("line", identity, str(at + 1)),
            position=at + 1,
            discount=money_text(discount, currency),
            discount_minor=discount,
            net=line.amount if not discount else money_text(net, currency),
            net_minor=net,
            base=line.amount if base == line.amount_minor else money_text(base, currency),
            base_minor=base,
            taxes=taxes.parts[at],
            shares=shared(base, shares[at], currency) if shares[at] else (),
        )
        billed = msgspec.structs.replace(
            draft.billed,
            invoice=identity,
            discount_minor=discounts.so_far(draft) + discount,
        )
        found.append(Drafted(line=finished, item=draft.item, billed=billed))
    return found
