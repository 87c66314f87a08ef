"""Every kind of fact, with what it says: what an endpoint can ask for.

tests/unit/deliver/test_kinds.py compares this table with the code that writes facts and with
docs/guides/webhooks.md.
"""

from typing import Any

import msgspec

from tallybook.admit.plan.facts import LimitTold
from tallybook.admit.told import KeyTold
from tallybook.catalog.told import SubscriptionTold
from tallybook.deliver.steps import EndpointTold, ProbeTold
from tallybook.deliver.watch import EdgeTold, EntitlementTold, OverdueTold, QuarantineTold
from tallybook.invoice.amend import Told as ChangeTold
from tallybook.invoice.ledger.facts import InvoiceTold
from tallybook.settle.prepaid.told import Low, Recharge, ToppedUp
from tallybook.settle.receivable.crediting import NoteTold
from tallybook.settle.receivable.flow import ChargeTold
from tallybook.settle.receivable.paying import InvoicePaid, PaymentTold


class Kind(msgspec.Struct, frozen=True):
    """A kind of fact.

    Attributes:
        name: past tense, such as 'invoice.paid'.
        about: when it is told, in one sentence.
        bodies: what its `data` is; one of these.
    """

    name: str
    about: str
    bodies: tuple[type[msgspec.Struct], ...]


KINDS: tuple[Kind, ...] = (
    Kind("invoice.finalized", "An invoice got its number.", (InvoiceTold,)),
    Kind("invoice.paid", "Nothing of an invoice is open any more.", (InvoicePaid, InvoiceTold)),
    Kind("invoice.unpaid", "What paid an invoice was taken back.", (InvoicePaid,)),
    Kind("invoice.overdue", "An open invoice is past its due date.", (OverdueTold,)),
    Kind("invoice.voided", "An invoice was taken back as a whole.", (InvoiceTold,)),
    Kind("invoice.written_off", "An invoice is not expected to be paid.", (InvoiceTold,)),
    Kind("credit_note.issued", "Lines of an invoice were taken back.", (NoteTold,)),
    Kind("credit_note.voided", "A credit note was taken back.", (NoteTold,)),
    Kind("charge.withdrawn", "A one-off charge was taken back unbilled.", (ChargeTold,)),
    Kind("payment.received", "A payment, or a use of credit, was recorded.", (PaymentTold,)),
    Kind("payment.refunded", "Money was paid back to a customer.", (PaymentTold,)),
    Kind("payment.reversed", "A payment or refund was taken back.", (PaymentTold,)),
    Kind("wallet.topped_up", "Something was put into a wallet.", (ToppedUp,)),
    Kind("wallet.recharge_requested", "A wallet's rule asks for a payment.", (Recharge,)),
    Kind("wallet.recharge_paid", "A payment that a wallet's rule asked for came.", (Recharge,)),
    Kind("wallet.recharge_failed", "A payment that a wallet's rule asked for failed.", (Recharge,)),
    Kind("wallet.low", "A wallet's ongoing balance fell to a threshold.", (Low,)),
    Kind("subscription.created", "A customer got a plan.", (SubscriptionTold,)),
    Kind("subscription.changed", "Plan, quantity, price or dates changed.", (ChangeTold,)),
    Kind("subscription.paused", "A pause was decided.", (ChangeTold,)),
    Kind("subscription.resumed", "The end of a pause was decided.", (ChangeTold,)),
    Kind("subscription.cancelled", "The end of a subscription was decided.", (ChangeTold,)),
    Kind("subscription.uncancelled", "A cancellation was taken back.", (ChangeTold,)),
    Kind(
        "entitlement.threshold",
        "80 or 95 percent of what was granted is used.",
        (EntitlementTold,),
    ),
    Kind("entitlement.exhausted", "Nothing of what was granted is left.", (EntitlementTold,)),
    Kind(
        "quarantine.received", "Events came into quarantine; told once a minute.", (QuarantineTold,)
    ),
    Kind("edge.silent", "An edge was not heard of for five minutes.", (EdgeTold,)),
    Kind("edge.returned", "An edge that was silent is heard of again.", (EdgeTold,)),
    Kind("key.created", "An API key was made.", (KeyTold,)),
    Kind("key.revoked", "An API key was revoked.", (KeyTold,)),
    Kind("usage_plan.warning", "A limit has reached a warning's percentage.", (LimitTold,)),
    Kind("usage_plan.exceeded", "A limit was exceeded; requests are refused.", (LimitTold,)),
    Kind("webhook.disabled", "An endpoint failed for too long, or is gone.", (EndpointTold,)),
    Kind("webhook.test", "Somebody asked for a test.", (ProbeTold,)),
)
"""In the order in which they are shown."""

NAMES: tuple[str, ...] = tuple(kind.name for kind in KINDS)


def schemas(kind: Kind) -> list[dict[str, Any]]:
    """Return the JSON schemas of what `data` of a kind may be."""
    found = []
    for body in kind.bodies:
        (_,), definitions = msgspec.json.schema_components([body])
        found.append(definitions[body.__name__])
    return found
