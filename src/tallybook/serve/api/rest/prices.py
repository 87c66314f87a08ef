"""The calculator: what a price makes of a quantity or of events, before anybody is billed."""

from typing import Any

import msgspec
from litestar import post

from tallybook.catalog.price import Price
from tallybook.rate.calculate import PriceAnswer, PriceQuestion, calculate, parse_question
from tallybook.serve.api.common.access import READ

PATH = "/prices/calculate"
DESCRIBED = f"/api/v1{PATH}"


@post(PATH, opt=READ, status_code=200, tags=["prices"], sync_to_thread=True)
def calculate_price(body: bytes) -> PriceAnswer:
    """Calculate what a quantity or events cost under a price; nothing is stored."""
    return calculate(parse_question(body))


def with_question(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the API's description with the calculator's body, every type of price spelled out."""
    shapes, parts = msgspec.json.schema_components(
        (PriceQuestion, Price),
        schema_hook=lambda _: {"type": "object"},  # the price itself is put in below
        ref_template="#/components/schemas/{name}",
    )
    properties = parts["PriceQuestion"]["properties"]
    parts["PriceQuestion"]["properties"] = {**properties, "price": shapes[1]}
    content = {"application/json": {"schema": shapes[0]}}
    operation = {
        **schema["paths"][DESCRIBED]["post"],
        "requestBody": {"required": True, "content": content},
    }
    components = schema["components"]
    return {
        **schema,
        "paths": {**schema["paths"], DESCRIBED: {"post": operation}},
        "components": {**components, "schemas": {**components.get("schemas", {}), **parts}},
    }
