"""One call of every route that changes something, in an order in which each succeeds.

A new route needs its call here: the walk compares them with the OpenAPI document.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from tallybook.adapters.sql.edge.edges import Sighting
from tallybook.collect.sending.fleet import Seen
from tallybook.collect.sending.parcel import Note, Parcel
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.serve.worker.prepaid import WalletKeeper
from tests.support.gatehouse.house import Answer, House

API = "/api/v1"
MARK = "zanzibar"
"""Stands in every name that the tenant gives, and nowhere else."""

Made = dict[str, str]
Body = Any | Callable[[Made], Any]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call.

    Attributes:
        template: the route's path below the API's.
        params: of the path; the values are names in what was made so far, or texts themselves.
        body: what is sent.
        query: after the path.
        keep: where the answer's parts are kept: name -> path of names into the answer.
    """

    method: str
    template: str
    params: dict[str, str] = {}
    body: Any = None
    query: str = ""
    keep: dict[str, str] = {}

    def path(self, made: Made) -> str:
        """Return the path with its parameters filled in."""
        path = API + self.template
        for name, text in self.params.items():
            path = path.replace("{" + name + "}", made.get(text, text))
        return path + self.query

    def content(self, made: Made) -> Any:
        """Return the body."""
        return self.body(made) if callable(self.body) else self.body


def named(kind: str) -> str:
    """Return a name that the tenant gives."""
    return f"{kind}-{MARK}"


METER = {"key": named("meter"), "event_type": "t", "aggregation": "COUNT"}
PLAN = {
    "key": named("plan"),
    "currency": "USD",
    "charges": [{"key": "fee", "price": {"type": "flat", "amount": "10"}}],
}
CUSTOMER = {"key": named("customer"), "currency": "USD", "subjects": [named("subject")]}
SUBSCRIPTION = {
    "key": named("subscription"),
    "customer": named("customer"),
    "plan": named("plan"),
    "start": "2025-05-01",
}
COUPON = {"key": named("coupon"), "amount": "1", "currency": "USD"}
TAX = {"key": named("tax"), "rate": "20"}
ENTITLEMENT = {
    "customer": named("customer"),
    "feature": named("feature"),
    "type": "metered",
    "meter": named("meter"),
    "period": "P1M",
    "start": "2025-05-01",
}
ENTITLEMENT_KEY = f"{named('customer')}:{named('feature')}"
WALLET = {
    "key": named("wallet"),
    "customer": named("customer"),
    "currency": "USD",
    "recharge": {"at": "10", "add": "50"},
}
PRICE = {"type": "flat", "amount": "7"}
USAGE_PLAN = {
    "key": named("usage"),
    "limits": [{"type": "rate", "key": "r", "rate": 100000, "seconds": 1}],
}
EDGE = named("edge")
LINE = {"name": named("line"), "amount": "12"}
EDGE_RULES = {"rules": [{"name": "r", "match": named("type")}]}


def one_off(_made: Made) -> Any:
    """Return an invoice of one line."""
    return {"customer": named("customer"), "lines": [LINE]}


def catalog() -> Iterator[Call]:
    """What is sold."""
    yield Call(method="PUT", template="/seller", body={"name": named("seller")})
    yield Call(method="POST", template="/taxes", body=TAX)
    yield Call(method="PUT", template="/taxes/{key}", params={"key": TAX["key"]}, body=TAX)
    yield Call(method="POST", template="/meters", body=METER)
    yield Call(
        method="PUT", template="/meters/{key}", params={"key": named("meter")},
        body=METER | {"name": named("name")},
    )  # fmt: skip
    yield Call(method="POST", template="/plans", body=PLAN)
    dearer = [{"key": "fee", "price": {"type": "flat", "amount": "11"}}]
    yield Call(
        method="PUT", template="/plans/{key}", params={"key": named("plan")},
        body=PLAN | {"charges": dearer},
    )  # fmt: skip
    yield Call(method="POST", template="/coupons", body=COUPON)
    yield Call(
        method="PUT", template="/coupons/{key}", params={"key": named("coupon")},
        body=COUPON | {"name": named("name")},
    )  # fmt: skip
    yield Call(method="POST", template="/customers", body=CUSTOMER)
    yield Call(
        method="PUT", template="/customers/{key}", params={"key": named("customer")},
        body=CUSTOMER | {"name": named("name")},
    )  # fmt: skip
    toml = f'[[plans]]\nkey = "{named("second")}"\ncurrency = "USD"\n[[plans.charges]]\n'
    toml += 'key = "fee"\nprice = { type = "flat", amount = "5" }\n'
    yield Call(method="POST", template="/catalog/apply", body=toml.encode())


