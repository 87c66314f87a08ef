"""A number that nothing can count with is refused at once, wherever it is sent.

Generated from the routes' own types and the catalog's: a field that is new is tried too.
"""

import json
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any, get_args

import msgspec
import pytest
from litestar import Litestar, Router
from litestar.handlers import HTTPRouteHandler

from tallybook.catalog.document import DocumentSpec, parse_document
from tallybook.catalog.price.kinds import Price
from tallybook.catalog.price.read import parse_price
from tallybook.kernel.decimals import check_numbers, measure
from tallybook.kernel.errors import Invalid
from tallybook.rate.calculate import PriceQuestion, parse_question
from tallybook.serve.api.compat.openmeter.routes import openmeter_router
from tallybook.serve.api.rest.app import API_ROUTES
from tests.support.api import BASE, Api
from tests.support.number_places import filled, places

HOSTILE = ["1e999999999", "1e-999999999", "0e-999999999", "-1e999999999", "NaN", "Infinity",
           "9" * 5000, "0." + "0" * 5000 + "1"]  # fmt: skip
ENDLESS = "1e99999999999999999999"
"""What no reader takes for a number at all: nothing names the field."""
CPU_SECONDS_MAX = 5
"""Of some refusals: writing one of these numbers out took six, and a gigabyte."""


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    before = time.process_time()
    yield
    assert time.process_time() - before < CPU_SECONDS_MAX


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Api(tmp_path_factory.mktemp("numbers")) as made:
        yield made


def taking_decimals() -> list[tuple[str, str, str, Any]]:
    """Return method, path, place and body for every decimal in the body of a route."""
    routes = Litestar([Router(BASE, route_handlers=API_ROUTES), openmeter_router()]).routes
    return [
        (method, route.path_format, place, example)
        for route in routes
        for handler in getattr(route, "route_handlers", ())
        if isinstance(handler, HTTPRouteHandler) and handler.parsed_data_field is not None
        for place, example in places(handler.parsed_data_field.annotation)
        for method in sorted(handler.http_methods - {"OPTIONS"})
    ]


def of_prices() -> Iterator[tuple[str, Any]]:
    return chain.from_iterable(places(kind) for kind in get_args(Price))


TAKING = taking_decimals()


def test_there_are_many_of_them() -> None:
    assert len(TAKING) > 50


@pytest.mark.parametrize(
    ("method", "path", "place", "example"),
    TAKING,
    ids=[f"{m} {p} {place}" for m, p, place, _ in TAKING],
)
def test_no_route_takes_it(api: Api, method: str, path: str, place: str, example: Any) -> None:
    real = path.removeprefix(BASE).replace("{", "").replace("}", "")
    for number in HOSTILE:
        status, told = api.call(method, real, filled(example, number))
        assert (status, told["field"]) == (400, place), (number[:20], told)


def test_nor_where_it_is_no_text(api: Api) -> None:
    for number in ["1e999999999", "1e-999999999", "9" * 5000, "1e400", "0." + "1" * 5000,
                   ENDLESS]:  # fmt: skip
        raw = f'{{"name": "x", "percent": {number}, "key": "x"}}'.encode()
        status, told = api.call("POST", "/coupons", raw=raw)
        assert status == 400, told


def test_a_number_that_is_no_text_keeps_all_its_digits(api: Api) -> None:
    api.apply('[[customers]]\nkey = "acme"\ncurrency = "USD"\n[[wallets]]\nkey = "w"\n'
              'customer = "acme"\ncurrency = "USD"\n')  # fmt: skip
    for spelled in ("999999999999999.99", "123456789012345.67"):
        raw = f'{{"amount": {spelled}}}'.encode()
        status, told = api.call("POST", "/wallets/w/top-ups", raw=raw)
        assert (status, told["amount"]) == (201, spelled)


def test_no_query_takes_it(api: Api) -> None:
    for number in HOSTILE:
        path = f"/payment-requests?currency=USD&threshold={number}"
        assert api.call("GET", path)[0] == 400


def test_no_catalog_takes_it() -> None:
    for place, example in places(DocumentSpec):
        for number in HOSTILE:
            spec = msgspec.convert(filled(example, number), DocumentSpec)
            with pytest.raises(Invalid) as told:
                check_numbers(spec)
            assert told.value.field == place


def test_no_catalog_file_takes_it() -> None:
    numbers = [*HOSTILE, ENDLESS]
    for spelled in [*numbers, "nan", "-inf", *(f'"{number}"' for number in numbers)]:
        with pytest.raises(Invalid):
            parse_document(f'[[taxes]]\nkey = "vat"\nrate = {spelled}\n')


def test_no_price_takes_it() -> None:
    for place, example in of_prices():
        for number in HOSTILE:
            body = json.dumps(filled(example, number))
            with pytest.raises(Invalid) as told:
                parse_price(body)
            assert told.value.field == f"price.{place}"


def test_the_calculator_does_not_take_it() -> None:
    for place, example in places(PriceQuestion):
        for number in HOSTILE:
            with pytest.raises(Invalid) as told:
                parse_question(json.dumps(filled(example, number)))
            assert told.value.field == place


def test_a_measured_one_is_judged_as_any_other() -> None:
    judged = [measure(number)[0] for number in HOSTILE]
    assert judged == [None, 0, 0, None, None, None, None, None]
    assert measure(ENDLESS)[0] is None
