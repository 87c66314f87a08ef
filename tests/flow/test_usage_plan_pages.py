"""The console's page of usage plans: plans in words, keys with bars of what they have used."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tallybook.admit.plan.bind import bind
from tallybook.admit.plan.flow import let_through
from tallybook.serve.api.gate import Gate
from tests.flow.test_usage_plan_routes import PLAN, key_of
from tests.support.api import Api
from tests.support.browser import Browser


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        yield made


def test_without_plans_the_page_says_how_to_make_one(api: Api) -> None:
    page = Browser(api, ["admin"]).get("/usage-plans")
    assert page.status == 200
    assert "tallybook usage-plan set" in page.text


def test_the_page_shows_plans_in_words_and_what_keys_have_used(api: Api) -> None:
    api.post("/usage-plans", PLAN)
    key = key_of(api, usage_plan="p")
    grant = Gate(api.world.keys, api.world.secret, api.clock.now_us).by_id(key)
    assert grant is not None
    bounds = bind(api.world.usage_plans.get("default", "p").plan, grant).counting
    for _ in range(6):
        let_through(api.world.counts, bounds[:2], api.clock.now_us() * 1000)
    page = Browser(api, ["admin"]).get("/usage-plans")
    for words in (
        "5 requests a second, 10 at once",
        "10 requests a month",
        "2 running at once",
        "while entitled to calls",
        "1 key, windows in Europe/Berlin",
        'aria-label="60 percent in use"',
        'class="share crowded"',
        "50 %",
    ):
        assert words in page.html, words


def test_only_who_may_see_keys_sees_it(api: Api) -> None:
    assert Browser(api, ["billing"]).get("/usage-plans").status == 403
    assert Browser(api, None).get("/usage-plans").status == 303
    api.post("/usage-plans", {**PLAN, "default": True})
    assert "Standard" not in Browser(api, ["admin"], tenant="other").get("/usage-plans").text
