"""Meters in OpenMeter's shapes: `slug`, `eventType`, `valueProperty`, `groupBy`; a bare list."""

from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Controller, Request, Response, delete, get, post, put
from litestar.params import Parameter

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.meter import Meter, MeterSpec, check_meter, meter_spec
from tallybook.compose import World
from tallybook.kernel.errors import Invalid
from tallybook.meter.usage import UsageQuery
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.compat.openmeter.filters import Condition
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.contracts.entries import archive, change, create, shown
from tallybook.serve.api.rest.usage import (
    Pairs,
    answer,
    dimension_values,
    parse_ask,
    to_csv,
    to_json,
)

T = TypeVar("T")

UNKNOWN_TIME = "1970-01-01T00:00:00Z"
"""When something of the catalog was made is not kept; the shapes want an instant."""
PAGE_SIZE, PAGE_SIZE_MAX = 100, 1000

PageNumber = Annotated[int, Parameter(query="page", ge=1)]
PageSize = Annotated[int, Parameter(query="pageSize", ge=1, le=PAGE_SIZE_MAX)]


class MeterBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A meter as a client writes it; `metadata` is taken and not kept."""

    slug: str
    aggregation: str
    event_type: str
    value_property: str | None = None
    group_by: dict[str, str] = {}
    name: str | None = None
    description: str | None = None


class MeterChange(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a client may change of a meter."""

    group_by: dict[str, str] | None = None
    name: str | None = None
    description: str | None = None