def contracts() -> Iterator[Call]:
    """What customers have."""
    key = {"key": named("subscription")}
    yield Call(method="POST", template="/subscriptions", body=SUBSCRIPTION)
    yield Call(method="PUT", template="/subscriptions/{key}", params=key, body=SUBSCRIPTION)
    yield Call(
        method="POST", template="/plans/{key}/migrate", params={"key": named("plan")},
        body={"at": "period-end"},
    )  # fmt: skip
    commands: dict[str, Any] = {
        "change": {"plan": named("second"), "at": "2025-06-01"},
        "quantity": {"charge": "fee", "quantity": "2", "at": "2025-07-01"},
        "price": {"charge": "fee", "price": PRICE, "at": "2025-08-01"},
        "anchor": {"anchor": "2025-09-05", "at": "2025-09-05"},
        "pause": {"at": "2025-10-01"},
        "resume": {"at": "2025-11-01"},
        "cancel": {"at": "period-end"},
        "uncancel": {},
    }
    for command, body in commands.items():
        yield Call(method="POST", template="/subscriptions/{key}/" + command, params=key, body=body)
    yield Call(
        method="POST", template="/coupons/{key}/redeem", params={"key": named("coupon")},
        body={"customer": named("customer")}, keep={"redemption": "id"},
    )  # fmt: skip
    yield Call(
        method="DELETE", template="/customers/{key}/redemptions/{name}",
        params={"key": named("customer"), "name": "redemption"},
    )  # fmt: skip


def prepaid() -> Iterator[Call]:
    """Entitlements and wallets."""
    key = {"key": ENTITLEMENT_KEY}
    grant = {"key": named("grant"), "amount": "5", "effective": "2025-05-01"}
    yield Call(method="POST", template="/entitlements", body=ENTITLEMENT)
    yield Call(method="PUT", template="/entitlements/{key}", params=key, body=ENTITLEMENT)
    yield Call(method="POST", template="/entitlements/{key}/grants", params=key, body=grant)
    yield Call(
        method="POST", template="/entitlements/{key}/grants/{name}/void",
        params=key | {"name": named("grant")}, body={},
    )  # fmt: skip
    yield Call(method="POST", template="/entitlements/{key}/reset", params=key, body={})
    wallet = {"key": named("wallet")}
    top_up = {"key": named("topup"), "amount": "5", "method": "card"}
    yield Call(method="POST", template="/wallets", body=WALLET)
    yield Call(
        method="PUT", template="/wallets/{key}", params=wallet, body=WALLET | {"priority": 2}
    )
    yield Call(method="POST", template="/wallets/{key}/top-ups", params=wallet, body=top_up)
    yield Call(
        method="POST", template="/wallets/{key}/top-ups/{name}/void",
        params=wallet | {"name": named("topup")}, body={},
    )  # fmt: skip
    for ended in ("failed", "paid"):
        yield Call(
            method="POST", template="/wallets/{key}/recharges/{name}/" + ended,
            params=wallet | {"name": f"recharge-{ended}"}, body={},
        )  # fmt: skip


