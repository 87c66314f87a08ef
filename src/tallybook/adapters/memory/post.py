"""Endpoints, deliveries and facts in dicts: one writer at a time, on a copy."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from tallybook.deliver.delivery import Attempt, Delivery
from tallybook.deliver.endpoint import Endpoint
from tallybook.deliver.ports import Asked, Figures, Ready, ready_of
from tallybook.deliver.schedule import FURTHEST_US
from tallybook.deliver.steps import Written, cancelled
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Missing

Key = tuple[str, str]
"""Tenant and id."""


class _State(msgspec.Struct):
    """Everything, by tenant and id; told: when a fact's deliveries were made, None until then."""

    endpoints: dict[Key, Endpoint] = {}
    deliveries: dict[Key, Delivery] = {}
    attempts: dict[Key, tuple[Attempt, ...]] = {}
    facts: dict[Key, Fact] = {}
    told: dict[Key, int | None] = {}

    def copy(self) -> "_State":
        return _State(*(dict(getattr(self, name)) for name in self.__struct_fields__))

    def tell(self, tenant: str, facts: Sequence[Fact], told_us: int | None) -> None:
        for fact in facts:
            self.facts.setdefault((tenant, fact.id), fact)
            self.told.setdefault((tenant, fact.id), told_us)


class MemoryPost:
    """`Post` and `PostReader` in memory."""

    def __init__(self) -> None:
        """Start empty."""
        self._state = _State()
        self._lock = threading.Lock()

    def tell(self, tenant: str, facts: Sequence[Fact]) -> None:
        """Add facts that wait to be told."""
        with self._lock:
            self._state.tell(tenant, facts, None)

    @contextmanager
    def writing(self) -> Iterator["MemoryPostTransaction"]:
        """Change a copy; it becomes the state when the block ends."""
        with self._lock:
            draft = self._state.copy()
            yield MemoryPostTransaction(draft)
            self._state = draft

    def waits(self) -> bool:
        """Return whether there are facts that nobody was asked about yet."""
        return None in self._state.told.values()

    def ready(self, now_us: int) -> list[Ready]:
        """Return the endpoints of which something is due."""
        state = self._state
        due = {
            (tenant, one.endpoint)
            for (tenant, _), one in state.deliveries.items()
            if _is_due(one, now_us)
        }
        found = ((key, state.endpoints[key]) for key in sorted(due & state.endpoints.keys()))
        return [ready_of(*key, one.state, one.succeeded_us) for key, one in found]

    def release(self, holder: str, now_us: int) -> int:
        """End the leases whose name begins with the holder's."""
        with self._lock:
            held = {
                key: msgspec.structs.replace(one, lease="", due_us=now_us)
                for key, one in self._state.deliveries.items()
                if one.due_us is not None and one.lease.startswith(holder)
            }
            self._state.deliveries |= held
        return len(held)

    def forget(self, before_us: int, limit: int) -> int:
        """Drop what ended before an instant."""
        with self._lock:
            state = self._state
            ended = [
                key
                for key, one in state.deliveries.items()
                if one.ended_us is not None and one.ended_us < before_us
            ][:limit]
            for key in ended:
                del state.deliveries[key]
                state.attempts.pop(key, None)
            used = {(tenant, one.fact) for (tenant, _), one in state.deliveries.items()}
            told = [
                key
                for key, told_us in state.told.items()
                if told_us is not None and told_us < before_us and key not in used
            ][: limit - len(ended)]
            for key in told:
                del state.facts[key], state.told[key]
        return len(ended) + len(told)

    def endpoints(self, tenant: str) -> list[Endpoint]:
        """Return the endpoints of a tenant, oldest first."""
        return MemoryPostTransaction(self._state).endpoints(tenant)

    def deliveries(self, tenant: str, asked: Asked) -> list[Delivery]:
        """Return deliveries, newest fact first."""
        found = [
            one
            for (owner, _), one in self._state.deliveries.items()
            if owner == tenant and _is_asked(one, asked)
        ]
        found.sort(key=lambda one: (one.at_us, one.id), reverse=True)
        return found[: asked.limit]

    def delivery(self, tenant: str, id: str) -> tuple[Delivery, Fact, list[Attempt]]:
        """Return a delivery with its fact and attempts."""
        held = MemoryPostTransaction(self._state).held(tenant, [id])
        if not held:
            raise Missing(f"there is no delivery {id}", field="id")
        return (*held[0], list(self._state.attempts.get((tenant, id), ())))

    def facts(self, tenant: str, since_us: int, after: str, limit: int) -> list[Fact]:
        """Return facts since an instant, by id."""
        found = [
            fact
            for (owner, name), fact in sorted(self._state.facts.items())
            if owner == tenant and name > after and fact.at_us >= since_us
        ]
        return found[:limit]

    def figures(self) -> Figures:
        """Return how delivering is."""
        state = self._state
        waiting = [one.at_us for one in state.deliveries.values() if one.due_us is not None]
        states = [one.state for one in state.endpoints.values()]
        return Figures(
            facts=sum(told_us is None for told_us in state.told.values()),
            waiting=len(waiting),
            oldest_us=min(waiting, default=None),
            endpoints={name: states.count(name) for name in sorted(set(states))},
            delivered=sum(one.delivered_total for one in state.endpoints.values()),
            failed=sum(one.failed_total for one in state.endpoints.values()),
        )


