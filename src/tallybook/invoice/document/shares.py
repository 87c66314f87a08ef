"""Parts of lines that belong to others than the seller.

Source: docs/algorithms/shares.md
"""

from collections.abc import Iterable, Sequence

from tallybook.catalog.plan import Share
from tallybook.invoice.document.invoice import ShareTotal
from tallybook.invoice.line import LineShare
from tallybook.kernel.decimals import SCALE, plain
from tallybook.kernel.money import allocate, money_text

_ONE = 10**SCALE
_HUNDRED = 100 * _ONE


def shared(base_minor: int, shares: Sequence[Share], currency: str) -> tuple[LineShare, ...]:
    """Return the parts of a line's base that belong to others; the rest is the seller's.

    Args:
        base_minor: net less the taxes that the price contains; may be below zero.
        shares: at most 100 percent together.
        currency: of the invoice.
    """
    weights = [int(share.percent * _ONE) for share in shares]
    parts = allocate(base_minor, [*weights, _HUNDRED - sum(weights)])
    return tuple(
        LineShare(
            party=share.party,
            percent=plain(share.percent),
            amount=money_text(part, currency),
            amount_minor=part,
        )
        for share, part in zip(shares, parts, strict=False)
    )


def share_totals(lines: Iterable[tuple[LineShare, ...]], currency: str) -> tuple[ShareTotal, ...]:
    """Return what belongs to each party, by its name."""
    totals: dict[str, int] = {}
    for shares in lines:
        for share in shares:
            totals[share.party] = totals.get(share.party, 0) + share.amount_minor
    return tuple(
        ShareTotal(party=party, amount=money_text(minor, currency), amount_minor=minor)
        for party, minor in sorted(totals.items())
    )
