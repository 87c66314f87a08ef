"""The audit log: who changed what, read and checked."""

import csv
import io
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter

from tallybook.adapters.sql.access.audit import Question
from tallybook.admit.trail import Entry, Outcome, Verdict
from tallybook.compose import World
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.admission.anchoring import read_anchor, verdict_of
from tallybook.serve.api.common.access import ADMIN
from tallybook.serve.api.common.instants import moment
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, page, place_of
from tallybook.serve.api.gate import Grant


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A change.

    Attributes:
        seq: its place in the tenant's log, from 1, without gaps.
        actor: 'key:ID', 'user:TENANT/NAME', 'cli:NAME' (somebody at the machine) or 'server'.
        subject: key or id of the thing changed.
        route: method and path, or the command.
        before, after: the thing; null where it was not there, or cannot be shown.
        asked: what the request said; secrets are hidden.
        outcome: done; failed where a part was stored before it was refused; unknown where the
            server ended before it knew.
        digest: over this row and the one before it.
    """

    seq: int
    time: str
    actor: str
    action: str
    kind: str
    subject: str
    route: str
    request_id: str
    before: msgspec.Raw | None
    after: msgspec.Raw | None
    asked: msgspec.Raw | None
    outcome: Outcome
    digest: str


COLUMNS = ("seq", "time", "actor", "action", "kind", "subject", "route", "request_id", "outcome")
Word = Annotated[str, Parameter(description="Exactly this.")]


def audit_view(entry: Entry) -> AuditEntry:
    """Return a row as the API shows it."""
    change = entry.change
    return AuditEntry(
        seq=entry.seq,
        time=format_us(entry.at_us),
        actor=change.actor,
        action=change.action,
        kind=change.kind,
        subject=change.subject,
        route=change.route,
        request_id=change.request_id,
        before=_raw(change.before),
        after=_raw(change.after),
        asked=_raw(change.asked),
        outcome=change.outcome,
        digest=entry.digest,
    )


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())


def to_csv(entries: list[Entry]) -> bytes:
    """Return rows as CSV with a header line; JSON stands in its cells as it is."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*COLUMNS, "before", "after", "asked", "digest"])
    for entry in entries:
        view, change = audit_view(entry), entry.change
        told = (change.before or "", change.after or "", change.asked or "", entry.digest)
        writer.writerow([*(safe_cell(getattr(view, name)) for name in COLUMNS), *told])
    return text.getvalue().encode()


def safe_cell(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


class Audit(Controller):
    """Who changed what."""

    path = "/audit"
    tags = ("audit",)

    @get(
        "/",
        opt=ADMIN,
        sync_to_thread=True,
        responses={200: ResponseSpec(data_container=Page[AuditEntry], generate_examples=False)},
    )
    def list_changes(
        self,
        world: World,
        grant: Grant,
        request: "Request[Any, Any, Any]",
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        kind: Word = "",
        subject: Word = "",
        actor: Word = "",
        action: Word = "",
        from_: Annotated[
            str | None, Parameter(query="from", required=False, description="RFC 3339, inclusive.")
        ] = None,
        to: Annotated[str | None, Parameter(description="RFC 3339, exclusive.")] = None,
    ) -> Response[bytes]:
        """List changes, newest first, as JSON, or CSV where `Accept: text/csv`.

        A page of CSV names the next one in the header `Next-Cursor`.
        """
        asked = Question(
            kind=kind,
            subject=subject,
            actor=actor,
            action=action,
            start_us=moment(from_, "from"),
            end_us=moment(to, "to"),
            before_seq=place_of(cursor, int),
        )
        found = world.audit.listed(grant.tenant, asked, limit + 1)
        shown = page(found, limit, lambda entry: entry.seq)
        if "text/csv" in request.headers.get("accept", ""):
            headers = {"content-disposition": 'attachment; filename="audit.csv"'}
            if shown.next_cursor:
                headers["next-cursor"] = shown.next_cursor
            csv_type = "text/csv; charset=utf-8"
            return Response(to_csv(shown.items), media_type=csv_type, headers=headers)
        views = Page([audit_view(entry) for entry in shown.items], shown.next_cursor)
        return Response(msgspec.json.encode(views), media_type="application/json")

    @get("/verify", opt=ADMIN, sync_to_thread=True)
    def verify(
        self,
        world: World,
        grant: Grant,
        kept: Annotated[
            str | None, Parameter(description="ROW:DIGEST, as an earlier answer told it.")
        ] = None,
    ) -> Verdict:
        """Tell whether the log hangs together: no row changed, missing, put in, or cut off.

        `kept` of the answer names the last row; written down elsewhere and sent one day, it shows
        whether the log still has that row.
        """
        anchor = None if kept is None else read_anchor(kept)
        return verdict_of(world, grant.tenant, anchor)
