"""What would be lost if a subscription or a customer were taken out of use: it is not billed yet.

Nothing of what is archived is billed any more. So a thing is archived only where a run would bill
nothing of it, were it cancelled now; or by force.

Source: docs/algorithms/billing-runs.md
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from tallybook.catalog.amendment import Cancel
from tallybook.catalog.catalog import Archive, Catalog, Entry, Kind
from tallybook.catalog.change import Change
from tallybook.catalog.check import check_references
from tallybook.catalog.flow import written_with
from tallybook.catalog.subscription import Subscription, decide
from tallybook.invoice.document import Draft
from tallybook.invoice.due import BillRequest
from tallybook.invoice.due.places import base_of
from tallybook.invoice.flow import new_run
from tallybook.invoice.ports import Billing
from tallybook.invoice.run.answers import answers
from tallybook.invoice.run.basis import Basis, standing
from tallybook.invoice.run.batch.batches import CUSTOMERS_AT_ONCE
from tallybook.invoice.run.composing import composed
from tallybook.invoice.run.payers import Payer, payers
from tallybook.invoice.run.work import Work, work_of
from tallybook.kernel.errors import Conflict, Corrupt, Refused
from tallybook.kernel.money import money_text

_TO_DO = "cancel it and bill it first, or take it out of use by force"

Why = dict[tuple[Kind, str], str]
"""By kind and key: why a thing stays in use."""


def check_archive(billing: Billing, kind: Kind, key: str) -> None:
    """Refuse to take a subscription or a customer out of use that has something to bill.

    Raises:
        Conflict: code 'unbilled'.
    """
    catalog = billing.catalog.load(billing.tenant)
    if kind == "customer":
        alive = _live_of(catalog, key)
        if alive:
            message = f"customer {key} has subscription {alive[0]} in use; {_TO_DO}"
            raise Conflict(message, code="unbilled", field="key")
        if key in billing.accounts.charged(billing.tenant):
            message = f"a one-off charge of customer {key} waits; bill or withdraw it first"
            raise Conflict(message, code="unbilled", field="key")
    if kind == "subscription":
        why = unbilled(billing, catalog, [key]).get(key)
        if why is not None:
            raise Conflict(f"subscription {key}: {why}; {_TO_DO}", code="unbilled", field="key")


def by_force(catalog: Catalog, kind: Kind, key: str) -> list[Entry]:
    """Return what is to be written to take a thing out of use whatever is lost."""
    alive = _live_of(catalog, key) if kind == "customer" else []
    return [*(Archive("subscription", one) for one in alive), Archive(kind, key)]


def without_unbilled(
    billing: Billing, catalog: Catalog, changes: Sequence[Change]
) -> tuple[list[Change], Why]:
    """Return changes without those that would lose something, and why each of these stays out.

    What a subscription that stays in use needs stays in use with it.
    """
    gone = {key for kind, key in _archived(changes) if kind == "subscription"}
    lost = unbilled(billing, catalog, sorted(gone))
    why: Why = {("subscription", key): reason for key, reason in lost.items()}
    customers = {key for kind, key in _archived(changes) if kind == "customer"}
    for key in sorted(customers & billing.accounts.charged(billing.tenant)):
        why["customer", key] = "a one-off charge waits"
    for key in lost:
        why |= _needed(catalog, catalog.subscriptions[key])
    return _allowed(catalog, changes, why)


def unbilled(billing: Billing, catalog: Catalog, keys: Collection[str]) -> dict[str, str]:
    """Return what would still be billed of subscriptions if they were cancelled now, in words.

    Args:
        billing: ports.
        catalog: as it is stored.
        keys: of subscriptions; those of which nothing is to be billed are left out.
    """
    if not keys:
        return {}
    run = new_run(billing, BillRequest(until_us=billing.clock.now_us()), "")
    ended = {key: _ended(catalog, key, run.started_us) for key in keys}
    catalog = msgspec.structs.replace(catalog, subscriptions=catalog.subscriptions | ended)
    found: dict[str, str] = {}
    some = [one for one in payers(catalog).values() if _only(one, ended).subscriptions]
    for start in range(0, len(some), CUSTOMERS_AT_ONCE):
        part = [_only(one, ended) for one in some[start : start + CUSTOMERS_AT_ONCE]]
        found |= dict(_of_part(Basis(billing, run, catalog, at_once=True), part))
    return found


def _of_part(basis: Basis, part: Sequence[Payer]) -> Iterator[tuple[str, str]]:
    """Yield the subscriptions of payers of which something is to be billed, and what."""
    stand = standing(basis, part)
    failed: dict[str, Refused | Corrupt] = {}
    works: list[Work] = []
    for one in part:
        try:
            works.append(work_of(basis, stand, one))
        except (Refused, Corrupt) as error:
            failed[one.key] = error
    facts, unanswered = answers(basis, works)
    drafts: dict[str, Draft | None] = {}
    for work in works:
        if work.key in facts:
            try:
                drafts[work.key] = composed(basis, stand, work, facts[work.key]).draft
            except (Refused, Corrupt) as error:
                failed[work.key] = error
    failed |= unanswered
    for one in part:
        if one.key in failed:
            reason = f"what is left to bill cannot be told: {failed[one.key].message}"
            yield from ((subscription.key, reason) for subscription in one.subscriptions)
        else:
            mine = {subscription.key for subscription in one.subscriptions}
            yield from _open(drafts[one.key], mine)


def _open(draft: Draft | None, subscriptions: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield those of the subscriptions that a draft charges something for, and what.

    One-off charges are not theirs.
    """
    if draft is None:
        return
    invoice = draft.invoice
    open_minor: Counter[str] = Counter()
    for line in invoice.lines:
        open_minor[line.subscription] += max(line.amount_minor, 0)
    for key in sorted(open_minor):
        if key in subscriptions and open_minor[key]:
            text = money_text(open_minor[key], invoice.currency)
            yield key, f"{invoice.currency} {text} is not billed yet"


