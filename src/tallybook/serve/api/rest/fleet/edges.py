"""`/edges`: last seen, lag, gaps and repeats, clock, version, certificate of every edge."""

import msgspec
from litestar import Controller, delete, get

from tallybook.adapters.sql.edge.certificates import Certificate
from tallybook.collect.sending.condition import condition, missing, silent_seconds
from tallybook.collect.sending.fleet import EdgeRecord, Incarnation
from tallybook.collect.sending.ranges import Ranges
from tallybook.compose import World
from tallybook.kernel.timestamps import SECOND_US, format_us
from tallybook.serve.api.common.access import ADMIN, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, page, place_of
from tallybook.serve.api.gate import Grant

RANGES_SHOWN_MAX = 50


class WaitingView(msgspec.Struct, frozen=True, kw_only=True):
    """What waits in an edge's spool, as it last told; bytes are compressed."""

    batches: int
    events: int
    bytes: int
    oldest_time: str | None


class CertificateView(msgspec.Struct, frozen=True, kw_only=True):
    """The newest certificate that was issued to an edge."""

    serial: str
    expires_time: str
    revoked_time: str | None
    reason: str | None


class SequenceView(msgspec.Struct, frozen=True, kw_only=True):
    """Sequence numbers of one spool of an edge.

    Attributes:
        incarnation: of the spool; another one where the edge's state folder was made anew.
        highest: greatest number that was stored, 0 for none.
        missing: ranges that left the edge and were not seen here; the newest 50.
        missing_batches: how many numbers that is, in all.
        repeated: ranges that came twice, which changes nothing; repeated_batches is how often.
    """

    incarnation: str
    highest: int
    missing: list[tuple[int, int]]
    missing_batches: int
    repeated: list[tuple[int, int]]
    repeated_batches: int
    last_seen_time: str


class EdgeView(msgspec.Struct, frozen=True, kw_only=True):
    """An edge.

    Attributes:
        state: live, behind (batches wait for more than two minutes) or silent (nothing was heard
            for more than five).
        silent_seconds: since it was last heard of.
        lag_seconds: how long its oldest batch had waited then.
        stored_time: when a batch of it was last stored.
        clock_offset_seconds: its clock minus the server's; null where it was never told.
        certified: whether its last request came under a certificate for its name.
    """

    name: str
    state: str
    version: str
    first_seen_time: str
    last_seen_time: str
    stored_time: str | None
    silent_seconds: int
    lag_seconds: float
    clock_offset_seconds: float | None
    waiting: WaitingView
    missing_batches: int
    repeated_batches: int
    sequences: list[SequenceView]
    certified: bool
    certificate: CertificateView | None


def edge_view(record: EdgeRecord, certificate: Certificate | None, now_us: int) -> EdgeView:
    """Return an edge as the API shows it."""
    offset = record.clock_offset_us
    waiting = record.waiting
    return EdgeView(
        name=record.name,
        state=condition(record, now_us),
        version=record.agent,
        first_seen_time=format_us(record.first_seen_us),
        last_seen_time=format_us(record.last_seen_us),
        stored_time=_time(record.stored_us),
        silent_seconds=silent_seconds(record, now_us),
        lag_seconds=round(record.lag_seconds(), 3),
        clock_offset_seconds=None if offset is None else round(offset / SECOND_US, 3),
        waiting=WaitingView(
            batches=waiting.batches,
            events=waiting.events,
            bytes=waiting.bytes,
            oldest_time=_time(waiting.oldest_us),
        ),
        missing_batches=missing(record),
        repeated_batches=sum(one.repeats for one in record.incarnations),
        sequences=[_sequence(one) for one in record.incarnations],
        certified=record.certified,
        certificate=None if certificate is None else certificate_view(certificate),
    )


def certificate_view(certificate: Certificate) -> CertificateView:
    """Return a certificate as the API shows it."""
    return CertificateView(
        serial=certificate.serial,
        expires_time=format_us(certificate.expires_us),
        revoked_time=_time(certificate.revoked_us),
        reason=certificate.reason,
    )


def _sequence(one: Incarnation) -> SequenceView:
    return SequenceView(
        incarnation=one.id,
        highest=one.received[-1][1] if one.received else 0,
        missing=_shown(one.missing()),
        missing_batches=one.missing_count(),
        repeated=_shown(one.repeated),
        repeated_batches=one.repeats,
        last_seen_time=format_us(one.last_us),
    )


def _shown(ranges: Ranges) -> list[tuple[int, int]]:
    return list(ranges[-RANGES_SHOWN_MAX:])


def _time(us: int | None) -> str | None:
    return None if us is None else format_us(us)


def edge_views(world: World, tenant: str, limit: int, after: str | None = None) -> list[EdgeView]:
    """Return up to `limit` edges by name, from the one after `after`."""
    newest = world.certificates.newest(tenant)
    now_us = world.clock.now_us()
    found = world.edges.listed(tenant, limit, after)
    return [edge_view(record, newest.get(record.name), now_us) for record in found]


class Edges(Controller):
    """The fleet."""

    path = "/edges"
    tags = ("edges",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_edges(
        self, world: World, grant: Grant, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Page[EdgeView]:
        """List edges by name: last seen, lag, missing and repeated batches, clock, certificate."""
        after = place_of(cursor, str)
        found = edge_views(world, grant.tenant, limit + 1, after)
        return page(found, limit, lambda view: view.name)

    @get("/{name:str}", opt=READ, sync_to_thread=True)
    def get_edge(self, world: World, grant: Grant, name: str) -> EdgeView:
        """Show one edge."""
        record = world.edges.get(grant.tenant, name)
        certificate = world.certificates.newest(grant.tenant).get(name)
        return edge_view(record, certificate, world.clock.now_us())

    @delete("/{name:str}", opt=ADMIN, sync_to_thread=True)
    def forget_edge(self, world: World, grant: Grant, name: str) -> None:
        """Take an edge off the list; it comes back when it sends again. Its events stay."""
        world.edges.forget(grant.tenant, name)
