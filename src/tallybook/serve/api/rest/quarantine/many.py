"""Many pieces at once: counts, decisions, export, and what is done to all that a filter names."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec
from litestar import Controller, Request, get, post
from litestar.response import Stream

from tallybook.compose import World
from tallybook.kernel.errors import Invalid, Refused
from tallybook.kernel.timestamps import format_us
from tallybook.meter.usage import PieceFilter
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, page, place_of
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.events import Place, place
from tallybook.serve.api.rest.quarantine.one import From, To, Wanted, piece_filter
from tallybook.serve.api.rest.quarantine.pieces import (
    Quarantined,
    Redrive,
    State,
    drop,
    pieces,
    redrive,
)

BULK_MAX = 1_000
"""Pieces of one request; `more` says that there are others."""
EXPORT_ROWS = 1_000


class CodeCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many pieces are in quarantine for one reason, and what became of them."""

    code: str
    open: int
    redriven: int
    dropped: int


class DecisionView(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody decided about a piece.

    Attributes:
        id: of the piece.
        by: the key that decided. decided_time: when.
        reason: what they wrote.
        code, source, event_id: of the piece.
        before: the piece as it was received. after: what was sent in its place, null for a drop.
            Both null for decisions of versions that did not keep them.
    """

    id: str
    action: Literal["redriven", "dropped"]
    by: str
    decided_time: str
    reason: str
    code: str | None
    source: str | None
    event_id: str | None
    before: str | None
    after: str | None


class Chosen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Open pieces that a filter names, and what to write down.

    Attributes:
        dry_run: only tell what would be done; the default, so that nothing happens by a slip.
        reason: for the record; a drop needs one.
        from_, to: when they were received, half-open, RFC 3339.
    """

    code: str | None = None
    source: str | None = None
    type: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    reason: str = ""
    dry_run: bool = True

    def filter(self) -> PieceFilter:
        """Return which pieces are meant; raises Invalid."""
        return piece_filter(self.code, self.source, self.type, self.from_, self.to)


class Refusal(msgspec.Struct, frozen=True):
    """A piece that could not be sent again, and why."""

    id: str
    code: str
    message: str


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request about many pieces.

    Attributes:
        matched: open pieces that the filter names, of this request.
        done: ids of those it was done to; of all that match in a dry run.
        refused: pieces that are still as bad as they were.
        more: whether the filter names others.
    """

    dry_run: bool
    matched: int
    done: list[str]
    refused: list[Refusal]
    more: bool


def each(world: World, tenant: str, asked: Chosen, act: Callable[[str], object]) -> Done:
    """Do something to every open piece that a filter names, one by one.

    A piece that is refused stays as it is and holds up no other.
    """
    ids, more = open_ids(world, tenant, asked.filter())
    done, refused = (ids, []) if asked.dry_run else decided(ids, act)
    return Done(dry_run=asked.dry_run, matched=len(ids), done=done, refused=refused, more=more)


def open_ids(world: World, tenant: str, asked: PieceFilter) -> tuple[list[str], bool]:
    """Return up to 1,000 open pieces that a filter names, newest first, and if there are others."""
    found = pieces(world, tenant, "open", BULK_MAX + 1, None, asked)
    return [view.id for _, view in found[:BULK_MAX]], len(found) > BULK_MAX


def decided(ids: list[str], act: Callable[[str], object]) -> tuple[list[str], list[Refusal]]:
    """Do something to pieces one by one; return those it was done to, and what was refused."""
    done: list[str] = []
    refused: list[Refusal] = []
    for one in ids:
        try:
            act(one)
        except Refused as error:
            refused.append(Refusal(one, error.code, error.message))
        else:
            done.append(one)
    return done, refused


def counts(world: World, tenant: str) -> list[CodeCount]:
    """Return how many pieces there are for each reason, most first."""
    known = world.quarantine.codes(tenant)
    found = [
        CodeCount(
            code=code,
            open=max(0, total - sum(n for (c, _), n in known.items() if c == code)),
            redriven=known.get((code, "redriven"), 0),
            dropped=known.get((code, "dropped"), 0),
        )
        for code, total in world.usage.piece_counts(tenant).items()
    ]
    return sorted(found, key=lambda count: (-count.open, count.code))


class Many(Controller):
    """Many pieces of the quarantine at once."""

    path = "/quarantine"
    tags = ("quarantine",)

    @get("/counts", opt=READ, sync_to_thread=True)
    def count_pieces(self, world: World, grant: Grant) -> list[CodeCount]:
        """Count pieces by the reason they are there, and what became of them."""
        return counts(world, grant.tenant)

    @get("/decisions", opt=READ, sync_to_thread=True)
    def list_decisions(
        self, world: World, grant: Grant, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Page[DecisionView]:
        """List what was decided, newest first: who, when, why, before and after."""
        before = place_of(cursor, tuple[int, str])
        found = world.quarantine.decisions(grant.tenant, limit + 1, before)
        shown = page(found, limit, lambda both: (both[0].decided_us, both[0].id))
        views = [
            DecisionView(
                id=decision.id,
                action=decision.action,
                by=decision.key_id,
                decided_time=format_us(decision.decided_us),
                reason=decision.reason,
                code=None if trace is None else trace.code,
                source=None if trace is None else trace.source,
                event_id=None if trace is None else trace.event_id,
                before=None if trace is None else trace.before,
                after=None if trace is None else trace.after or None,
            )
            for decision, trace in shown.items
        ]
        return Page(views, shown.next_cursor)

    @get("/export", opt=READ, sync_to_thread=True, media_type="application/x-ndjson")
    def export_pieces(
        self,
        world: World,
        grant: Grant,
        wanted: Wanted = "open",
        code: str | None = None,
        source: str | None = None,
        type: str | None = None,
        from_: From = None,
        to: To = None,
    ) -> Stream:
        """Export pieces as JSON, one a line, newest first."""
        asked = piece_filter(code, source, type, from_, to)
        lines = _lines(world, grant.tenant, wanted, asked)
        return Stream(lines, media_type="application/x-ndjson")

    @post("/redrive", opt=BILLING, status_code=200, sync_to_thread=True)
    def redrive_pieces(
        self, world: World, grant: Grant, request: "Request[Any, Any, Any]", data: Chosen
    ) -> Done:
        """Send all open pieces again that a filter names, as they came, up to 1,000 a request.

        A dry run, the default, only tells which they are.
        """
        ingest = request.app.state.ingest

        def act(id: str) -> Quarantined:
            return redrive(world, grant, ingest, id, Redrive(reason=data.reason))

        return each(world, grant.tenant, data, act)

    @post("/drop", opt=BILLING, status_code=200, sync_to_thread=True)
    def drop_pieces(self, world: World, grant: Grant, data: Chosen) -> Done:
        """Give all open pieces up that a filter names, with a reason, up to 1,000 a request.

        A dry run, the default, only tells which they are.
        """
        if not data.reason.strip():
            raise Invalid("say why they are dropped", field="reason")
        return each(world, grant.tenant, data, lambda one: drop(world, grant, one, data.reason))


def _lines(world: World, tenant: str, state: State, asked: PieceFilter) -> Iterator[bytes]:
    before: Place | None = None
    while found := pieces(world, tenant, state, EXPORT_ROWS, before, asked):
        for _, view in found:
            yield msgspec.json.encode(view) + b"\n"
        if len(found) < EXPORT_ROWS:
            return
        before = place(found[-1][0])
