"""A request that cannot be decoded is refused with the field at fault."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api

SETUP = {"name": "Setup", "amount": "1"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder: Path = tmp_path_factory.mktemp("problems")
    with Api(folder) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/customers", {"key": 1}, "key"),
        ("/customers", {}, "key"),
        ("/customers", {"key": "a", "currency": "USD", "zz": 1}, "zz"),
        ("/customers", [1], "body"),
        ("/invoices", {"customer": "x", "lines": [SETUP, {"name": 1}]}, "lines.name"),
        ("/invoices", {"customer": "x", "lines": [{"name": "x"}]}, "lines.amount"),
        ("/payments", {"customer": "x", "amount": "abc", "method": "m"}, "amount"),
    ],
    ids=str,
)
def test_a_body_that_does_not_fit(api: Api, path: str, body: Any, field: str) -> None:
    refused = api.post(path, body, 400)
    assert (refused["code"], refused["field"]) == ("invalid", field)


def test_a_body_that_is_no_json(api: Api) -> None:
    status, refused = api.call("POST", "/customers", raw=b"{")
    assert (status, refused["code"], refused["field"]) == (400, "invalid", "body")


@pytest.mark.parametrize("limit", ["0", "x"])
def test_a_parameter_that_does_not_fit(api: Api, limit: str) -> None:
    assert api.get(f"/customers?limit={limit}", 400)["field"] == "limit"


def test_what_is_not_there_has_no_field(api: Api) -> None:
    assert "field" not in api.get("/nothing", 404)
