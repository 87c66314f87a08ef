"""The API's description is valid, whole, and says of every route what the route does."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from tallybook.serve.api.document.codes import CODES
from tallybook.serve.api.document.words import TAGS
from tests.support.gatehouse.house import FIRST_KEY, House, house
from tests.support.gatehouse.openmeter import shaped
from tools import problem_codes

STREAM = "get /api/v1/streams/{name}/sse"
PROTOBUF = "post /api/v1/write"
BY_CERTIFICATE = "post /api/v1/edges/certificates/renew"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("document") / "data") as made:
        yield made


@pytest.fixture(scope="module")
def document(server: House) -> Any:
    return server.ask("GET", "/openapi.json", FIRST_KEY).json


@pytest.fixture(params=["/openapi.json", "/openmeter/openapi.json"])
def any_document(request: pytest.FixtureRequest, server: House) -> Any:
    return server.ask("GET", request.param, FIRST_KEY).json


def operations(document: Any) -> list[tuple[str, Any]]:
    return [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_it_is_valid_openapi_3_1(any_document: Any) -> None:
    assert any_document["openapi"].startswith("3.1")
    validate(any_document)


def test_the_value_of_a_meter_is_a_number_unless_it_is_asked_as_text(document: Any) -> None:
    value = document["components"]["schemas"]["UsageRow"]["properties"]["value"]
    assert [kind["type"] for kind in value["anyOf"]] == ["number", "string", "null"]


def test_every_operation_has_a_name_of_its_own_a_group_and_words(document: Any) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names)) > 200
    for name, operation in operations(document):
        assert operation["tags"], name
        assert set(operation["tags"]) <= set(TAGS), name
        assert operation["summary"].endswith((".", ";", ")")), (name, operation["summary"])
        assert operation["description"], name
    assert [tag["name"] for tag in document["tags"]] == list(TAGS)


def test_every_parameter_is_described_and_bounded(any_document: Any) -> None:
    for name, operation in operations(any_document):
        for parameter in operation.get("parameters", ()):
            place = (name, parameter["name"])
            assert parameter["description"], place
            assert not parameter["name"].endswith("_"), place
            schema = parameter["schema"]
            for one in schema.get("oneOf", [schema]):
                if one.get("type") == "string" and "enum" not in one:
                    assert "maxLength" in one or "format" in one, place
            if parameter["name"] == "limit":
                assert (schema["minimum"], schema["maximum"]) == (1, 1000), place
            if parameter["name"] == "cursor" and schema["type"] == "string":
                assert schema["pattern"], place


def test_every_body_and_every_answer_has_an_example(any_document: Any) -> None:
    for name, operation in operations(any_document):
        if "requestBody" in operation and name not in {PROTOBUF, BY_CERTIFICATE}:
            kinds = operation["requestBody"]["content"].values()
            assert any("example" in kind for kind in kinds), f"{name}: no example of a body"
        for status, answer in operation["responses"].items():
            kinds = answer.get("content", {})
            if not status.startswith("2") or not kinds or name in {STREAM, BY_CERTIFICATE}:
                continue
            if "json" in "".join(kinds) and status != "2XX" and not name.endswith("openapi.json"):
                assert any("example" in kind for kind in kinds.values()), f"{name}: no example"


def test_what_is_called_in_openmeters_shapes_is_all_that_is_described(server: House) -> None:
    paths = server.ask("GET", "/openmeter/openapi.json", FIRST_KEY).json["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    called = list(shaped(server, server.tenant("shapes")))
    assert {(one.method, one.template) for one in called} == described


def test_no_example_has_a_secret_or_a_made_up_name(any_document: Any) -> None:
    text = msgspec.json.encode(any_document).decode()
    assert "zanzibar" not in text
    assert not re.search(r"\b(tb|whsec)_(?!example)[A-Za-z0-9+/=_-]{8,}", text)


def test_every_operation_says_who_may_and_how_it_refuses(any_document: Any) -> None:
    assert any_document["security"] == [{"key": []}]
    for name, operation in operations(any_document):
        codes = set(operation["responses"])
        is_open = operation.get("security") == []
        if "4XX" in codes:
            continue
        assert is_open or {"400", "401", "403", "429", "503"} <= codes, name
        if name.partition(" ")[0] != "get":
            assert {"409", "412", "413", "415"} <= codes, name
        for status in codes:
            if status[0] in "45":
                assert "$ref" in operation["responses"][status], (name, status)
    for response in any_document["components"]["responses"].values():
        assert list(response["content"]) == ["application/problem+json"]


def test_the_codes_are_those_of_the_page() -> None:
    module = Path(problem_codes.MODULE).read_text(encoding="utf-8")
    assert module == problem_codes.written(), "python tools/problem_codes.py"
    assert sorted(CODES) == problem_codes.codes()
    # and the page's are those of the source: tools/tidy.py, error_codes