def money() -> Iterator[Call]:
    """Invoices, their life, and what is paid."""
    for name in ("paid", "noted", "voided", "written-off", "open"):
        yield Call(
            method="POST", template="/invoices", body=one_off,
            keep={f"invoice-{name}": "invoice.id"},
        )  # fmt: skip
    yield Call(
        method="POST", template="/invoices", body=lambda made: one_off(made) | {"later": True},
        keep={"charge": "charges.0"},
    )  # fmt: skip
    yield Call(
        method="DELETE", template="/customers/{key}/charges/{name}",
        params={"key": named("customer"), "name": "charge"},
    )  # fmt: skip
    yield Call(
        method="POST", template="/invoices/{name}/pay", params={"name": "invoice-paid"},
        body={"amount": "12", "method": "card", "reference": named("reference")},
    )  # fmt: skip
    yield Call(
        method="POST", template="/credit-notes", keep={"note": "id"},
        body=lambda made: {"invoice": made["invoice-noted"], "reason": named("reason")},
    )  # fmt: skip
    yield Call(method="POST", template="/credit-notes/{name}/void", params={"name": "note"})
    yield Call(method="POST", template="/invoices/{name}/void", params={"name": "invoice-voided"})
    yield Call(method="POST", template="/invoices/{name}/reissue", params={"name": "invoice-noted"})
    yield Call(
        method="POST", template="/invoices/{name}/write-off",
        params={"name": "invoice-written-off"}, body={"reason": named("reason")},
    )  # fmt: skip
    payment = {"customer": named("customer"), "amount": "50", "method": named("method")}
    yield Call(
        method="POST", template="/payments", keep={"payment": "id"},
        body=lambda made: payment
        | {"invoices": [{"invoice": made["invoice-open"], "amount": "1"}]},
    )  # fmt: skip
    yield Call(
        method="POST", template="/payments/from-credit",
        body={"customer": named("customer"), "amount": "1"},
    )  # fmt: skip
    yield Call(
        method="POST", template="/refunds",
        body={"customer": named("customer"), "amount": "1", "method": "bank"},
    )  # fmt: skip
    yield Call(
        method="POST", template="/payments", keep={"payment-back": "id"},
        body=payment | {"amount": "2"},
    )  # fmt: skip
    yield Call(
        method="POST", template="/payments/{name}/reverse", params={"name": "payment-back"},
        body={"reason": named("reason")},
    )  # fmt: skip
    for what in ("refresh", "finalize"):
        yield Call(
            method="POST", template="/invoices/{name}/" + what, params={"name": "draft-kept"}
        )
    yield Call(method="POST", template="/invoices/{name}/discard", params={"name": "draft-dropped"})
    yield Call(
        method="POST", template="/billing-runs", body={"period": "2025-06"}, keep={"run": "id"}
    )


def operations() -> Iterator[Call]:
    """What operators of a tenant do."""
    yield Call(
        method="POST", template="/quarantine/{id}/drop", params={"id": "piece-dropped"},
        body={"reason": named("reason")},
    )  # fmt: skip
    good = {"type": "t", "id": named("piece"), "source": "test", "specversion": "1.0"}
    yield Call(
        method="POST", template="/quarantine/{id}/redrive", params={"id": "piece-redriven"},
        body={"event": good, "reason": named("reason")},
    )  # fmt: skip
    for what in ("drop", "redrive"):
        chosen = {"source": named("many"), "reason": named("reason"), "dry_run": False}
        yield Call(method="POST", template="/quarantine/" + what, body=chosen)
    door = {"door": "influx"}
    rules = {"prefix": named("prefix")}
    yield Call(method="PUT", template="/doors/{door}", params=door, body=rules)
    yield Call(method="DELETE", template="/doors/{door}", params=door)
    yield Call(method="PUT", template="/edges/rules", body=EDGE_RULES)
    yield Call(method="DELETE", template="/edges/rules")
    yield Call(method="DELETE", template="/edges/{name}", params={"name": EDGE})


def access() -> Iterator[Call]:
    """Keys and what limits them."""
    yield Call(
        method="POST", template="/keys", body={"name": named("key"), "roles": ["viewer"]},
        keep={"key": "id"},
    )  # fmt: skip
    key = {"id": "key"}
    yield Call(method="PUT", template="/keys/{id}", params=key, body={"name": named("other")})
    yield Call(
        method="PUT", template="/keys/{id}/limits", params=key,
        body={"limits": USAGE_PLAN["limits"]},
    )  # fmt: skip
    yield Call(
        method="POST", template="/keys/{id}/rotate", params=key, body={}, keep={"successor": "id"}
    )
    yield Call(method="DELETE", template="/keys/{id}", params={"id": "successor"})
    yield Call(method="POST", template="/usage-plans", body=USAGE_PLAN)
    plan = {"key": named("usage")}
    yield Call(
        method="PUT", template="/usage-plans/{key}", params=plan,
        body=USAGE_PLAN | {"name": named("name")},
    )  # fmt: skip


def people() -> Iterator[Call]:
    """Who signs in."""
    user = {"name": named("user")}
    yield Call(method="POST", template="/users", body=user | {"roles": ["viewer"]})
    yield Call(method="PUT", template="/users/{name}", params=user, body={"roles": ["biller"]})
    yield Call(method="POST", template="/users/{name}/password", params=user, body={})
    yield Call(method="POST", template="/users/{name}/sign-out", params=user)


