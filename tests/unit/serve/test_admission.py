"""Requests at the door: let in, refused in their protocol's words, counted off, told of."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tallybook.adapters.memory.counts import MemoryCounts, SharedCounts
from tallybook.adapters.sql.access.usage_plans import EveryPlan
from tallybook.admit.key import Grant
from tallybook.admit.plan.bind import bind, built_in, place
from tallybook.admit.plan.flow import standings
from tallybook.admit.plan.limit import Concurrency, Entitled, Limit, Quota, Rate
from tallybook.admit.plan.plan import UsagePlan
from tallybook.compose import SystemClock
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Missing, TallybookError, Unavailable
from tallybook.serve.api.admission.made import protecting
from tallybook.serve.api.admission.teller import Teller
from tallybook.serve.api.admission.ticket import Told, count_events
from tallybook.serve.api.admission.watch import PlanWatch
from tallybook.serve.api.admission.wrapper import Admission, Parts
from tallybook.serve.console.render import refusal_page
from tallybook.settings import GateSettings

GRANT = Grant("t", "key_1", frozenset({"ingest"}), customer="acme", usage_plan="p")
EVENTS = ("POST", "/api/v1/events")


class Kept:
    """Plans as the control database would keep them."""

    def __init__(self, *plans: UsagePlan) -> None:
        self.number = 1
        self.plans = {("t", plan.key): plan for plan in plans}
        self.own: dict[tuple[str, str], tuple[Limit, ...]] = {}

    def version(self) -> int:
        return self.number

    def every(self) -> EveryPlan:
        return EveryPlan(self.plans, self.own)


class Keys:
    """Knows two keys."""

    grants = {"tb_1": GRANT, "tb_2": Grant("t", "key_2", frozenset())}

    def grant(self, key: str) -> Grant | None:
        if key == "stale":
            raise Unavailable("keys cannot be checked at the moment")
        return self.grants.get(key)


class World:
    """A process whose door is tried."""

    def __init__(
        self, *limits: Limit, use: bool = False, access: Any = None, page: Any = None
    ) -> None:
        self.counts = MemoryCounts(SharedCounts())
        self.kept = Kept(UsagePlan(key="p", limits=limits))
        self.facts: list[tuple[str, Fact]] = []
        self.keep: Callable[[Sequence[tuple[str, Fact]]], None] = self.facts.extend
        self.teller = Teller(self.counts, self._keep)
        self.app: Callable[[], None] = lambda: None
        self.status = 200
        self.ran = 0
        self.plans = PlanWatch(self.kept)
        self.admission = Admission(
            Parts(
                keys=Keys(),
                plans=self.plans,
                told=Told(self.counts, self.teller.add),
                built_in=built_in(protecting(GateSettings(documents_at_once=1))),
                access=access or (lambda *_: True),
                use=use,
                page=page or (lambda _scope: None),
                show=refusal_page,
            )
        )

    def ask(
        self,
        method: str = "GET",
        path: str = "/api/v1/meters",
        *,
        key: str = "tb_1",
        door: bool = False,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> tuple[int, dict[str, str], Any]:
        """Send a request; return status, headers and body of the answer."""
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer {key}".encode()), *headers],
        }
        heard: list[Any] = []

        async def send(message: Any) -> None:
            heard.append(message)

        async def run() -> None:
            await self.admission(self._answer, scope, None, send, door=door)  # type: ignore[arg-type]

        asyncio.run(run())
        found = {name.decode(): value.decode() for name, value in heard[0]["headers"]}
        body = b"".join(message.get("body", b"") for message in heard[1:])
        return heard[0]["status"], found, body

    def _keep(self, facts: Sequence[tuple[str, Fact]]) -> None:
        self.keep(facts)

    async def _answer(self, _scope: Any, _receive: Any, send: Any) -> None:
        self.ran += 1
        status, headers = self.status, []
        try:
            self.app()
        except TallybookError as error:
            wait = getattr(error, "retry_after_seconds", None)
            status, headers = (429 if wait else 413), [(b"retry-after", b"1")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def left(self, key: str = "tb_1") -> list[int]:
        """Return what is left of every limit of a key."""
        bounds = bind(self.kept.plans["t", "p"], Keys.grants[key]).counting
        return [one.left for one in standings(self.counts, bounds, _now())]


def _now() -> int:
    return SystemClock().now_us() * 1000


RATE = Rate(key="r", rate=2, seconds=3600)


def test_who_has_no_plan_hears_nothing_of_limits() -> None:
    world = World(RATE)
    for key in ("tb_2", "tb_3", "stale"):
        assert world.ask(key=key)[:2] == (200, {})
    assert world.ran == 3


def test_a_refusal_says_which_limit_and_when_to_come_again() -> None:
    world = World(RATE)
    status, headers, _ = world.ask()
    assert status == 200
    assert headers["ratelimit-policy"] == '"r";q=2;w=3600'
    assert headers["ratelimit"] == '"r";r=1;t=1800'
    world.ask()
    status, headers, body = world.ask()
    assert (status, headers["retry-after"]) == (429, "1800")
    assert headers["content-type"] == "application/problem+json"
    assert headers["ratelimit"].startswith('"r";r=0;t=')
    told = json.loads(body)
    assert (told["code"], told["status"]) == ("rate-limited", 429)
    assert world.ran == 2


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/v1/metrics", b"application/json", b'{"code":8'),
        ("/api/v1/write", b"application/x-protobuf", b"the limit"),
        ("/api/v2/write", b"text/plain", b"the limit"),
        ("/api/v1/logs", b"application/json", b"the limit"),
    ],
)
def test_a_front_door_refuses_in_its_protocols_words(path: str, kind: bytes, body: bytes) -> None:
    world = World(RATE)
    for _ in range(2):
        assert world.ask("POST", path, door=True)[0] == 200
    status, headers, said = world.ask("POST", path, door=True, headers=[(b"content-type", kind)])
    assert (status, headers["retry-after"]) == (429, "1800")
    assert body in said


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/invoices", "text/html; charset=utf-8"),
        ("/invoices/INV-1.pdf", "text/html; charset=utf-8"),
        ("/openmeter/api/v1/meters", "application/problem+json"),
    ],
)
def test_a_page_is_refused_with_a_page(path: str, kind: str) -> None:
    session = Keys.grants["tb_1"]
    world = World(RATE, page=lambda _scope: session)
    for _ in range(2):
        assert world.ask(path=path)[0] == 200
    status, headers, body = world.ask(path=path)
    assert (status, headers["retry-after"], headers["content-type"]) == (429, "1800", kind)
    if kind.startswith("text/html"):
        assert b"Too Many Requests" in body
        assert b"the limit &#39;r&#39;" in body
        assert "style-src 'self'" in headers["content-security-policy"]


def test_events_are_counted_all_or_none_and_the_request_with_them() -> None:
    events = Quota(key="e", limit=10, window="month", counts="events", routes=("POST *",))
    world = World(Quota(key="q", limit=5, window="month"), events)
    world.app = lambda: count_events(7)
    assert world.ask(*EVENTS)[0] == 200
    assert world.left() == [4, 3]
    status, headers, _ = world.ask(*EVENTS)
    assert status == 429
    assert int(headers["retry-after"]) > 1, "not the second that the application says"
    assert world.left() == [4, 3], "a request that is refused is not counted"
    world.app = lambda: count_events(11)
    assert world.ask(*EVENTS)[0] == 413
    assert world.left() == [4, 3]
    world.app = lambda: count_events(3)
    status, headers, _ = world.ask(*EVENTS)
    assert status == 200
    assert headers["ratelimit"].startswith('"q";r=3;t=')
    assert '"e";r=0;t=' in headers["ratelimit"]
    assert world.left() == [3, 0]
    count_events(5)  # under no request: nothing to count


def test_what_is_refused_later_stays_counted() -> None:
    world = World(RATE)
    world.status = 400
    assert [world.ask()[0] for _ in range(3)] == [400, 400, 429]


def test_places_are_given_back_however_a_request_ends() -> None:
    world = World(Concurrency(key="c", limit=1))
    assert [world.ask()[0] for _ in range(3)] == [200] * 3

    def bug() -> None:
        assert world.left() == [0]
        raise ValueError

    world.app = bug
    with pytest.raises(ValueError):
        world.ask()
    assert world.left() == [1]


def test_what_does_not_scale_is_guarded_for_all_together() -> None:
    world = World()
    inner: list[tuple[int, Any]] = []

    def meanwhile() -> None:
        world.app = lambda: None
        import threading

        def ask() -> None:
            status, headers, body = world.ask(path="/api/v1/invoices/i.pdf", key="tb_2")
            inner.append((status, json.loads(body)["code"]))
            assert "ratelimit" not in headers
            inner.append((world.ask(path="/api/v1/invoices")[0], ""))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    world.app = meanwhile
    assert world.ask(path="/api/v1/invoices/i.pdf")[0] == 200
    assert inner == [(429, "too-many-at-once"), (200, "")]
    assert world.ask(path="/api/v1/invoices/i.pdf")[0] == 200


def test_an_entitlement_stops_a_request() -> None:
    asked: list[tuple[str, str, str]] = []
    answer: list[Any] = [True]

    def access(*question: str) -> bool:
        asked.append(question)  # type: ignore[arg-type]
        if isinstance(answer[0], Exception):
            raise answer[0]
        return bool(answer[0])

    limits = (Entitled(key="e", feature="calls"), RATE)
    world = World(*limits, access=access)
    assert world.ask()[0] == 200
    assert asked == [("t", "acme", "calls")]
    for answer[0] in (False, Missing("there is no such entitlement")):
        status, _, body = world.ask()
        assert (status, json.loads(body)["code"]) == (403, "entitlement-exhausted")
    assert world.left() == [1], "it is asked first, and who is stopped is not counted"
    assert world.ask(*EVENTS, door=True)[0] == 200, "usage that happened is better recorded"
    answer[0] = Unavailable("the lake is away")
    world.kept.plans["t", "p"] = UsagePlan(key="p", limits=limits[:1])
    world.kept.number += 1
    world.plans.refresh()
    assert world.ask()[0] == 200, "our trouble is not the customer's"


def test_an_entitlement_may_stop_doors_and_needs_a_customer() -> None:
    world = World(Entitled(key="e", feature="calls", doors=True), access=lambda *_: False)
    assert world.ask(*EVENTS, door=True)[0] == 403
    world.kept.own["t", "key_2"] = (Entitled(key="e", feature="calls"),)
    world.kept.number += 1
    world.plans.refresh()
    status, _, body = world.ask(key="tb_2")
    assert status == 403
    assert "the key's customer" in json.loads(body)["detail"]


def test_the_use_of_keys_is_counted_by_route_and_status() -> None:
    world = World(RATE, use=True)
    world.app = lambda: count_events(7)
    world.ask(*EVENTS, door=True)
    world.status = 404
    world.ask()
    world.ask()
    world.ask(key="tb_3")

    def used(route: str, status: str) -> tuple[int, int]:
        (held,) = world.counts.read([place(("t", "use", "key_1", route, status))])
        return held[0], held[1]

    assert used("events", "2xx") == (1, 7)
    assert used("api", "4xx") == (2, 0), "the last one was refused, and answered"


def test_a_key_without_a_plan_gets_the_tenants_own_and_its_own_limits() -> None:
    world = World(RATE)
    world.kept.plans["t", "d"] = UsagePlan(key="d", default=True, limits=(RATE,))
    world.kept.own["t", "key_2"] = (Rate(key="r", rate=9, seconds=9),)
    world.plans.refresh()
    assert world.ask(key="tb_2")[1] == {}, "nothing has changed, says the version"
    world.kept.number += 1
    world.plans.refresh()
    assert world.ask(key="tb_2")[1]["ratelimit-policy"] == '"r";q=9;w=9'
    assert world.ask()[1]["ratelimit-policy"] == '"r";q=2;w=3600'


def test_warnings_are_shown_on_every_answer_and_told_once() -> None:
    world = World(Quota(key="q", limit=4, window="month", warn=(50, 100)))
    shown = [world.ask()[1].get("tallybook-limit-warning") for _ in range(3)]
    assert shown == [None, '"q";p=50', '"q";p=50']
    world.teller.round()
    assert [fact.kind for _, fact in world.facts] == ["usage_plan.warning"]
    world.ask()
    world.ask()
    world.ask()
    world.teller.round()
    world.ask()
    world.teller.round()
    kinds = [(tenant, fact.kind) for tenant, fact in world.facts]
    assert kinds == [
        ("t", "usage_plan.warning"),
        ("t", "usage_plan.warning"),
        ("t", "usage_plan.exceeded"),
    ]
    assert len({fact.id for _, fact in world.facts}) == 3


def test_what_could_not_be_told_is_told_by_the_next_request() -> None:
    world = World(Quota(key="q", limit=1, window="month"))
    world.ask()
    world.ask()

    def away(_facts: Any) -> None:
        raise Unavailable("the control database is away")

    world.keep = away
    world.teller.round()
    world.keep = world.facts.extend
    world.teller.round()
    assert world.facts == []
    world.ask()
    world.teller.start()
    world.teller.close()
    assert [fact.kind for _, fact in world.facts] == ["usage_plan.exceeded"]


def test_counts_that_cannot_be_reached_let_nobody_in() -> None:
    world = World(RATE)

    def away(*_: Any) -> Any:
        raise Unavailable("the disk is full", code="limits-unavailable", retry_after_seconds=2)

    world.counts.change = away  # type: ignore[method-assign]
    status, headers, body = world.ask()
    assert (status, headers["retry-after"]) == (503, "2")
    assert json.loads(body)["code"] == "limits-unavailable"
    assert world.ask(key="tb_2")[0] == 200
