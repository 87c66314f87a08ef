"""Things of the API by key: list, get, create, change, archive; thin on purpose.

Lists are iterators that fetch page after page. Meters and customers come as values with names;
everything else is the API's own JSON, its numbers `Decimal`, never a float.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec

from tallybook.adapters.http.client import Client as Http
from tallybook.catalog.customer import CustomerSpec
from tallybook.catalog.meter import MeterSpec
from tallybook.client.usage import Moment, named
from tallybook.kernel.errors import Invalid

T = TypeVar("T")
Json = dict[str, Any]
Asking = Callable[[], Http]


class Meter(MeterSpec, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A meter as the server has it, newest version."""

    version: int = 1
    archived: bool = False


class Customer(CustomerSpec, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A customer as the server has it."""

    rule: str = ""
    archived: bool = False


class Access(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """May a customer use a feature? Its truth is the answer: `if client.entitlements.check(…):`.

    Attributes:
        has_access: whether.
        balance: what is left; usage: of this usage period; overage: what no grant covers.
        config: of a static entitlement.
    """

    has_access: bool
    balance: Decimal = Decimal(0)
    usage: Decimal = Decimal(0)
    overage: Decimal = Decimal(0)
    config: str | None = None

    def __bool__(self) -> bool:
        """Whether the feature may be used."""
        return self.has_access


class Things(Generic[T]):
    """Things of one kind.

    Args:
        asking: returns the connection.
        name: of the collection in the API.
        kind: what an answer becomes.
    """

    kind: Any = Any

    def __init__(self, asking: Asking, name: str) -> None:
        """Ask nothing yet."""
        self._asking = asking
        self._path = f"/api/v1/{name}"

    def list(self, **filters: str | int | bool | None) -> Iterator[T]:
        """Yield all, page after page; `filters` are the route's parameters."""
        params = {name: _param(value) for name, value in filters.items() if value is not None}
        for item in self._asking().pages(self._path, params):
            yield self._one(item)

    def get(self, key: str) -> T:
        """Return one; raises Missing."""
        return self._one(self._asking().get(self._at(key)))

    def create(self, body: object = None, **fields: object) -> T:
        """Create one from a mapping, or from fields by name.

        A request whose answer was lost may be sent again: it carries an `Idempotency-Key`.

        Raises:
            Invalid: names the field.
            Conflict: it exists.
        """
        answer = self._asking().post(
            self._path, _body(body, fields), idempotency_key=secrets.token_hex(16)
        )
        return self._one(answer)

    def change(self, key: str, body: object = None, **fields: object) -> T:
        """Write one as it shall be; raises as `create`."""
        return self._one(self._asking().put(self._at(key), _body(body, fields)))

    def archive(self, key: str) -> None:
        """Take one out of use; raises Missing, or Conflict where something is not billed yet."""
        self._asking().delete(self._at(key))

    def do(self, key: str, command: str, body: object = None, **fields: object) -> Json:
        """Command one, such as `do("INV-000001", "void")`; returns the JSON answer."""
        path = f"{self._at(key)}/{command}"
        asked = _body(body, fields)
        answer: Json = self._asking().post(path, asked, idempotency_key=secrets.token_hex(16))
        return answer

    def _at(self, key: str) -> str:
        return f"{self._path}/{named(key)}"

    def _one(self, item: Any) -> T:
        found: T = item if self.kind is Any else msgspec.convert(item, self.kind)
        return found


class Resource(Things[Json]):
    """Things that come as the API's own JSON."""


class Meters(Things[Meter]):
    """What is counted."""

    kind = Meter


class Customers(Things[Customer]):
    """Who pays."""

    kind = Customer


class Plans(Things[Json]):
    """What is sold."""


class Subscriptions(Things[Json]):
    """Who has bought what; `do(key, "cancel")`, `do(key, "change", plan="pro")` and so on."""


class Events(Things[Json]):
    """What the server has stored."""


class Entitlements(Things[Json]):
    """What customers may use."""

    def check(self, customer: str, feature: str, amount: Decimal | int | None = None) -> Access:
        """Tell whether a customer may use a feature now, or so much of it.

        Raises:
            Missing: the customer has no such entitlement.
        """
        params = None if amount is None else {"amount": str(amount)}
        path = f"{self._at(f'{customer}:{feature}')}/value"
        access: Access = self._asking().get(path, params, into=Access)
        return access


class Invoices(Things[Json]):
    """What was billed."""

    def pdf(self, id: str) -> bytes:
        """Return an invoice as PDF, by id or number."""
        return self._asking().raw("GET", f"{self._at(id)}.pdf").content

    def xml(self, id: str) -> bytes:
        """Return an invoice as an EN 16931 e-invoice; raises Invalid where it lacks something."""
        return self._asking().raw("GET", f"{self._at(id)}.xml").content

    def explain(self, id: str, **line: str | int) -> Json:
        """Return the events behind an invoice's line."""
        answer: Json = self._asking().get(f"{self._at(id)}/explain", dict(line))
        return answer

    def verify(self, id: str) -> Json:
        """Compute an invoice again from what it was made of, and say whether it is the same."""
        answer: Json = self._asking().get(f"{self._at(id)}/verify")
        return answer

    def preview(self, customer: str, *, until: Moment = "now") -> Json | None:
        """Return what a customer's invoice would say; None where there is nothing to bill."""
        asked = until if isinstance(until, str) else until.isoformat()
        answer: Json = self._asking().post(
            f"{self._path}/preview", {"customer": customer, "until": asked}
        )
        invoice: Json | None = answer["invoice"]
        return invoice


def _param(value: str | float | bool) -> str | int:  # noqa: FBT001 - as a query writes it
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, (str, int)) else str(value)


def _body(body: object, fields: Mapping[str, object]) -> object:
    if body is not None and fields:
        raise Invalid("give a body or fields by name, not both", field="body")
    return dict(fields) if body is None else body
