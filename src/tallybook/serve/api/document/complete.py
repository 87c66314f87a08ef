"""The description of the routes made whole, in one place: what is said nowhere twice.

Refusals, headers, examples, cursors, tables and doors are the same for every route, or are read
from data beside this module; a new route is described by its types and its docstring.
"""

import copy
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from tallybook.serve.api.document.bodies import BINARY, TOML
from tallybook.serve.api.document.doors import DOORS, with_doors
from tallybook.serve.api.document.refusals import PROBLEM, RESPONSES, refusals
from tallybook.serve.api.document.words import TAGS

METHODS = ("get", "put", "post", "patch", "delete")
CURSOR = {"type": "string", "pattern": "^[A-Za-z0-9_-]*$", "maxLength": 4000}
TEXT_CHARS_MAX = 2000
"""Most characters of a text in a path or query; the line itself is bounded by `gateway`."""
_FORMAT = {
    "name": "format",
    "in": "query",
    "required": False,
    "description": "csv answers a table, as `Accept: text/csv` does; `Next-Cursor` names the next.",
    "schema": {"type": "string", "enum": ["json", "csv"]},
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "ETags that are known; 304 where one is what would be answered.",
    "schema": {"type": "string", "maxLength": TEXT_CHARS_MAX},
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag that a change was decided from; 412 where the thing is another now.",
    "schema": {"type": "string", "maxLength": TEXT_CHARS_MAX},
}
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Same key and body: the first answer again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_HEADERS = {
    "X-Request-Id": {
        "description": "Names this request in logs and in the audit log.",
        "schema": {"type": "string"},
    }
}
_OPEN = {"/health/live", "/health/ready", "/metrics"}