def _ended(catalog: Catalog, key: str, now_us: int) -> Subscription:
    """Return a subscription as if it were cancelled now; as it is where that is too late."""
    subscription = catalog.subscriptions[key]
    cancel = Cancel(at_us=now_us, recorded_us=now_us, credit=False)
    try:
        return decide(subscription, cancel, base_of(subscription, catalog)).subscription
    except Conflict:
        return subscription


def _only(payer: Payer, keys: Collection[str]) -> Payer:
    some = tuple(one for one in payer.subscriptions if one.key in keys)
    return msgspec.structs.replace(payer, subscriptions=some)


def _live_of(catalog: Catalog, customer: str) -> list[str]:
    """Return the subscriptions in use of a customer."""
    return [
        key
        for key, one in catalog.subscriptions.items()
        if one.customer == customer and catalog.live("subscription", key)
    ]


def _archived(changes: Sequence[Change]) -> list[tuple[Kind, str]]:
    return [(change.kind, change.key) for change in changes if change.action == "archive"]


def _needed(catalog: Catalog, subscription: Subscription) -> Why:
    """Return what a subscription needs, and whose it is."""
    reason = f"subscription {subscription.key} stays in use"
    changed = [getattr(one, "plan", "") for one in subscription.amendments]
    plans = {subscription.plan, *changed} - {""}
    owner = catalog.customers[subscription.customer]
    customers = {owner.key, owner.parent} - {""}
    found: Why = {("plan", key): reason for key in plans}
    found |= {("customer", key): reason for key in customers}
    if subscription.base:
        found |= _needed(catalog, catalog.subscriptions[subscription.base])
        found["subscription", subscription.base] = reason
    return found


def _allowed(
    catalog: Catalog, changes: Sequence[Change], why: Mapping[tuple[Kind, str], str]
) -> tuple[list[Change], Why]:
    """Return the changes that lose nothing; meters and taxes that are needed stay too."""
    kept: Why = {}
    allowed: list[Change] = []
    asked: list[Change] = []
    for change in changes:
        place = (change.kind, change.key)
        if change.action != "archive":
            allowed.append(change)
        elif place in why:
            kept[place] = why[place]
        elif why and change.kind in {"meter", "tax"}:
            asked.append(change)
        else:
            allowed.append(change)
    for change in asked:
        try:
            check_references(written_with(catalog, [*allowed, change]))
        except Conflict as error:
            kept[change.kind, change.key] = error.message
        else:
            allowed.append(change)
    return allowed, kept
