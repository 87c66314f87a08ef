"""Limits as they are written, bound, told and reported."""

import json
from typing import Any

import msgspec
import pytest

from tallybook.admit.key import Grant
from tallybook.admit.plan.bind import bind, built_in, place
from tallybook.admit.plan.bucket import SECOND_NS, take
from tallybook.admit.plan.decide import (
    EXCEEDED,
    FRESH,
    NEVER,
    Stop,
    Tell,
    decide,
    marked,
    returned,
)
from tallybook.admit.plan.facts import told
from tallybook.admit.plan.headers import policy, seconds, state, warning
from tallybook.admit.plan.limit import Concurrency, Entitled, Limit, Quota, Rate
from tallybook.admit.plan.plan import UsagePlan, check_plan, overridden
from tallybook.admit.plan.refuse import refusal
from tallybook.admit.plan.routes import checked, covers
from tallybook.admit.plan.use import (
    Counter,
    added,
    closed,
    counters,
    event,
    opened,
    route_of,
    status_of,
)
from tallybook.kernel.errors import Invalid, Throttled
from tallybook.kernel.period import Period
from tallybook.kernel.timestamps import DAY_US, HOUR_US
from tests.unit.admit.plan.sample import GRANT, NOON_NS, NOON_US, bound_to


@pytest.mark.parametrize(
    ("patterns", "request_line", "found"),
    [
        (("*",), "GET /x", True),
        (("GET *",), "GET /x", True),
        (("GET *",), "POST /x", False),
        (("POST /api/v1/events",), "POST /api/v1/events", True),
        (("POST /api/v1/events",), "POST /api/v1/events/x", False),
        (("GET /api/v1/meters/*/query",), "GET /api/v1/meters/a.b/query", True),
        (("GET /api/v1/meters/*/query",), "GET /api/v1/meters/a", False),
        (("* /a", "GET /b*"), "GET /bc", True),
        (("GET /a.b",), "GET /axb", False),
    ],
)
def test_groups_of_routes(patterns: tuple[str, ...], request_line: str, *, found: bool) -> None:
    method, _, path = request_line.partition(" ")
    assert checked(patterns, "routes") == patterns
    assert covers(patterns, method, path) is found


@pytest.mark.parametrize("pattern", ["", "get /x", "/x", "GET x", "GET /ü", "GET /" + "x" * 300])
def test_what_is_no_group_of_routes(pattern: str) -> None:
    with pytest.raises(Invalid, match="group of routes"):
        checked((pattern,), "limits[0].routes")


