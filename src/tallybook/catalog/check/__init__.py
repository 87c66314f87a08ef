"""What a catalog may not be: parts that contradict each other, history that changes its meaning.

`check_references` looks at a catalog as it would be, `check_stored` at what a change does to what
is stored already. Both raise `Conflict`, which names the thing and what to do.
"""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from tallybook.catalog.catalog import Catalog, Kind
from tallybook.catalog.check.contracts import check_entitlement, check_subscription, check_wallet
from tallybook.catalog.check.offers import check_coupon, check_plan, check_rule
from tallybook.catalog.check.parties import check_customer, check_seller, check_subjects
from tallybook.catalog.check.stored import check_stored

__all__ = ["check_references", "check_stored", "check_subjects"]

_T = TypeVar("_T")


def check_references(catalog: Catalog) -> None:
    """Refuse a catalog whose parts contradict each other.

    Only what is in use is looked at: what refers to it from the past still finds what is archived.

    Raises:
        Conflict: names the thing that refers to what is not there, and what to do.
    """
    check_seller(catalog)
    for versions in _live(catalog, "plan", catalog.plans):
        check_plan(catalog, versions[-1])
    for coupon in _live(catalog, "coupon", catalog.coupons):
        check_coupon(catalog, coupon)
    for customer in _live(catalog, "customer", catalog.customers):
        check_customer(catalog, customer)
    for subscription in _live(catalog, "subscription", catalog.subscriptions):
        check_subscription(catalog, subscription)
    for entitlement in _live(catalog, "entitlement", catalog.entitlements):
        check_entitlement(catalog, entitlement)
    for wallet in _live(catalog, "wallet", catalog.wallets):
        check_wallet(catalog, wallet)
    for rule in _live(catalog, "rule", catalog.rules):
        check_rule(catalog, rule)
    check_subjects(catalog)


def _live(catalog: Catalog, kind: Kind, things: Mapping[str, _T]) -> Iterator[_T]:
    return (thing for key, thing in things.items() if (kind, key) not in catalog.archived)
