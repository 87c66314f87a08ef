"""What delivering needs of the world: a store of endpoints and deliveries, channels, a seal."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from tallybook.deliver.delivery import Answer, Attempt, Delivery
from tallybook.deliver.endpoint import Endpoint
from tallybook.deliver.state import DeliveryState
from tallybook.deliver.steps import Written
from tallybook.kernel.book.fact import Fact


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries are asked for, newest fact first.

    Attributes:
        endpoint: id; None for every endpoint.
        states: any of these; () for every state.
        kind: of the fact; None for every kind.
        since_us: facts at this instant or later; None for no bound.
        before: facts older than this one: its instant and the delivery's id; None from the newest.
        limit: at most so many.
    """

    endpoint: str | None = None
    states: tuple[DeliveryState, ...] = ()
    kind: str | None = None
    since_us: int | None = None
    before: tuple[int, str] | None = None
    limit: int = 100


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How delivering is, over all tenants.

    Attributes:
        facts: that nobody was asked about yet.
        waiting: deliveries that are on their way.
        oldest_us: when the fact of the oldest of them was; None where there is none.
        endpoints: by state.
        delivered: by all endpoints that there are.
        failed: attempts of all endpoints that there are.
    """

    facts: int
    waiting: int
    oldest_us: int | None
    endpoints: dict[str, int]
    delivered: int
    failed: int


class Ready(msgspec.Struct, frozen=True):
    """An endpoint of which something is due; answers: None where it was never told anything."""

    tenant: str
    endpoint: str
    answers: bool | None = None

    @property
    def place(self) -> tuple[str, str]:
        """Tenant and endpoint."""
        return (self.tenant, self.endpoint)


def ready_of(tenant: str, endpoint: str, state: str, succeeded_us: int | None) -> Ready:
    """Return an endpoint of which something is due, with whether it answers."""
    if state != "active":
        return Ready(tenant, endpoint, answers=False)
    return Ready(tenant, endpoint, answers=None if succeeded_us is None else True)


class PostReader(Protocol):
    """Reads endpoints and deliveries."""

    def endpoints(self, tenant: str) -> list[Endpoint]:
        """Return the endpoints of a tenant, oldest first."""
        ...

    def deliveries(self, tenant: str, asked: Asked) -> list[Delivery]:
        """Return deliveries, newest fact first."""
        ...

    def delivery(self, tenant: str, id: str) -> tuple[Delivery, Fact, list[Attempt]]:
        """Return a delivery with its fact and its attempts, the oldest first; raises Missing."""
        ...

    def facts(self, tenant: str, since_us: int, after: str, limit: int) -> list[Fact]:
        """Return facts since an instant in the order of their ids, from the one after `after`."""
        ...

    def figures(self) -> Figures:
        """Return how delivering is."""
        ...


class PostTransaction(Protocol):
    """Reads that nobody changes until what was decided from them is written."""

    def waiting(self, limit: int) -> dict[str, list[Fact]]:
        """Return facts that nobody was asked about yet, by tenant.

        One that another transaction has in hand is not among them.
        """
        ...

    def endpoints(self, tenant: str, ids: Sequence[str] | None = None) -> list[Endpoint]:
        """Return endpoints, all of the tenant where `ids` is None.

        Named ones may be changed by this transaction alone; of all, none is removed meanwhile.
        """
        ...

    def due(self, tenant: str, endpoint: str, now_us: int, limit: int) -> list[Delivery]:
        """Return deliveries that are due, the longest due first.

        Due is what was put off until now or earlier, and further than `schedule.FURTHEST_US`.
        One that another transaction has in hand is not among them.
        """
        ...

    def held(self, tenant: str, ids: Sequence[str]) -> list[tuple[Delivery, Fact]]:
        """Return deliveries with their facts; those that are not there are left out."""
        ...

    def put(self, tenant: str, written: Written, now_us: int) -> None:
        """Write what was decided."""
        ...


class Post(Protocol):
    """Keeps endpoints, deliveries, and which facts wait; in the database of the facts."""

    def writing(self) -> AbstractContextManager[PostTransaction]:
        """Open a transaction; written as a whole when the block ends, else not at all."""
        ...

    def waits(self) -> bool:
        """Return whether there are facts that nobody was asked about yet; nothing is locked."""
        ...

    def ready(self, now_us: int) -> list[Ready]:
        """Return the endpoints of which something is due; see `PostTransaction.due`."""
        ...

    def release(self, holder: str, now_us: int) -> int:
        """End the leases of senders of this name, who are gone; return how many there were."""
        ...

    def forget(self, before_us: int, limit: int) -> int:
        """Drop what ended before an instant: deliveries, attempts, facts told to everybody.

        Returns:
            How many deliveries and facts; below `limit` nothing is left to drop.
        """
        ...


class Channel(Protocol):
    """A way to tell somebody something: HTTP today, others by the same four words."""

    def check(self, address: str) -> str:
        """Return an address as it is kept; raises Invalid where nothing can be sent there."""
        ...

    def send(
        self, address: str, fact: Fact, body: bytes, secrets: Sequence[str], now_us: int
    ) -> Answer:
        """Tell somebody, once; every way it can go wrong is an answer, not an exception.

        Args:
            address: where.
            fact: what is told.
            body: what is told, as bytes.
            secrets: to sign with, newest first.
            now_us: microseconds UTC.
        """
        ...


class Seal(Protocol):
    """Encrypts secrets, so that the database alone does not give them away."""

    def close(self, text: str, place: str) -> str:
        """Return a text encrypted, to be opened at the same place only."""
        ...

    def open(self, sealed: str, place: str) -> str:
        """Return the text again; raises Corrupt where it was not closed for this place."""
        ...
