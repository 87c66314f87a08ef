"""One call of every route in OpenMeter's shapes, in an order in which each succeeds."""

from collections.abc import Iterator
from typing import Any

import msgspec

from tests.support.gatehouse.house import Answer, House

V1 = "/openmeter/api/v1"
EVENT = {
    "id": "5c10fade-1c9e-4d6c-8275-c52c36731d3c",
    "source": "gateway",
    "type": "prompt",
    "subject": "acme-eu",
    "time": "2026-05-04T10:00:00Z",
    "data": {"tokens": 123, "model": "large"},
}
METER = {
    "slug": "tokens-total",
    "name": "Tokens",
    "eventType": "prompt",
    "aggregation": "SUM",
    "valueProperty": "$.tokens",
    "groupBy": {"model": "$.model"},
}
CUSTOMER = {
    "key": "acme",
    "name": "Example Ltd",
    "currency": "EUR",
    "primaryEmail": "billing@example.com",
    "usageAttribution": {"subjectKeys": ["acme-eu"]},
}
ENTITLEMENT = {
    "customer": "acme",
    "feature": "tokens",
    "type": "metered",
    "meter": "tokens-total",
    "period": "P1M",
    "start": "2026-01-01T00:00:00Z",
    "included": "10000",
}
PLACES = {
    "slug": "tokens-total",
    "name": "model",
    "key": "acme",
    "subject": "acme-eu",
    "feature": "tokens",
}
"""Parameter of a path -> what stands there."""


class Shaped(msgspec.Struct, frozen=True, kw_only=True):
    """A call, and what it was answered."""

    method: str
    template: str
    path: str
    body: Any
    answer: Answer


def shaped(server: House, key: str) -> Iterator[Shaped]:
    """Make the calls as a tenant that has nothing yet.

    Args:
        server: to call.
        key: of the tenant's owner.
    """

    def call(method: str, template: str, body: Any = None, **places: str) -> Shaped:
        path = template
        for name, text in (PLACES | places).items():
            path = path.replace("{" + name + "}", text)
        answer = server.ask(method, path, key, body)
        assert 200 <= answer.status < 300, (method, path, answer.body)
        return Shaped(method=method, template=template, path=path, body=body, answer=answer)

    yield call("POST", f"{V1}/meters", METER)
    yield call("POST", f"{V1}/customers", CUSTOMER)
    other = [{"key": "ann@example.com", "displayName": "Ann"}]
    yield call("POST", f"{V1}/subjects", other)
    assert server.ask("POST", "/api/v1/entitlements", key, ENTITLEMENT).status == 201
    server.send(key, EVENT)
    for template in (
        f"{V1}/meters",
        f"{V1}/meters/{{slug}}",
        f"{V1}/meters/{{slug}}/subjects",
        f"{V1}/meters/{{slug}}/group-by/{{name}}/values",
        f"{V1}/customers",
        f"{V1}/customers/{{key}}",
        f"{V1}/customers/{{key}}/access",
        f"{V1}/customers/{{key}}/entitlements/{{feature}}/value",
        "/openmeter/api/v2/customers/{key}/entitlements/{feature}/value",
        f"{V1}/subjects",
        f"{V1}/subjects/{{subject}}",
        f"{V1}/subjects/{{subject}}/entitlements/{{feature}}/value",
        f"{V1}/events",
        "/openmeter/api/v2/events",
    ):
        yield call("GET", template)
    yield call("PUT", f"{V1}/meters/{{slug}}", {"name": "Tokens of all models"})
    yield call("PUT", f"{V1}/customers/{{key}}", CUSTOMER | {"name": "Example Labs Ltd"})
    yield call("DELETE", f"{V1}/subjects/{{subject}}", subject="ann@example.com")
    entitlement = f"/api/v1/entitlements/{ENTITLEMENT['customer']}:{ENTITLEMENT['feature']}"
    assert server.ask("DELETE", entitlement, key).status == 204
    yield call("DELETE", f"{V1}/customers/{{key}}")
    yield call("DELETE", f"{V1}/meters/{{slug}}")
