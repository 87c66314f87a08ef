"""What a run has to bill: which periods, which of their charges, up to which instant. Pure.

Source: docs/algorithms/periods.md, docs/algorithms/rerating.md; DECISIONS 21, 26.
"""

from tallybook.invoice.due.alike import Alike
from tallybook.invoice.due.decide import Due, due
from tallybook.invoice.due.items import History
from tallybook.invoice.due.places import places, stretches_of
from tallybook.invoice.due.request import BillRequest, Horizon, check_request, horizon
from tallybook.invoice.due.terms import MINIMUM, charges_of

__all__ = [
    "MINIMUM",
    "Alike",
    "BillRequest",
    "Due",
    "History",
    "Horizon",
    "charges_of",
    "check_request",
    "due",
    "horizon",
    "places",
    "stretches_of",
]
