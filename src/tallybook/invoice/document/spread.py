"""Which lines of an invoice prepaid credit pays: in an order, never more than is due.

Source: docs/algorithms/wallets.md
"""

from collections.abc import Iterable, Sequence

import msgspec


class Payable(msgspec.Struct, frozen=True):
    """A line, or what is left to pay of it.

    Attributes:
        key: unique within the invoice.
        kind: what a wallet may be limited to, such as fee or usage.
        due_minor: after tax and credit notes; below zero for what corrects.
    """

    key: str
    kind: str
    due_minor: int


class Fund(msgspec.Struct, frozen=True, kw_only=True):
    """Credit that may pay lines.

    Attributes:
        key: of the wallet.
        available_minor: what it can pay, 0 or more.
        priority: lower pays first.
        since_us: when the wallet was made; the older pays first.
        only: kinds of lines that it pays; empty for all.
    """

    key: str
    available_minor: int
    priority: int = 1
    since_us: int = 0
    only: tuple[str, ...] = ()

    def pays(self, line: Payable) -> bool:
        """Whether it may pay a line."""
        return not self.only or line.kind in self.only


class Part(msgspec.Struct, frozen=True):
    """So much of a line is paid by a fund."""

    fund: str
    line: str
    amount_minor: int


def spread(funds: Iterable[Fund], lines: Sequence[Payable]) -> list[Part]:
    """Return which fund pays how much of which line, in the order of paying.

    Args:
        funds: in any order; equal ones pay in the order of their keys.
        lines: in the order of the invoice.

    Guarantees: no fund pays more than it has, and no line is paid beyond what is due.
    """
    due = {line.key: line.due_minor for line in lines}
    parts = []
    for fund in sorted(funds, key=lambda fund: (fund.priority, fund.since_us, fund.key)):
        available = fund.available_minor
        for line in lines:
            amount = min(available, due[line.key])
            if amount > 0 and fund.pays(line):
                parts.append(Part(fund.key, line.key, amount))
                due[line.key] -= amount
                available -= amount
    return parts
