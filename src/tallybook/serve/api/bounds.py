"""What a bound key is for: its subjects, or those that its customer has."""

import threading
import time
from collections.abc import Callable, Iterable

import msgspec

from tallybook.admit.key import Grant
from tallybook.catalog.catalog import Catalog
from tallybook.kernel.errors import Invalid, Missing

FRESH_SECONDS = 1.0
CUSTOMERS_MAX = 10_000
"""More customers than this are not remembered at once."""


class Span(msgspec.Struct, frozen=True):
    """From `start_us` to before `end_us` a key may see the events of these subjects.

    Attributes:
        start_us, end_us: microseconds UTC; None is open.
    """

    subjects: tuple[str, ...]
    start_us: int | None = None
    end_us: int | None = None


def spans_of(catalog: Catalog, grant: Grant) -> list[Span]:
    """Return whose events a bound key may see, and when.

    Args:
        catalog: of the grant's tenant.
        grant: of a bound key.
    """
    if grant.subjects:
        return [Span(grant.subjects)]
    found: dict[tuple[int | None, int | None], list[str]] = {}
    customer = catalog.customers.get(grant.customer)
    for span in customer.subjects if customer is not None else ():
        found.setdefault((span.start_us, span.end_us), []).append(span.subject)
    return [Span(tuple(subjects), *ends) for ends, subjects in found.items()]


def within(spans: Iterable[Span], now_us: int) -> frozenset[str]:
    """Return the subjects of the spans that hold now."""
    return frozenset(
        subject
        for span in spans
        if (span.start_us is None or span.start_us <= now_us)
        and (span.end_us is None or now_us < span.end_us)
        for subject in span.subjects
    )


def one_of(spans: Iterable[Span], subject: str | None) -> list[Span]:
    """Return the spans of one subject that a bound key asked for, or of its only one.

    Raises:
        Invalid: it asked for none, and has several.
    """
    spans = list(spans)
    known = dict.fromkeys(one for span in spans for one in span.subjects)
    if subject is None:
        if len(known) != 1:
            message = "this API key is for several subjects: name one, with ?subject="
            raise Invalid(message, field="subject")
        subject = next(iter(known))
    return [
        msgspec.structs.replace(span, subjects=(subject,))
        for span in spans
        if subject in span.subjects
    ]


def is_own(grant: Grant, customer: str) -> bool:
    """Whether a key may see what is a customer's: it is bound to that one, or to nobody."""
    return not grant.bound or grant.customer == customer


def check_own(grant: Grant, customer: str, what: str, field: str) -> None:
    """Refuse a bound key what is another customer's, as if it were not there; raises Missing."""
    if not is_own(grant, customer):
        raise Missing(f"there is no {what}", field=field)


class Sendable:
    """The subjects of which a bound key may send events now.

    Args:
        load: returns the catalog of a tenant.
        now_us: the present instant.
    """

    def __init__(self, load: Callable[[str], Catalog], now_us: Callable[[], int]) -> None:
        """Know nobody yet."""
        self._load = load
        self._now_us = now_us
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, frozenset[str]]] = {}

    def __call__(self, grant: Grant) -> frozenset[str]:
        """Return the subjects; those of a customer are as they were at most a second ago."""
        if grant.subjects:
            return frozenset(grant.subjects)
        key, now = (grant.tenant, grant.customer), time.monotonic()
        with self._lock:
            known = self._known.get(key)
            if known is not None and now - known[0] < FRESH_SECONDS:
                return known[1]
        found = within(spans_of(self._load(grant.tenant), grant), self._now_us())
        with self._lock:
            if len(self._known) >= CUSTOMERS_MAX:
                self._known = {}
            self._known[key] = now, found
        return found
