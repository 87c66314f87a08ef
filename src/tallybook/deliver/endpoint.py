"""Who is told: an address, what it wants to hear of, and how well it answers."""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import msgspec

from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Invalid

State = Literal["active", "failing", "disabled"]
"""active: answers, or was not tried yet. failing: the last attempts failed; it is tried on.
disabled: nothing is sent, until somebody enables it."""

STATES: tuple[State, ...] = get_args(State)

ALL = "*"
TEST_KIND = "webhook.test"
"""Told to the endpoint for which it was asked, and to nobody else."""
KIND_PATTERNS_MAX = 100
CUSTOMERS_MAX = 1_000
DESCRIPTION_CHARS_MAX = 255
REASON_CHARS_MAX = 400
ENDPOINTS_MAX = 200
"""Endpoints of a tenant."""
OVERLAP_HOURS_MAX = 24 * 7


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """What messages are signed with, as it is kept.

    Attributes:
        sealed: encrypted; only the sender opens it.
        created_us: microseconds UTC.
        expires_us: signs until then; None for the newest.
    """

    sealed: str
    created_us: int
    expires_us: int | None = None

    def good(self, now_us: int) -> bool:
        """Whether it still signs."""
        return self.expires_us is None or now_us < self.expires_us


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who is told facts.

    Attributes:
        id: within its tenant.
        channel: how it is told, such as 'webhook'.
        address: where, in the channel's own spelling; a URL for a webhook.
        description: for people.
        kinds: patterns of what it wants, such as 'invoice.*'; ('*',) is everything.
        customers: whom it wants to hear of; () is everybody, and what concerns nobody.
        secrets: newest first; two or more while one is replaced by another.
        state: see `State`.
        reason: why it is disabled, or what failed last; '' while all is well.
        created_us: microseconds UTC, as all *_us.
        failing_since_us: when the first of the failures in a row was; None while it answers.
        failures: in a row.
        succeeded_us: when it was told something last; None before.
        failed_us: when an attempt failed last; None before.
        delivered_total: deliveries ever.
        failed_total: failed attempts ever.
    """

    id: str
    channel: str
    address: str
    created_us: int
    description: str = ""
    kinds: tuple[str, ...] = (ALL,)
    customers: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    state: State = "active"
    reason: str = ""
    failing_since_us: int | None = None
    failures: int = 0
    succeeded_us: int | None = None
    failed_us: int | None = None
    delivered_total: int = 0
    failed_total: int = 0

    def wants(self, fact: Fact) -> bool:
        """Whether it is to be told of a fact; one that is disabled wants nothing."""
        if self.state == "disabled" or fact.kind == TEST_KIND:
            return False
        if self.customers and fact.customer not in self.customers:
            return False
        return matches(self.kinds, fact.kind)

    def signing(self, now_us: int) -> tuple[Secret, ...]:
        """Return the secrets that sign now, newest first."""
        return tuple(secret for secret in self.secrets if secret.good(now_us))


def matches(patterns: Iterable[str], kind: str) -> bool:
    """Whether a kind is one of some patterns: itself, 'invoice.*', or '*'."""
    family = kind.partition(".")[0]
    return any(pattern in {kind, ALL, f"{family}.*"} for pattern in patterns)


def check_kinds(patterns: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return patterns without repetition.

    Raises:
        Invalid: none or too many are given, or one is of no known kind: it would never match.
    """
    kinds = tuple(known)
    if not 1 <= len(patterns) <= KIND_PATTERNS_MAX:
        raise Invalid(f"kinds names 1 to {KIND_PATTERNS_MAX} patterns", field="kinds")
    for pattern in patterns:
        if not any(matches([pattern], kind) for kind in kinds):
            message = f"no fact is of the kind '{pattern}'; GET /api/v1/webhooks/kinds lists them"
            raise Invalid(message, code="unknown-kind", field="kinds")
    return tuple(dict.fromkeys(patterns))


def check_customers(customers: Sequence[str]) -> tuple[str, ...]:
    """Return customers' keys without repetition; raises Invalid where they are too many."""
    if len(customers) > CUSTOMERS_MAX:
        raise Invalid(f"customers names at most {CUSTOMERS_MAX}", field="customers")
    if not all(1 <= len(customer) <= 128 for customer in customers):
        raise Invalid("a customer's key has 1 to 128 characters", field="customers")
    return tuple(dict.fromkeys(customers))


def check_description(text: str) -> str:
    """Return a description; raises Invalid where it is too long."""
    if len(text) > DESCRIPTION_CHARS_MAX:
        message = f"description has at most {DESCRIPTION_CHARS_MAX} characters"
        raise Invalid(message, field="description")
    return text


def rotated(endpoint: Endpoint, sealed: str, now_us: int, overlap_hours: int) -> Endpoint:
    """Return an endpoint that signs with a new secret, and with those before for a while.

    Args:
        endpoint: as it is.
        sealed: the new secret, encrypted.
        now_us: microseconds UTC.
        overlap_hours: how long the secrets before sign too; 0 ends them now.

    Raises:
        Invalid: the overlap is out of range.
    """
    if not 0 <= overlap_hours <= OVERLAP_HOURS_MAX:
        message = f"overlap_hours must be 0 to {OVERLAP_HOURS_MAX}"
        raise Invalid(message, field="overlap_hours")
    end_us = now_us + overlap_hours * 3_600_000_000
    kept = (
        msgspec.structs.replace(old, expires_us=min(end_us, old.expires_us or end_us))
        for old in endpoint.signing(now_us)
    )
    secrets = (
        Secret(sealed=sealed, created_us=now_us),
        *(old for old in kept if old.good(now_us)),
    )
    return msgspec.structs.replace(endpoint, secrets=secrets)