class MeterShown(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A meter as a client reads it; its id is its slug."""

    id: str
    slug: str
    aggregation: str
    event_type: str
    value_property: str | None = None
    group_by: dict[str, str] = msgspec.field(default_factory=dict)
    name: str = ""
    description: str | None = None
    created_at: str = msgspec.field(default_factory=lambda: UNKNOWN_TIME)
    updated_at: str = msgspec.field(default_factory=lambda: UNKNOWN_TIME)


class QueryBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A query as `POST /meters/{slug}/query` takes it."""

    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    window_size: str | None = None
    window_time_zone: str | None = None
    subject: list[str] = []
    filter_customer_id: list[str] = []
    filter_group_by: dict[str, list[str]] = {}
    advanced_meter_group_by_filters: dict[str, Condition] = {}
    group_by: list[str] = []


def meter_shown(meter: Meter) -> MeterShown:
    """Return a meter as a client reads it."""
    return MeterShown(
        id=meter.key,
        slug=meter.key,
        aggregation=meter.aggregation,
        event_type=meter.event_type,
        value_property=meter.value,
        group_by={name: str(path) for name, path in meter.group_by.items()},
        name=meter.name or meter.key,
        description=meter.description or None,
    )


def paged(items: list[T], number: int, size: int) -> list[T]:
    """Return one page of a list."""
    return items[(number - 1) * size : number * size]


class Meters(Controller):
    """What is counted."""

    path = "/meters"

    @get("/", opt=READ, sync_to_thread=True)
    def list_meters(
        self, world: World, grant: Grant, page: PageNumber = 1, page_size: PageSize = PAGE_SIZE_MAX
    ) -> list[MeterShown]:
        """List meters in use."""
        catalog = world.catalog.load(grant.tenant)
        versions = shown(catalog, "meter", catalog.meters, archived=False)
        found = sorted((each[-1] for each in versions), key=lambda meter: meter.key)
        return [meter_shown(meter) for meter in paged(found, page, page_size)]

    @post("/", opt=BILLING, sync_to_thread=True)
    def create_meter(self, world: World, grant: Grant, data: MeterBody) -> MeterShown:
        """Create a meter."""
        meter = check_meter(
            MeterSpec(
                key=data.slug,
                event_type=data.event_type,
                aggregation=data.aggregation,
                value=data.value_property or None,
                group_by=data.group_by,
                name=data.name or "",
                description=data.description or "",
            )
        )
        return meter_shown(create(world, grant, meter).meter(meter.key))

    @get("/{slug:str}", opt=READ, sync_to_thread=True)
    def get_meter(self, world: World, grant: Grant, slug: str) -> MeterShown:
        """Show a meter."""
        return meter_shown(world.catalog.load(grant.tenant).meter(slug))

    @put("/{slug:str}", opt=BILLING, sync_to_thread=True)
    def change_meter(self, world: World, grant: Grant, slug: str, data: MeterChange) -> MeterShown:
        """Change names and dimensions of a meter; what is not sent stays."""
        written = meter_spec(world.catalog.load(grant.tenant).meter(slug))
        changes = {n: v for n, v in msgspec.structs.asdict(data).items() if v is not None}
        meter = check_meter(msgspec.structs.replace(written, **changes))
        return meter_shown(change(world, grant, slug, meter).meter(slug))

    @delete("/{slug:str}", opt=BILLING, sync_to_thread=True)
    def archive_meter(self, world: World, grant: Grant, slug: str) -> None:
        """Take a meter out of use; its past stays."""
        archive(world, grant, "meter", slug)

    @get("/{slug:str}/subjects", opt=READ, sync_to_thread=True)
    def list_subjects(
        self, world: World, grant: Grant, request: "Request[Any, Any, Any]", slug: str
    ) -> list[str]:
        """List the subjects that a meter has counted."""
        catalog = world.catalog.load(grant.tenant)
        pairs = [*_span(request), ("groupBy", "subject")]
        _, rows = answer(world, grant.tenant, catalog.meter(slug), parse_ask(pairs))
        return sorted({row.subject for row in rows if row.subject is not None})

    @get("/{slug:str}/group-by/{name:str}/values", opt=READ, sync_to_thread=True)
    def list_values(
        self, world: World, grant: Grant, request: "Request[Any, Any, Any]", slug: str, name: str
    ) -> list[str]:
        """List the values of a dimension that a meter has counted."""
        catalog = world.catalog.load(grant.tenant)
        meter = catalog.meter(slug)
        if name not in meter.group_by:
            raise Invalid(f"meter {slug} has no dimension '{name}'", field="groupByKey")
        ask, rows = answer(world, grant.tenant, meter, parse_ask(_span(request)))
        if not rows or ask.start_us is None or ask.end_us is None:
            return []
        query = UsageQuery(
            tenant=grant.tenant,
            meter=meter,
            bounds=(ask.start_us, ask.end_us),
            cut=world.usage.head(),
        )
        values = dimension_values(world, query, name)
        return [value for value in values if value is not None]


def _span(request: "Request[Any, Any, Any]") -> list[tuple[str, str]]:
    pairs = request.query_params.multi_items()
    return [(name, str(text)) for name, text in pairs if name in {"from", "to"}]


def body_pairs(body: QueryBody) -> Pairs:
    """Return the URL parameters that mean the same as a body."""
    single = {
        "from": body.from_,
        "to": body.to,
        "windowSize": body.window_size,
        "windowTimeZone": body.window_time_zone,
    }
    pairs = [(name, text) for name, text in single.items() if text]
    pairs += [("subject", each) for each in body.subject]
    pairs += [("filterCustomerId", each) for each in body.filter_customer_id]
    pairs += [("groupBy", each) for each in body.group_by]
    return pairs


@post("/meters/{key:str}/query", opt=READ, status_code=200, tags=["meters"], sync_to_thread=True)
def query_meter_by_body(
    world: World,
    grant: Grant,
    request: "Request[Any, Any, Any]",
    key: str,
    data: QueryBody | None = None,
) -> Response[bytes]:
    """Show what a meter measured: the same as GET, with a question too long for an address."""
    catalog: Catalog = world.catalog.load(grant.tenant)
    body = data or QueryBody()
    where = {name: tuple(t or None for t in texts) for name, texts in body.filter_group_by.items()}
    asked = msgspec.structs.replace(
        parse_ask(body_pairs(body)),
        where=where,
        conditions=body.advanced_meter_group_by_filters,
    )
    ask, rows = answer(world, grant.tenant, catalog.meter(key), asked)
    if "text/csv" in request.headers.get("accept", ""):
        return Response(to_csv(ask, rows), media_type="text/csv; charset=utf-8")
    return Response(to_json(ask, rows), media_type="application/json")