@cache
def examples() -> dict[str, dict[str, Any]]:
    """Return method and path -> an example of the body and of the answer."""
    text = files("tallybook.serve.api.document").joinpath("examples.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, dict[str, Any]])


def completed(schema: dict[str, Any], *, doors: bool = True) -> dict[str, Any]:
    """Return the description of the routes with everything that is the same for all of them.

    Args:
        schema: what the web framework knows of its routes.
        doors: whether the front doors are described beside them.
    """
    made = with_doors(copy.deepcopy(schema)) if doors else copy.deepcopy(schema)
    for path, methods in made["paths"].items():
        for method in METHODS:
            if method in methods:
                _complete(path, method, methods[method])
    _allow_null(made["paths"])
    _allow_null(made["components"])
    if doors:
        made["tags"] = [{"name": name, "description": said} for name, said in TAGS.items()]
    made["servers"] = [{"url": "/"}]
    parts = made["components"]
    parts["schemas"]["Problem"] = PROBLEM
    if "UsageRow" in parts["schemas"]:
        usage = parts["schemas"]["UsageRow"]["properties"]["value"]
        usage["anyOf"] = [{"type": kind} for kind in ("number", "string", "null")]
    parts["responses"] = RESPONSES
    parts["headers"] = _HEADERS
    return made


def _allow_null(value: Any) -> None:
    """Say `anyOf` where null is one of the kinds: it may be one of another kind too."""
    match value:
        case dict():
            kinds = value.get("oneOf")
            if isinstance(kinds, list) and {"type": "null"} in kinds:
                value["anyOf"] = value.pop("oneOf")
            for inner in value.values():
                _allow_null(inner)
        case list():
            for inner in value:
                _allow_null(inner)
        case _:
            pass


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    if (method, path) not in DOORS:
        operation["parameters"] = [_parameter(one) for one in operation.get("parameters", ())]
        _say(operation)
        _bodies(operation, method, path)
        _answers(operation, method, path)
    if path in _OPEN:
        operation["security"] = []
    example = examples().get(f"{method.upper()} {path}", {})
    _exemplify(operation, example)
    for response in operation["responses"].values():
        if "$ref" not in response:
            reference = {"$ref": "#/components/headers/X-Request-Id"}
            response["headers"] = {**response.get("headers", {}), "X-Request-Id": reference}
    if not operation.get("parameters"):
        operation.pop("parameters", None)


def _parameter(one: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter with its bounds, and without what only repeats defaults."""
    schema = dict(one.get("schema", {}))
    kinds = schema.pop("oneOf", None)
    plain = [kind for kind in kinds or () if kind.get("type") != "null"]
    if len(plain) == 1:  # an absent parameter is how a query says null
        schema = {**plain[0], **schema}
    elif kinds:
        schema["oneOf"] = plain
    if one["name"] == "cursor" and schema.get("type") == "string":
        schema |= CURSOR
    elif schema.get("type") == "string" and "enum" not in schema:
        schema.setdefault("maxLength", TEXT_CHARS_MAX)
        if one["in"] == "path":
            schema["minLength"] = 1
    if schema.get("default", 0) is None:
        del schema["default"]
    said = schema.pop("description", None) or one.get("description") or _WORDS.get(one["name"], "")
    kept: dict[str, Any] = {"name": one["name"], "in": one["in"]}
    return {**kept, "required": bool(one.get("required")), "description": said, "schema": schema}


_WORDS = {
    "id": "Its id.",
    "key": "Its key.",
    "name": "Its name, number or id.",
    "tenant": "The tenant's name.",
    "group": "The consumer group.",
    "door": "The front door, such as influx.",
    "version": "A version; the newest where none is named.",
    "customer": "Of this customer.",
    "plan": "Of this plan.",
    "parent": "Paid for by this customer.",
    "run": "Of this billing run.",
    "state": "In this state.",
    "kind": "Of this kind.",
    "code": "With this problem code.",
    "source": "From this source.",
    "type": "Of this type.",
    "subject": "Of this subject.",
    "at": "At this instant, RFC 3339; now where none is named.",
    "from": "A date or RFC 3339, inclusive.",
    "to": "A date or RFC 3339, exclusive.",
    "window": "Width of a window.",
    "amount": "How much is asked for.",
    "cursor": "`next_cursor` of the page before.",
    "line": "Number of the invoice's line, from 1.",
    "format": "The representation.",
    "currency": "ISO 4217.",
    "threshold": "Only from this amount.",
    "account": "Of this account.",
    "document": "Of this document.",
    "invoice": "Of this invoice.",
    "edge": "Of this edge; of all where none is named.",
    "since": "RFC 3339.",
    "after": "After this place.",
    "max": "Most records of an answer.",
    "wait_seconds": "How long to wait for a record.",
    "prune": "Archive what is not declared.",
    "slug": "The meter's key.",
    "feature": "Of this feature.",
    "limit": "Most items of an answer.",
    "page": "Number of the page, from 1.",
    "pageSize": "Most items of a page.",
    "customerId": "Of these customers.",
    "filter": "Conditions by field, a JSON object.",
}


def _say(operation: dict[str, Any]) -> None:
    """Turn the docstring into a summary and what follows it."""
    told = operation.get("description", "").strip()
    if told:
        first, _, rest = told.partition("\n\n")
        operation["summary"] = " ".join(first.split())
        operation["description"] = " ".join(rest.split()) or operation["summary"]
    operation.pop("deprecated", None)


def _bodies(operation: dict[str, Any], method: str, path: str) -> None:
    if (method, path) in TOML:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/toml": {"schema": {"type": "string"}}},
        }
    if "requestBody" in operation:
        operation["requestBody"].setdefault("description", "Also gzip or zstd (Content-Encoding).")


def _answers(operation: dict[str, Any], method: str, path: str) -> None:
    responses = {
        status: response
        for status, response in operation["responses"].items()
        if status.startswith("2")
    }
    for status, response in responses.items():
        response["description"] = _DONE.get(status, "Done.")
        if not response.get("headers"):
            response.pop("headers", None)
        told = response.get("content", {}).get("application/json")
        if told is not None and told.get("schema") == {"type": "string"}:
            told["schema"] = {"type": ["object", "array"]}  # encoded by the route itself
    if (method, path) in BINARY:
        responses["200"]["content"] = copy.deepcopy(BINARY[method, path])
    if method == "get":
        _readable(operation, responses)
    else:
        given = {one["name"].lower() for one in operation["parameters"]}
        wanted: list[dict[str, Any]] = [_IF_MATCH] + ([_IDEMPOTENCY] if method == "post" else [])
        operation["parameters"] += [one for one in wanted if one["name"].lower() not in given]
    operation["responses"] = {**responses, **refusals(method, path)}


_DONE = {
    "200": "Done; the answer.",
    "201": "Made.",
    "202": "Begun; ask how it goes.",
    "204": "Done; there is nothing to say.",
}


def _readable(operation: dict[str, Any], responses: dict[str, Any]) -> None:
    """Say of what is read: it has an ETag, and a table is answered as CSV too."""
    content = responses["200"].get("content", {})
    if "application/json" not in content:
        return
    operation["parameters"].append(_IF_NONE_MATCH)
    responses["200"]["headers"] = {
        "ETag": {"description": "Of small answers.", "schema": {"type": "string"}}
    }
    responses["304"] = {"description": "As it was: an ETag of If-None-Match still holds."}
    reference = content["application/json"].get("schema", {}).get("$ref", "")
    if "/Page_" in reference:
        content["text/csv"] = {"schema": {"type": "string"}}
        operation["parameters"].append(_FORMAT)


def _exemplify(operation: dict[str, Any], example: dict[str, Any]) -> None:
    if "request" in example and "requestBody" in operation:
        for kind in operation["requestBody"]["content"].values():
            kind.setdefault("example", example["request"])
            break
    if "response" in example:
        status = str(example["status"])
        for kind, content in operation["responses"].get(status, {}).get("content", {}).items():
            if kind == example.get("type", "application/json"):
                content.setdefault("example", example["response"])
    for parameter in operation.get("parameters", ()):
        value = example.get("path", {}).get(parameter["name"])
        if parameter["in"] == "path" and value is not None:
            parameter["example"] = value