def hooks() -> Iterator[Call]:
    """Who is told."""
    yield Call(
        method="POST", template="/webhooks", keep={"hook": "id"},
        body={"url": "https://example.com/hook", "description": named("hook")},
    )  # fmt: skip
    hook = {"id": "hook"}
    yield Call(
        method="PATCH", template="/webhooks/{id}", params=hook,
        body={"description": named("other")},
    )  # fmt: skip
    yield Call(method="POST", template="/webhooks/{id}/rotate-secret", params=hook, body={})
    yield Call(method="POST", template="/webhooks/{id}/test", params=hook, keep={"delivery": "id"})
    yield Call(
        method="POST", template="/webhooks/{id}/replay", params=hook,
        body={"since": "2025-01-01T00:00:00Z"},
    )  # fmt: skip
    yield Call(
        method="POST", template="/webhooks/deliveries/{id}/replay", params={"id": "delivery"}
    )


def routing() -> Iterator[Call]:
    """Rules, streams and groups."""
    rule = {"key": named("rule"), "pattern": {"type": ["t"]}, "targets": [named("stream")]}
    yield Call(method="POST", template="/routes", body=rule)
    key = {"key": named("rule")}
    yield Call(
        method="PUT", template="/routes/{key}", params=key, body=rule | {"description": MARK}
    )
    yield Call(method="POST", template="/routes/{key}/replay", params=key, body={})
    name = {"name": named("stream")}
    group = {"name": named("group"), "to": "earliest"}
    yield Call(method="PUT", template="/streams/{name}", params=name, body={})
    yield Call(method="POST", template="/streams/{name}/groups", params=name, body=group)
    one = name | {"group": named("group")}
    yield Call(
        method="POST", template="/streams/{name}/groups/{group}/seek", params=one,
        body={"to": "earliest"},
    )  # fmt: skip
    yield Call(
        method="POST", template="/streams/{name}/redrive", params=name, body={},
        query=f"?group={named('group')}",
    )  # fmt: skip


def farewell() -> Iterator[Call]:
    """Everything taken out of use."""
    stream = {"name": named("stream"), "group": named("group")}
    yield Call(method="DELETE", template="/streams/{name}/groups/{group}", params=stream)
    for place, name in {
        "/routes/{key}": named("rule"),
        "/usage-plans/{key}": named("usage"),
        "/wallets/{key}": named("wallet"),
        "/entitlements/{key}": ENTITLEMENT_KEY,
        "/coupons/{key}": named("coupon"),
        "/subscriptions/{key}": named("subscription"),
        "/plans/{key}": named("plan"),
        "/taxes/{key}": named("tax"),
    }.items():
        force = "?force=true" if place.startswith("/subscriptions") else ""
        yield Call(method="DELETE", template=place, params={"key": name}, query=force)
    yield Call(
        method="DELETE", template="/customers/{key}", params={"key": named("customer")},
        query="?force=true",
    )  # fmt: skip
    yield Call(method="DELETE", template="/meters/{key}", params={"key": named("meter")})
    yield Call(method="DELETE", template="/webhooks/{id}", params={"id": "hook"})
    yield Call(method="DELETE", template="/users/{name}", params={"name": named("user")})


def tenancy() -> Iterator[Call]:
    """What an operator does."""
    yield Call(method="POST", template="/tenants", body={"tenant": "made"})
    for what in ("close", "open"):
        yield Call(method="POST", template="/tenants/{tenant}/" + what, params={"tenant": "made"})


