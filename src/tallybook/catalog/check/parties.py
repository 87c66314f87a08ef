"""Who sells and who pays: the seller, customers, their parents and their subjects."""

from itertools import pairwise

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.check.need import need, need_taxes
from tallybook.catalog.customer import FAR_US, Customer, SubjectSpan
from tallybook.kernel.errors import Conflict


def check_seller(catalog: Catalog) -> None:
    """Refuse a seller with taxes that are not there."""
    need_taxes(catalog, "the seller", catalog.seller.taxes)


def check_customer(catalog: Catalog, customer: Customer) -> None:
    """Refuse a customer whose taxes are not there, or whose parent cannot pay for it.

    One level: a parent pays itself. So there is no cycle, and one payer of every customer.
    """
    who = f"customer {customer.key}"
    need_taxes(catalog, who, customer.taxes)
    if not customer.parent:
        return
    need(catalog, f"{who}, parent,", "customer", customer.parent)
    parent = catalog.customers[customer.parent]
    if parent.parent:
        message = f"{who}: parent {parent.key} is paid for by {parent.parent}; name who pays"
        raise Conflict(message, field="parent")
    if parent.currency != customer.currency:
        message = f"{who} is in {customer.currency}, but parent {parent.key} in {parent.currency}"
        raise Conflict(message, field="currency")


def check_subjects(catalog: Catalog) -> None:
    """Refuse two customers that hold one subject at the same instant; raises Conflict."""
    held: dict[str, list[tuple[SubjectSpan, str]]] = {}
    for customer in catalog.customers.values():
        if catalog.live("customer", customer.key):
            for span in customer.subjects:
                held.setdefault(span.subject, []).append((span, customer.key))
    for subject, spans in held.items():
        spans.sort(key=lambda item: -FAR_US if item[0].start_us is None else item[0].start_us)
        for (before, first), (span, second) in pairwise(spans):
            if before.overlaps(span):
                message = f"subject '{subject}' belongs to {first} and {second} at the same time"
                raise Conflict(message, field="subjects")
