"""A draft takes the place of the open ones of its customer that it bills everything of.

So nothing waits twice: two runs over one month, or one until today and one until tomorrow, leave
one draft. Two months leave two.

Source: docs/algorithms/invoice-life.md
"""

from collections.abc import Iterable, Sequence

import msgspec

from tallybook.invoice.document import decode_invoice
from tallybook.invoice.manifest import Extra, Item, Position
from tallybook.invoice.ports import StoredDraft
from tallybook.invoice.run.batch.prepared import Prepared


class Reach(msgspec.Struct, frozen=True):
    """What an invoice bills: each position up to an instant, and one-off charges.

    Attributes:
        until_us: by position.
        extras: their ids.
    """

    until_us: dict[Position, int]
    extras: frozenset[str]

    def holds(self, other: "Reach") -> bool:
        """Whether it bills everything of another one, each position at least as far."""
        as_far = (self.until_us.get(at, -1) >= until for at, until in other.until_us.items())
        return self.extras >= other.extras and all(as_far)


def reach_of(items: Iterable[Item], extras: Iterable[Extra]) -> Reach:
    """Return what an invoice of items and one-off charges bills."""
    until_us = {item.position: item.until_us for item in items}
    return Reach(until_us, frozenset(extra.id for extra in extras))


def in_place_of(one: Prepared, looked_at: Reach, waiting: Sequence[StoredDraft]) -> Prepared:
    """Return what becomes of a payer whose draft meets open ones.

    Those that it bills everything of are replaced by it, and it is finalized when the first of them
    would have been. Where one of them bills all of it and more, that one stays, and it is not made.

    Args:
        one: the payer.
        looked_at: everything that the run looked at for it, whether or not it made a line.
        waiting: the open drafts.
    """
    if one.kept is None or not waiting:
        return one
    replaced = [draft for draft in waiting if looked_at.holds(_reach(draft))]
    if any(_holds(draft, one.kept) for draft in waiting if draft not in replaced):
        return Prepared(payer=one.payer, version=one.version)
    first_us = min((draft.finalize_us for draft in replaced), default=one.kept.finalize_us)
    return msgspec.structs.replace(
        one,
        kept=msgspec.structs.replace(one.kept, finalize_us=min(first_us, one.kept.finalize_us)),
        replaced=tuple(
            msgspec.structs.replace(
                draft, state="replaced", body="", parked=None, replaced_by=one.kept.id
            )
            for draft in replaced
        ),
    )


def _holds(draft: StoredDraft, new: StoredDraft) -> bool:
    """Whether an open draft bills everything of a new one: as last composed, or when it is anew."""
    reach, wanted = _reach(draft), _reach(new)
    until_us = -1 if draft.until_us is None else draft.until_us
    return reach.holds(wanted) or all(end <= until_us for end in wanted.until_us.values())


def _reach(draft: StoredDraft) -> Reach:
    manifest = decode_invoice(draft.body).manifest
    return reach_of(manifest.items, manifest.extras)
