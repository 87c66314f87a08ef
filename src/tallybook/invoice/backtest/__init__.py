"""What a proposed catalog would have given for usage that has really happened.

Source: docs/algorithms/backtest.md
"""

from tallybook.invoice.backtest.compare import (
    Backtest,
    ChargeCompared,
    Compared,
    Failed,
    Figures,
    compared,
)
from tallybook.invoice.backtest.flow import backtest, check_span

__all__ = [
    "Backtest",
    "ChargeCompared",
    "Compared",
    "Failed",
    "Figures",
    "backtest",
    "check_span",
    "compared",
]
