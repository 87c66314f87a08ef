"""`GET /meters/{key}/query`: what a meter measured, as OpenMeter's clients ask and read it.

Source: CONTRACTS §3; OpenMeter API, `queryMeter`.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter

from tallybook.catalog.meter import Meter
from tallybook.compose import World
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Forbidden, Invalid
from tallybook.kernel.timestamps import MINUTE_US, format_us, parse_rfc3339
from tallybook.meter.usage import Ownership, Usage, UsageQuery
from tallybook.meter.window import WindowSize, bounds
from tallybook.serve.api.bounds import Span, spans_of
from tallybook.serve.api.common.access import READ_BOUND
from tallybook.serve.api.compat.openmeter.filters import (
    Condition,
    Texts,
    allowed,
    conditions,
    spelled_map,
)
from tallybook.serve.api.gate import Grant

SUBJECT = "subject"
CUSTOMER = "customer_id"
VALUES_MAX = 100
NOWHERE = "\x00"
"""A value that no event has: JSON texts in the lake hold no NUL."""

Numbers = Literal["json", "string"]
Pairs = Sequence[tuple[str, str]]


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed query.

    Attributes:
        start_us: None is the minute of the first event.
        end_us: None is the minute after the last event.
        where: dimension -> texts; None is a missing value, written as an empty text.
        conditions: dimension -> what its value must be besides.
        customers: keys; only their usage, the union of their subjects'.
        by_customer: split by customer.
    """

    start_us: int | None = None
    end_us: int | None = None
    window: WindowSize | None = None
    zone: str = "UTC"
    subjects: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    by_subject: bool = False
    where: dict[str, Texts] = {}
    conditions: dict[str, Condition] = {}
    customers: tuple[str, ...] = ()
    by_customer: bool = False
    numbers: Numbers = "json"


class UsageRow(msgspec.Struct, frozen=True, rename="camel"):
    """One window and group.

    Attributes:
        value: exact; a JSON number with all its digits, or a string where asked; null where no
            event had a usable value.
        group_by: dimension -> value, null where it is missing in the events.
        customer_id: where it was asked by customer.
    """

    value: Decimal | None
    window_start: str
    window_end: str
    subject: str | None
    group_by: dict[str, str | None]
    customer_id: str | msgspec.UnsetType | None = msgspec.UNSET


