"""Verify and explain: an invoice against the events it was made of.

`verify` recomputes the canonical JSON from the stored manifest and the usage at its cut, and
compares bytes. `explain` lists the very events of a line and checks their count and digest. Both
take a draft as it was composed last, and say that it is not final.

Source: DECISIONS 30; guarantee 5.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.invoice.document import (
    Draft,
    Facts,
    Invoice,
    compose,
    decode_invoice,
    encode_invoice,
    number_place,
    with_number,
)
from tallybook.invoice.line import Line
from tallybook.invoice.manifest import Item
from tallybook.invoice.ports import Billing, StoredInvoice
from tallybook.invoice.questions import Asked, ask, item_query, owner_of
from tallybook.invoice.record import digest_of
from tallybook.invoice.run.listing import named
from tallybook.invoice.run.work import alone_at_fault
from tallybook.kernel.errors import Corrupt, Missing, Refused
from tallybook.kernel.timestamps import format_us
from tallybook.meter.usage import StoredEvent

DIFFERENCES_MAX = 20


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an invoice is what its manifest and the stored events make.

    Attributes:
        ok: the bytes are the same.
        final: it is finalized; a draft is composed anew when it is.
        sha256: of the stored canonical JSON.
        recomputed_sha256: of the recomputed one; '' where it could not be made.
        differences: what differs, for people; [] where nothing does.
    """

    id: str
    number: str
    ok: bool
    sha256: str
    recomputed_sha256: str
    differences: tuple[str, ...]
    final: bool = True


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """The events of a line.

    Attributes:
        ok: count and digest of the events are those of the line.
        count: events at the cut in the period up to the line's `until`, earlier lines' included.
        digest: sum of their row hashes, decimal text.
        events: a part of them, by (time, source, id).
        fresh: for each of `events`, whether no earlier invoice had counted it.
    """

    line: Line
    ok: bool
    count: int
    digest: str
    events: tuple[StoredEvent, ...]
    fresh: tuple[bool, ...]


def verify(billing: Billing, name: str) -> Verified:
    """Recompute one invoice or draft and compare; raises Missing for an unknown one."""
    return _verify_run(billing, [named(billing.invoices, billing.tenant, name)])[0]


def verify_all(billing: Billing, names: Sequence[str]) -> list[Verified]:
    """Recompute invoices and compare, those of one run together: many for the cost of few.

    One that cannot be recomputed says why, and the others are verified all the same.

    Raises:
        Missing: for an unknown one.
    """
    by_run: dict[tuple[str, int], list[StoredInvoice]] = {}
    for name in names:
        stored = named(billing.invoices, billing.tenant, name)
        by_run.setdefault((stored.head.run, stored.head.cut), []).append(stored)
    found = [one for run in by_run.values() for one in _verify_run(billing, run)]
    return sorted(found, key=lambda one: (one.final, one.final and number_place(one.number)))


def _verify_run(billing: Billing, stored: Sequence[StoredInvoice]) -> list[Verified]:
    """Verify invoices that share a cut: those of one run, one a customer."""
    catalog = billing.catalog.load(billing.tenant)
    invoices: dict[str, Invoice] = {}
    failed: dict[str, str] = {}
    for one in stored:
        try:
            invoices[one.head.id] = decode_invoice(one.body)
        except Corrupt as error:
            failed[one.head.id] = error.message
    facts, silent = _facts(billing, catalog, invoices)
    failed |= silent
    found = []
    for one in stored:
        recomputed, why = b"", failed.get(one.head.id, "")
        if not why:
            recomputed, why = _recomputed(invoices[one.head.id], catalog, facts[one.head.id])
        found.append(_verified(one, recomputed, why))
    return found


def _facts(
    billing: Billing, catalog: Catalog, invoices: Mapping[str, Invoice]
) -> tuple[dict[str, Facts], dict[str, str]]:
    """Return the usage of invoices by their ids, and why some have none.

    Cost: one question of many; with one among n that cannot be asked, 2·log₂ n of them at most.
    """
    if not invoices:
        return {}, {}
    manifests = [invoice.manifest for invoice in invoices.values()]
    asked = [Asked(m.customer, m.items, m.members) for m in manifests]
    try:
        with alone_at_fault("it again"):
            answer = ask(billing.usage, billing.tenant, asked, catalog, manifests[0].cut)
        return {name: answer[one.customer_key] for name, one in invoices.items()}, {}
    except (Refused, Corrupt) as error:
        if len(invoices) == 1:
            return {}, dict.fromkeys(invoices, error.message)
    names, middle = list(invoices), len(invoices) // 2
    facts, failed = _facts(billing, catalog, {name: invoices[name] for name in names[:middle]})
    more, others = _facts(billing, catalog, {name: invoices[name] for name in names[middle:]})
    return facts | more, failed | others