def questions() -> Iterator[Call]:
    """What is asked with a body: it changes nothing that a log should keep."""
    toml = f'[[meters]]\nkey = "{named("asked")}"\nevent_type = "t"\naggregation = "COUNT"\n'
    yield Call(method="POST", template="/catalog/diff", body=toml.encode())
    span = "?from=2025-05-01&to=2025-06-01"
    yield Call(method="POST", template="/catalog/backtest", body=toml.encode(), query=span)
    yield Call(
        method="POST", template="/credit-notes/estimate",
        body=lambda made: {"invoice": made["invoice-open"], "reason": "x"},
    )  # fmt: skip
    yield Call(
        method="POST", template="/invoices/preview",
        body={"customer": named("customer"), "period": "2025-07"},
    )  # fmt: skip
    yield Call(
        method="POST", template="/meters/{key}/query", params={"key": named("meter")}, body={}
    )
    price = {"price": PRICE, "currency": "USD", "quantity": "1"}
    yield Call(method="POST", template="/prices/calculate", body=price)
    trial = {"pattern": {"type": ["t"]}, "event": {"type": "t"}}
    yield Call(method="POST", template="/routes/test", body=trial)
    for answer in ("ack", "fail"):
        yield Call(
            method="POST", template="/streams/{name}/" + answer, params={"name": named("stream")},
            body={"lease": "none", "reason": "x"} if answer == "fail" else {"lease": "none"},
            query=f"?group={named('group')}",
        )  # fmt: skip
    yield Call(
        method="POST", template="/streams/{name}/extend", params={"name": named("stream")},
        body={"lease": "none"}, query=f"?group={named('group')}",
    )  # fmt: skip


LIVING = (catalog, contracts, money, prepaid, operations, access, people, hooks, routing)
PARTS = (*LIVING, tenancy, questions, farewell)


class Story:
    """Tells a tenant's story.

    Args:
        house: the server.
        tenant: whose.
        key: of an owner.
    """

    def __init__(self, house: House, tenant: str, key: str) -> None:
        """Nothing was made yet."""
        self.house, self.tenant, self.key = house, tenant, key
        self.made: Made = {}

    def prepare(self, call: Call) -> None:
        """Let there be what no route makes: drafts, pieces in quarantine, edges, recharges."""
        if call.template.endswith("/refresh"):
            self._drafts()
        elif call.template == "/quarantine/{id}/drop":
            late = "2999-01-01T00:00:00Z"
            names = {name: named(name) for name in ("dropped", "redriven")}
            pieces = [{"id": name, "time": late} for name in names.values()]
            self.house.send(self.key, *pieces, {"id": named("event"), "subject": named("subject")})
            stand = self.house.ask("GET", f"{API}/quarantine", self.key).json["items"]
            for name, text in names.items():
                here = (one["id"] for one in stand if text in str(one))
                self.made[f"piece-{name}"] = next(here)
        elif (call.method, call.template) in {("PUT", "/edges/rules"), ("POST", "/keys")}:
            seen = Seen(
                note=Note(Parcel(edge=EDGE), None),
                at_us=self.house.world.clock.now_us(),
                stored=True,
            )
            self.house.world.edges.note([Sighting(self.tenant, seen)])
        elif call.template.endswith(("/failed", "/paid")):
            self._recharge(call.params["name"])

    def tell(self, call: Call, *, prepared: bool = False) -> Answer:
        """Make a call as the tenant's owner; it succeeds."""
        if not prepared:
            self.prepare(call)
        answer = self.house.ask(
            call.method, call.path(self.made), self.key, call.content(self.made)
        )
        assert 200 <= answer.status < 300, (call, answer.status, answer.body)
        for name, place in call.keep.items():
            self.made[name] = _at(answer.json, place)
        return answer

    def _drafts(self) -> None:
        world = self.house.world
        self.house.ask(
            "PUT", f"{API}/customers/{named('customer')}", self.key, CUSTOMER | {"grace_days": 3}
        )
        for name, month in {"kept": "2025-05", "dropped": "2025-06"}.items():
            known = {one.id for one in world.billing(self.tenant).invoices.drafts.drafts(
                self.tenant, limit=9)}  # fmt: skip
            bill(world.billing(self.tenant), BillRequest(period=month))
            (fresh,) = {
                one.id
                for one in world.billing(self.tenant).invoices.drafts.drafts(self.tenant, limit=9)
            } - known
            self.made[f"draft-{name}"] = fresh

    def _recharge(self, name: str) -> None:
        top_ups = f"{API}/wallets/{named('wallet')}/top-ups"
        self.house.ask("POST", top_ups, self.key, {"amount": "1"})
        WalletKeeper().round(self.house.world)
        path = f"{API}/wallets/{named('wallet')}/recharges"
        found = self.house.ask("GET", path, self.key).json["items"]
        self.made[name] = next(one["key"] for one in found if one["state"] == "requested")


def _at(value: Any, place: str) -> str:
    for part in place.split("."):
        value = value[int(part)] if part.isdigit() else value[part]
    return str(value)