@pytest.mark.parametrize(
    ("limit", "field"),
    [
        (Rate(key="", rate=1), "limits[0].key"),
        (Rate(key='a"b', rate=1), "limits[0].key"),
        (Rate(key="r", rate=0), "limits[0].rate"),
        (Rate(key="r", rate=1, seconds=0), "limits[0].seconds"),
        (Rate(key="r", rate=1, burst=-1), "limits[0].burst"),
        (Rate(key="r", rate=1, burst=10**8), "limits[0].burst"),
        (Rate(key="r", rate=1, warn=(95, 80)), "limits[0].warn"),
        (Rate(key="r", rate=1, warn=(0,)), "limits[0].warn"),
        (Rate(key="r", rate=1, warn=(1, 2, 3, 4, 5)), "limits[0].warn"),
        (Rate(key="r", rate=1, routes=()), "limits[0].routes"),
        (Quota(key="q", limit=0, window="day"), "limits[0].limit"),
        (Quota(key="q", limit=1, window="day", hour=24), "limits[0].hour"),
        (Quota(key="q", limit=1, window="day", day=2), "limits[0].day"),
        (Quota(key="q", limit=1, window="week", day=8), "limits[0].day"),
        (Quota(key="q", limit=1, window="month", day=32), "limits[0].day"),
        (Concurrency(key="c", limit=0), "limits[0].limit"),
        (Entitled(key="e", feature=""), "limits[0].feature"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_by_field(limit: Limit, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_plan(UsagePlan(key="p", limits=(limit,)))
    assert caught.value.field == field


def test_a_plan_that_cannot_be_is_refused() -> None:
    twice = (Rate(key="r", rate=1), Rate(key="r", rate=2))
    many = tuple(Rate(key=f"r{n}", rate=1) for n in range(17))
    for plan, field in [
        (UsagePlan(key="a b"), "key"),
        (UsagePlan(key="p", name="x" * 200), "name"),
        (UsagePlan(key="p", zone="Europe/Nowhere"), "zone"),
        (UsagePlan(key="p", limits=twice), "limits[1].key"),
        (UsagePlan(key="p", limits=many), "limits"),
    ]:
        with pytest.raises(Invalid) as caught:
            check_plan(plan)
        assert caught.value.field == field


def test_a_plan_is_written_and_read_with_tags() -> None:
    plan = UsagePlan(
        key="p",
        limits=(
            Rate(key="r", rate=1),
            Quota(key="q", limit=1, window="day"),
            Concurrency(key="c", limit=1),
            Entitled(key="e", feature="f"),
        ),
    )
    assert check_plan(plan) is plan
    assert msgspec.json.decode(msgspec.json.encode(plan), type=UsagePlan) == plan
    tags = [limit["type"] for limit in json.loads(msgspec.json.encode(plan))["limits"]]
    assert tags == ["rate", "quota", "concurrency", "entitlement"]


def test_a_keys_own_limits_stand_in_place_or_on_top() -> None:
    plan = UsagePlan(key="p", limits=(Rate(key="r", rate=1), Rate(key="s", rate=2)))
    own = (Rate(key="s", rate=9), Concurrency(key="c", limit=1))
    assert overridden(plan, own).limits == (plan.limits[0], *own)
    assert overridden(plan, ()) == plan


def test_whose_requests_are_counted_together() -> None:
    limits = [
        Quota(key="key", limit=1, window="day", per="key"),
        Quota(key="tenant", limit=1, window="day", per="tenant"),
        Quota(key="customer", limit=1, window="day", per="customer"),
    ]
    plan = UsagePlan(key="p", limits=(*limits, Entitled(key="e", feature="f")))
    found = bind(plan, GRANT)
    assert [one.who for one in found.counting] == ["key:key_1", "tenant", "customer:acme"]
    assert [one.key for one in found.entitled] == ["e"]
    other = bind(plan, Grant("t", "key_2", frozenset()))
    assert [one.who for one in other.counting] == ["key:key_2", "tenant", "key:key_2"]
    names = {one.place.name for one in (*found.counting, *other.counting)}
    assert len(names) == 5, "only the tenant's is the same"
    abroad = bind(plan, Grant("u", "key_1", frozenset(), customer="acme"))
    assert not {one.place.name for one in abroad.counting} & names
    assert place(("ab", "c")) != place(("a", "bc"))


def test_limits_of_requests_and_of_events_are_apart() -> None:
    one = Rate(key="r", rate=1, routes=("GET *",))
    other = Rate(key="s", rate=1, counts="events")
    found = bind(UsagePlan(key="p", limits=(one, other)), GRANT)
    assert [bound.limit.key for bound in found.requests("GET", "/x")] == ["r"]
    assert found.requests("POST", "/x") == []
    assert [bound.limit.key for bound in found.events("POST", "/x")] == ["s"]


def test_the_limit_with_the_longest_wait_is_named() -> None:
    rate = bound_to(Rate(key="r", rate=1))
    quota = bound_to(Quota(key="q", limit=1, window="day"))
    small = bound_to(Rate(key="small", rate=1, seconds=3600 * 24 * 2))
    held = [FRESH, FRESH]
    first = decide([rate, quota], held, NOON_NS, 1)
    assert (first.stop, first.held) != (None, None)
    held = first.held or []
    second = decide([rate, quota], held, NOON_NS, 1)
    assert second.stop == Stop(quota, 12 * 3600 * SECOND_NS)
    assert second.held is None
    assert decide([quota, rate], held[::-1], NOON_NS, 1).stop == second.stop
    both = decide([rate, small], [held[0], FRESH], NOON_NS, 2)
    assert both.stop is not None
    assert both.stop.wait_ns == NEVER
    assert decide([rate], [FRESH], NOON_NS, 0).held is None, "looking counts nothing"


def test_a_clock_set_back_over_a_border_counts_on() -> None:
    quota = bound_to(Quota(key="q", limit=2, window="day"))
    tomorrow = NOON_NS + DAY_US * 1000
    held = decide([quota], [FRESH], tomorrow, 1).held or []
    back = decide([quota], held, NOON_NS, 1)
    assert back.held == [(held[0][0], 2, 0, 0)]
    assert decide([quota], back.held or [], NOON_NS, 1).stop is not None
    assert decide([quota], back.held or [], tomorrow, 1).stop is not None
    far = decide([quota], decide([quota], [FRESH], tomorrow * 2, 1).held or [], NOON_NS, 1)
    assert (far.held or [])[0][1] == 1, "what was counted in a future far away does not count"


def test_a_bucket_made_smaller_or_slower_is_never_in_debt() -> None:
    full = take(Rate(key="r", rate=1000, seconds=1000), 0, 0, NOON_NS, 1000)
    taken = take(Rate(key="r", rate=1), full.full_ns, 999, NOON_NS, 1)
    assert taken.wait_ns == SECOND_NS


def test_what_was_told_is_told_once_a_window() -> None:
    for limit in (
        Quota(key="l", limit=4, window="day", warn=(50, 75)),
        Rate(key="l", rate=4, seconds=3600 * 4, warn=(50, 75)),
        Concurrency(key="l", limit=4, warn=(50, 75)),
    ):
        bound = bound_to(limit)
        held, said = [FRESH], list[int]()
        for _ in range(7):
            decision = decide([bound], held, NOON_NS, 1)
            held = decision.held or held
            for tell in decision.tells:
                said.append(tell.percent)
                held = [marked(tell, held[0])]
        assert said == [50, 75, 0], limit
        later = decide([bound], held, NOON_NS + DAY_US * 1000, 0)
        assert not any(tell.percent == 0 for tell in later.tells)


def test_a_late_mark_does_not_touch_a_later_window() -> None:
    quota = bound_to(Quota(key="q", limit=4, window="day"))
    held = (NOON_US + DAY_US, 3, 0, 0)
    assert marked(Tell(quota, 0, EXCEEDED, NOON_US), held) == held
    assert marked(Tell(quota, 0, 1, NOON_US), FRESH) == (NOON_US, 0, 1, 0)
    rate = bound_to(Rate(key="r", rate=1))
    assert marked(Tell(rate, 0, 1, HOUR_US), (5, 0, 2 * HOUR_US, 4)) == (5, 0, 2 * HOUR_US, 4)
    assert marked(Tell(rate, 0, 1, 2 * HOUR_US), (5, 0, HOUR_US, 4)) == (5, 0, 2 * HOUR_US, 1)


def test_what_is_given_back() -> None:
    quota = bound_to(Quota(key="q", limit=4, window="day"))
    held = (decide([quota], [FRESH], NOON_NS, 3).held or [])[0]
    assert returned(quota, held, NOON_US, 2)[1] == 1
    assert returned(quota, held, NOON_US - DAY_US, 2) == held, "that window has ended"
    assert returned(bound_to(Concurrency(key="c", limit=1)), (1, 2, 3, 4), 0, 1) == (0, 2, 3, 4)
    assert returned(bound_to(Rate(key="r", rate=1)), (2 * SECOND_NS, 0, 3, 4), 0, 1) == (
        SECOND_NS,
        0,
        3,
        4,
    )


def test_fields_of_http() -> None:
    bounds = [
        bound_to(Rate(key="pace", rate=50, burst=200)),
        bound_to(Quota(key="month", limit=10, window="month", counts="events", warn=(10,))),
        bound_to(Concurrency(key="c", limit=4)),
    ]
    assert policy(bounds) == (
        '"pace";q=200;w=4, "month";q=10;qu="events";w=2592000, "c";q=4;qu="concurrent-requests"'
    )
    standings = decide(bounds, [FRESH] * 3, NOON_NS, 1).standings
    assert state(standings) == '"pace";r=199;t=1, "month";r=9;t=820800, "c";r=3'
    assert warning(standings) == '"month";p=10'
    assert warning(standings[:1]) == ""
    assert [seconds(wait) for wait in (1, SECOND_NS, SECOND_NS + 1, NEVER)] == [1, 1, 2, 0]


def test_refusals_in_words() -> None:
    found = {
        limit.key: refusal(Stop(bound_to(limit), 1_500_000_000), 1)
        for limit in (
            Rate(key="r", rate=3, seconds=2),
            Quota(key="q", limit=3, window="day"),
            Concurrency(key="c", limit=3),
        )
    }
    codes = {key: error.code for key, error in found.items()}
    assert codes == {"r": "rate-limited", "q": "quota-exceeded", "c": "too-many-at-once"}
    assert {e.retry_after_seconds for e in found.values() if isinstance(e, Throttled)} == {2}
    never = refusal(Stop(bound_to(Rate(key="r", rate=3)), NEVER), 9)
    assert (type(never), never.code) == (Invalid, "over-limit")


def test_facts_have_one_id_a_window() -> None:
    bound = bound_to(Quota(key="q", limit=4, window="day", warn=(80,)))
    first, again = (told(Tell(bound, 80, 1, NOON_US), at) for at in (NOON_US, NOON_US + 5))
    assert first.id == again.id
    assert (first.kind, first.subject, first.customer) == (
        "usage_plan.warning",
        "key:key_1",
        "acme",
    )
    assert json.loads(first.body)["percent"] == 80
    exceeded = told(Tell(bound, 0, EXCEEDED, NOON_US), NOON_US)
    assert exceeded.kind == "usage_plan.exceeded"
    other = told(Tell(bound, 80, 1, NOON_US + DAY_US), NOON_US)
    assert len({first.id, exceeded.id, other.id}) == 3


def test_built_in_limits_are_nobodys() -> None:
    (bound,) = built_in([Concurrency(key="documents", limit=8)])
    assert (bound.plan, bound.tenant, bound.place.own) == ("", "", True)


@pytest.mark.parametrize(
    ("method", "path", "door", "found"),
    [
        ("POST", "/api/v1/events", False, "events"),
        ("GET", "/api/v1/events", False, "api"),
        ("POST", "/v1/metrics", True, "doors"),
        ("GET", "/api/v1/meters/m/query", False, "queries"),
        ("GET", "/api/v1/invoices/i.pdf", False, "documents"),
        ("GET", "/api/v1/streams/s/records", False, "streams"),
    ],
)
def test_groups_of_use(method: str, path: str, found: str, *, door: bool) -> None:
    assert route_of(method, path, door=door) == found


def test_classes_of_status() -> None:
    assert [status_of(one) for one in (101, 204, 304, 429, 503, 999)] == [
        "2xx", "2xx", "3xx", "4xx", "5xx", "5xx",
    ]  # fmt: skip
    assert len({one.place() for one in counters("t", "k")}) == 24


COUNTER = Counter("t", "key_1", "events", "2xx")
SPAN = Period(NOON_US, NOON_US + 60_000_000)


def data(body: bytes) -> Any:
    return json.loads(body)["data"]


def test_use_is_reported_once_whatever_is_repeated() -> None:
    held = added(added([FRESH], 5), 0)[0]
    assert held == (2, 5, 0, 0)
    report = opened(COUNTER, None, held, "g", SPAN)
    assert report is not None
    assert report.pending
    assert data(event(report, "acme")) == {
        "requests": 2, "events": 5, "key": "key_1", "route": "events", "class": "2xx",
        "from": "2026-11-21T12:00:00Z", "to": "2026-11-21T12:01:00Z",
    }  # fmt: skip
    again = opened(COUNTER, report, (9, 9, 0, 0), "g", SPAN)
    assert again == report, "what is pending is told as it is"
    done = closed(report)
    assert not done.pending
    assert opened(COUNTER, done, held, "g", SPAN) is None
    later = Period(SPAN.end_us + 5, SPAN.end_us + 60)
    more = opened(COUNTER, done, (9, 9, 0, 0), "g", later)
    assert more is not None
    assert (data(event(more, "acme"))["requests"], more.upto_us) == (7, later.start_us)
    assert json.loads(event(more, "a"))["id"] != json.loads(event(report, "a"))["id"]


def test_counts_of_another_file_or_gone_back_are_reported_from_where_they_are() -> None:
    report = opened(COUNTER, None, (10, 0, 0, 0), "g", SPAN)
    assert report is not None
    done = closed(report)
    back = opened(COUNTER, done, (7, 0, 0, 0), "g", SPAN)
    assert back is not None
    assert not back.pending
    on = opened(COUNTER, back, (9, 0, 0, 0), "g", SPAN)
    assert on is not None
    assert data(event(on, "a"))["requests"] == 2
    other = opened(COUNTER, done, (3, 0, 0, 0), "h", SPAN)
    assert other is not None
    assert data(event(other, "a"))["requests"] == 3
    assert opened(COUNTER, None, FRESH, "g", SPAN) is None