def _recomputed(invoice: Invoice, catalog: Catalog, facts: Facts) -> tuple[bytes, str]:
    """Return the canonical JSON that a manifest makes now, or why it makes none."""
    try:
        with alone_at_fault("it again"):
            return _encoded(compose(invoice.manifest, catalog, facts), invoice), ""
    except (Refused, Corrupt) as error:
        return b"", error.message


def _verified(stored: StoredInvoice, recomputed: bytes, why: str) -> Verified:
    """Return what comparing comes to; `why` says why nothing could be recomputed."""
    body, final = stored.body.encode(), stored.head.state != "draft"
    found: list[str] = []
    if digest_of(body) != stored.head.sha256:
        found.append("the stored JSON is not what was stored: its digest differs")
    if why:
        found.append(f"it cannot be recomputed, because {why}")
    elif recomputed != body:
        found += _differences(msgspec.json.decode(body), msgspec.json.decode(recomputed), "")
    return Verified(
        id=stored.head.id,
        number=stored.head.number if final else stored.head.id,
        ok=not found and recomputed == body,
        final=final,
        sha256=digest_of(body),
        recomputed_sha256=digest_of(recomputed) if recomputed else "",
        differences=tuple(found[:DIFFERENCES_MAX]),
    )


def _encoded(draft: Draft | None, invoice: Invoice) -> bytes:
    if draft is None:
        raise Corrupt("its manifest makes no line")
    if invoice.number == draft.invoice.number:  # a draft has none yet
        return encode_invoice(draft.invoice)
    return encode_invoice(with_number(draft, number_place(invoice.number)[1]))


def _differences(stored: object, now: object, path: str) -> list[str]:
    """Return where two JSON values differ, deepest place first named."""
    if isinstance(stored, dict) and isinstance(now, dict):
        keys = sorted(stored.keys() | now.keys())
        parts = [_differences(stored.get(k), now.get(k), f"{path}.{k}") for k in keys]
    elif isinstance(stored, list) and isinstance(now, list) and len(stored) == len(now):
        pairs = enumerate(zip(stored, now, strict=True))
        parts = [_differences(a, b, f"{path}[{i}]") for i, (a, b) in pairs]
    else:
        same = stored == now
        return [] if same else [f"{path.lstrip('.')}: stored {stored!r}, recomputed {now!r}"]
    return [difference for part in parts for difference in part]


def explain(
    billing: Billing, name: str, line: str, *, limit: int = 1000, skip: int = 0
) -> Explained:
    """Return the very events of a line, and whether they are what the line says.

    A draft's line is explained by the events that it was composed of last.

    Args:
        billing: ports.
        name: id or number of the invoice, or id of a draft.
        line: id or position of the line.
        limit: most events to return; all are counted.
        skip: events to pass over first, for paging.

    Raises:
        Missing: no such invoice or line, or the line is a fixed fee, which has no events.
    """
    invoice = decode_invoice(named(billing.invoices, billing.tenant, name).body)
    found = find_line(invoice, line)
    item = line_item(invoice, found)
    catalog = billing.catalog.load(billing.tenant)
    manifest = invoice.manifest
    owner = owner_of(item, manifest.customer, manifest.members)
    query = item_query(billing.tenant, item, catalog, manifest.cut, owner)
    where = query.where | {dimension: (text,) for dimension, text in found.dimensions.items()}
    query = msgspec.structs.replace(query, where=where)
    stream = billing.usage.events(query)
    return _explained(item, found, stream, limit, skip)


def find_line(invoice: Invoice, name: str) -> Line:
    """Return a line by its id or position; raises Missing."""
    for line in invoice.lines:
        if name in {line.id, str(line.position)}:
            return line
    raise Missing(f"invoice {invoice.number} has no line '{name}'", field="line")


def line_item(invoice: Invoice, line: Line) -> Item:
    """Return the manifest's item that a line came from; raises Missing for a fixed fee."""
    if line.meter is None:
        raise Missing(f"line {line.position} is a fixed fee: it has no events", field="line")
    for item in invoice.manifest.items:
        place = (item.position.subscription, item.position.charge)
        start = format_us(item.position.start_us)
        if (*place, start) == (line.subscription, line.charge, line.period_start):
            return item
    raise Corrupt(f"invoice {invoice.number}: line {line.position} is not in its manifest")


def _explained(
    item: Item, line: Line, stream: Iterator[StoredEvent], limit: int, skip: int
) -> Explained:
    """Count every event of a line, and keep a part of them."""
    group = tuple(line.dimensions.values())
    before = next((billed for billed in item.before if billed.group == group), None)
    count, digest = 0, 0
    kept: list[StoredEvent] = []
    for event in stream:
        if skip <= count < skip + limit:
            kept.append(event)
        count += 1
        digest += event.row_hash
    fresh = tuple(
        before is None or event.commit_seq > before.cut or event.time_us >= before.until_us
        for event in kept
    )
    return Explained(
        line=line,
        ok=(count, str(digest)) == (line.now.events, line.now.digest),
        count=count,
        digest=str(digest),
        events=tuple(kept),
        fresh=fresh,
    )