class UsageAnswer(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The answer to a query; windows and groups without events have no row."""

    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    window_size: str | None = None
    data: list[UsageRow] = msgspec.field(default_factory=lambda: [])  # noqa: PIE807


def parse_ask(pairs: Pairs) -> Ask:
    """Return the query that URL parameters mean; repeated and comma-separated ones are lists.

    Raises:
        Invalid: names the parameter.
    """
    single = {name: text for name, text in pairs if text != ""}
    subjects = _listed(pairs, SUBJECT, split=False)
    groups = _listed(pairs, "groupBy", split=True)
    return Ask(
        start_us=_moment(single, "from"),
        end_us=_moment(single, "to"),
        window=_word(single, "windowSize", WindowSize),
        zone=single.get("windowTimeZone", "UTC"),
        subjects=subjects,
        group_by=tuple(name for name in groups if name not in {SUBJECT, CUSTOMER}),
        by_subject=SUBJECT in groups or bool(subjects),
        where=_where(pairs),
        conditions=_conditions(single),
        customers=_listed(pairs, "filterCustomerId", split=False),
        by_customer=CUSTOMER in groups,
        numbers=_word(single, "numbers", Numbers) or "json",
    )


def _moment(single: dict[str, str], name: str) -> int | None:
    if name not in single:
        return None
    # A '+' that a client did not escape arrives as a blank.
    us = parse_rfc3339(single[name].replace(" ", "+") if "T" in single[name] else single[name])
    if us is None:
        raise Invalid(f"{name} must be RFC 3339, such as 2026-11-01T00:00:00Z", field=name)
    return us


def _word(single: dict[str, str], name: str, kind: Any) -> Any:
    text = single.get(name)
    if text is None:
        return None
    spelled = text.upper() if name == "windowSize" else text
    try:
        return msgspec.convert(spelled, kind)
    except msgspec.ValidationError as error:
        allowed = ", ".join(kind.__args__)
        raise Invalid(f"{name} must be one of {allowed}", field=name) from error


def _listed(pairs: Pairs, name: str, *, split: bool) -> tuple[str, ...]:
    texts = [text for key, text in pairs if key in {name, f"{name}[]"}]
    parts = [part for text in texts for part in (text.split(",") if split else [text])]
    found = tuple(dict.fromkeys(part for part in parts if part))
    if len(found) > VALUES_MAX:
        raise Invalid(f"{name} may have at most {VALUES_MAX} values", field=name)
    return found


def _where(pairs: Pairs) -> dict[str, tuple[str | None, ...]]:
    where: dict[str, tuple[str | None, ...]] = {}
    for key, text in pairs:
        if key.startswith("filterGroupBy["):
            name = key.removeprefix("filterGroupBy[").partition("]")[0]
            where[name] = (*where.get(name, ()), *(part or None for part in text.split(",")))
        elif key == "filterGroupBy" and text:
            where |= spelled_map(text)
    return where


def _conditions(single: dict[str, str]) -> dict[str, Condition]:
    text = single.get("advancedMeterGroupByFilters")
    return {} if text is None else conditions(text)


def answer(world: World, tenant: str, meter: Meter, ask: Ask) -> tuple[Ask, list[Usage]]:
    """Return the query with its borders filled in, and its rows in order."""
    cut = world.usage.head()
    start, end = ask.start_us, ask.end_us
    if start is None or end is None:
        extent = world.usage.extent(tenant, meter, cut)
        if extent is None:
            return ask, []
        if start is None:
            start = extent[0] if end is None else min(extent[0], end - MINUTE_US)
        end = max(extent[1], start + MINUTE_US) if end is None else end
    query = UsageQuery(
        tenant=tenant,
        meter=meter,
        bounds=bounds(start, end, ask.window, ask.zone),
        cut=cut,
        group_by=ask.group_by,
        by_subject=ask.by_subject,
        owners=_owners(world, tenant, ask),
        subjects=ask.subjects or None,
        where=ask.where,
    )
    query = _narrowed(world, query, ask)
    return msgspec.structs.replace(ask, start_us=start, end_us=end), world.usage.usage(query)


def _owners(world: World, tenant: str, ask: Ask) -> tuple[Ownership, ...] | None:
    """Return whose events count; under one label where customers are added up."""
    if not ask.customers and not ask.by_customer:
        return None
    catalog = world.catalog.load(tenant)
    wanted = {catalog.customer(key).key for key in ask.customers}
    return tuple(
        owned if ask.by_customer else msgspec.structs.replace(owned, owner="")
        for owned in world.catalog.ownerships(tenant)
        if not wanted or owned.owner in wanted
    )


def _narrowed(world: World, query: UsageQuery, ask: Ask) -> UsageQuery:
    """Return the query with conditions as the values that they let through."""
    where = dict(query.where)
    for name, condition in ask.conditions.items():
        values = dimension_values(world, query, name)
        let = allowed(condition, where.get(name, values))
        where[name] = let or (NOWHERE,)
    return msgspec.structs.replace(query, where=where)


def dimension_values(world: World, query: UsageQuery, name: str) -> list[str | None]:
    """Return the values of a dimension within the borders of a query, in order."""
    whole = (query.bounds[0], query.bounds[-1])
    asked = msgspec.structs.replace(query, bounds=whole, group_by=(name,), by_subject=False)
    found = {row.group[0] for row in world.usage.usage(asked)}
    return sorted(found, key=lambda text: text or "")


def check_asked(customer: str, ask: Ask) -> None:
    """Refuse a bound key a question about customers other than its own; raises Forbidden."""
    if set(ask.customers) - {customer} or (ask.by_customer and not customer):
        raise Forbidden("this API key may not ask about other customers", code="forbidden")


def bound_answer(
    world: World, tenant: str, meter: Meter, ask: Ask, spans: Sequence[Span]
) -> tuple[Ask, list[Usage]]:
    """Return a query as `answer` does, of what a bound key may see: a row for each subject.

    A window that only partly belongs to its customer begins, or ends, where that does.
    """
    full, found = ask, list[Usage]()
    for span in spans:
        mine = tuple(one for one in span.subjects if not ask.subjects or one in ask.subjects)
        part = msgspec.structs.replace(
            ask,
            subjects=mine,
            by_subject=True,
            start_us=_latest(ask.start_us, span.start_us),
            end_us=_earliest(ask.end_us, span.end_us),
        )
        if mine and (part.start_us is None or part.end_us is None or part.start_us < part.end_us):
            asked, rows = answer(world, tenant, meter, part)
            found += rows
            full = msgspec.structs.replace(
                full,
                start_us=_earliest(full.start_us, asked.start_us),
                end_us=_latest(full.end_us, asked.end_us),
            )
    found.sort(key=lambda row: (row.start_us, row.subject or "", [g or "" for g in row.group]))
    return msgspec.structs.replace(full, by_subject=True), found


def _latest(one: int | None, other: int | None) -> int | None:
    return max((at for at in (one, other) if at is not None), default=None)


def _earliest(one: int | None, other: int | None) -> int | None:
    return min((at for at in (one, other) if at is not None), default=None)


def to_answer(ask: Ask, rows: Iterable[Usage]) -> UsageAnswer:
    """Return the rows as they go over the wire."""
    return UsageAnswer(
        from_=None if ask.start_us is None else format_us(ask.start_us),
        to=None if ask.end_us is None else format_us(ask.end_us),
        window_size=ask.window,
        data=[
            UsageRow(
                value=None if row.value is None else Decimal(plain(row.value)),
                window_start=format_us(row.start_us),
                window_end=format_us(row.end_us),
                subject=row.subject,
                group_by=dict(zip(ask.group_by, row.group, strict=True)),
                customer_id=row.owner if ask.by_customer else msgspec.UNSET,
            )
            for row in rows
        ],
    )


_ENCODERS = {
    "json": msgspec.json.Encoder(decimal_format="number"),
    "string": msgspec.json.Encoder(decimal_format="string"),
}


def to_json(ask: Ask, rows: Iterable[Usage]) -> bytes:
    """Return the answer as JSON; no value passes through a binary float."""
    return _ENCODERS[ask.numbers].encode(to_answer(ask, rows))


def to_csv(ask: Ask, rows: Iterable[Usage]) -> bytes:
    """Return the answer as CSV with a header line; an empty field is a missing value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    extra = ["customer_id"] if ask.by_customer else []
    writer.writerow(["window_start", "window_end", "subject", *extra, *ask.group_by, "value"])
    for row in rows:
        borders = (format_us(row.start_us), format_us(row.end_us))
        value = "" if row.value is None else plain(row.value)
        owner = [row.owner or ""] if ask.by_customer else []
        writer.writerow([*borders, row.subject or "", *owner, *(g or "" for g in row.group), value])
    return text.getvalue().encode()


def _param(name: str, description: str) -> Any:
    return Parameter(query=name, required=False, description=description)


@get(
    "/meters/{key:str}/query",
    opt=READ_BOUND,
    tags=["meters"],
    sync_to_thread=True,
    responses={200: ResponseSpec(data_container=UsageAnswer, generate_examples=False)},
)
def query_meter(
    world: World,
    grant: Grant,
    request: "Request[Any, Any, Any]",
    key: str,
    from_: Annotated[
        str | None,
        _param(
            "from",
            "RFC 3339, inclusive; else the quarter of an hour of the first usage"
            " (TIME_WEIGHTED: the minute).",
        ),
    ] = None,
    to: Annotated[
        str | None,
        _param("to", "RFC 3339, exclusive; else the end of the same of the last usage."),
    ] = None,
    window_size: Annotated[str | None, _param("windowSize", "MINUTE, HOUR, DAY, MONTH.")] = None,
    window_zone: Annotated[str | None, _param("windowTimeZone", "IANA name; UTC.")] = None,
    subject: Annotated[list[str] | None, _param("subject", "Only these, one row each.")] = None,
    group_by: Annotated[
        list[str] | None, _param("groupBy", "Dimensions, subject, or customer_id.")
    ] = None,
    customers: Annotated[
        list[str] | None, _param("filterCustomerId", "Only usage of these customers.")
    ] = None,
    conditions: Annotated[
        str | None,
        _param("advancedMeterGroupByFilters", 'JSON such as {"model": {"$in": ["a"]}}.'),
    ] = None,
    numbers: Annotated[str | None, _param("numbers", "'string' for values as text.")] = None,
) -> Response[bytes]:
    """Show what a meter measured, as JSON, or CSV where `Accept: text/csv`.

    `filterGroupBy[dimension]=a,b` keeps only these values of a dimension. A key that is for some
    subjects, or for one customer, sees these subjects only, one row each.
    """
    # Documented here; read as sent.
    del from_, to, window_size, window_zone, subject, group_by, customers, conditions, numbers
    catalog = world.catalog.load(grant.tenant)
    meter, ask = catalog.meter(key), parse_ask(list(request.query_params.multi_items()))
    if grant.bound:
        check_asked(grant.customer, ask)
        ask, rows = bound_answer(world, grant.tenant, meter, ask, spans_of(catalog, grant))
    else:
        ask, rows = answer(world, grant.tenant, meter, ask)
    if "text/csv" in request.headers.get("accept", ""):
        name = f'attachment; filename="{key}.csv"'
        headers = {"content-disposition": name}
        return Response(to_csv(ask, rows), media_type="text/csv; charset=utf-8", headers=headers)
    return Response(to_json(ask, rows), media_type="application/json")