class MemoryPostTransaction:
    """`PostTransaction` on a state."""

    def __init__(self, state: _State) -> None:
        """Read and change this state."""
        self._state = state

    def waiting(self, limit: int) -> dict[str, list[Fact]]:
        """Return facts that nobody was asked about yet."""
        keys = [key for key, told_us in self._state.told.items() if told_us is None][:limit]
        found: dict[str, list[Fact]] = {}
        for tenant, name in sorted(keys, key=lambda key: self._state.facts[key].at_us):
            found.setdefault(tenant, []).append(self._state.facts[tenant, name])
        return found

    def endpoints(self, tenant: str, ids: Sequence[str] | None = None) -> list[Endpoint]:
        """Return endpoints, oldest first."""
        found = [
            one
            for (owner, name), one in self._state.endpoints.items()
            if owner == tenant and (ids is None or name in ids)
        ]
        return sorted(found, key=lambda one: (one.created_us, one.id))

    def due(self, tenant: str, endpoint: str, now_us: int, limit: int) -> list[Delivery]:
        """Return deliveries whose time has come."""
        found = [
            (one.due_us, one.id, one)
            for (owner, _), one in self._state.deliveries.items()
            if owner == tenant and one.endpoint == endpoint and _is_due(one, now_us)
        ]
        return [one for _, _, one in sorted(found, key=lambda row: row[:2])[:limit]]

    def held(self, tenant: str, ids: Sequence[str]) -> list[tuple[Delivery, Fact]]:
        """Return deliveries with their facts, by id."""
        there = (self._state.deliveries.get((tenant, name)) for name in sorted(set(ids)))
        return [(one, self._state.facts[tenant, one.fact]) for one in there if one is not None]

    def put(self, tenant: str, written: Written, now_us: int) -> None:
        """Write what was decided."""
        state = self._state
        state.tell(tenant, written.facts, None)
        state.tell(tenant, written.aside, now_us)
        state.endpoints |= {(tenant, one.id): one for one in written.endpoints}
        for name in written.removed:
            state.endpoints.pop((tenant, name), None)
        for one in written.begun:
            state.deliveries.setdefault((tenant, one.id), one)
        state.deliveries |= {(tenant, one.id): one for one in written.deliveries}
        for attempt in written.attempts:
            key = (tenant, attempt.delivery)
            state.attempts[key] = (*state.attempts.get(key, ()), attempt)
        state.deliveries |= {
            key: cancelled(one, now_us)
            for key, one in state.deliveries.items()
            if key[0] == tenant and one.endpoint in written.cancelled
        }
        state.told |= {(tenant, name): now_us for name in written.fanned}


def _is_due(one: Delivery, now_us: int) -> bool:
    due_us = one.due_us
    return due_us is not None and not now_us < due_us <= now_us + FURTHEST_US


def _is_asked(one: Delivery, asked: Asked) -> bool:
    return (
        asked.endpoint in {None, one.endpoint}
        and (not asked.states or one.state in asked.states)
        and asked.kind in {None, one.kind}
        and (asked.since_us is None or one.at_us >= asked.since_us)
        and (asked.before is None or (one.at_us, one.id) < asked.before)
    )
