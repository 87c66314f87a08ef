"""The one place where every change through routes and pages passes, and is written down.

A request that may change something runs within a `Recording`: whatever it commits carries a note of
who asked for what, in the same transaction. What it was about is read before and after through the
route that shows it. The answer goes out when the log has the row.

What may change something: everything but GET that needs more than the scope read or ingest; a route
whose `opt` says `audit` says so itself: False for none, a text for the kind of thing.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import structlog
from anyio.to_thread import run_sync
from litestar import Litestar, Request
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from tallybook.adapters.sql.access.recording import Recording, within
from tallybook.adapters.sql.access.unmoved import moved
from tallybook.admit.key import INGEST, READ, SCOPES, Grant
from tallybook.admit.trail import Change, shown
from tallybook.compose import World
from tallybook.kernel.errors import TallybookError
from tallybook.serve.api.gate import PERSON
from tallybook.serve.api.gateway.tags import BYTES_MAX, matches, tag_of

API = "/api/v1"
OWN_TAG = "own_tag"
"""In the `opt` of a handler that compares If-Match itself, where it makes its change."""
INSIDE = "tallybook.inside"
"""Key of the ASGI scope under which the grant stands of a question that the server asks itself."""
_HELD = "audit"
_PARAM = re.compile(r"\{[^}]*\}")
_NAMES = ("id", "key", "name", "tenant", "number")
_FORM_ONLY = ("token", "confirmed", "password")
_PLURALS = {"taxes": "tax", "entries": "entry"}
_REQUEST_ID = re.compile(rb"[!-~]{1,128}\Z")


class Held(msgspec.Struct):
    """What is known of a request while it runs.

    Attributes:
        recording: under which it commits.
        object_path: where the API shows what it is about; '' where it does not.
        made: what a handler says it made: its key or id, and how it is; None where it says nothing.
    """

    recording: Recording
    object_path: str = ""
    made: tuple[str, object] | None = None


def tell(request: "Request[Any, Any, Any]", subject: str, after: object) -> None:
    """Say what a handler made, where its answer does not show it."""
    held: Held | None = request.scope["state"].get(_HELD)
    if held is not None:
        held.made = subject, after


def audited(app: ASGIApp) -> ASGIApp:
    """Return the application of a route, with what it changes written down."""

    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        if not _may_change(scope):
            await app(scope, receive, send)
            return
        world: World = scope["litestar_app"].state.world
        held = Held(Recording(world.ids.new("req"), world.clock.now_us()))
        scope["state"][_HELD] = held
        heard: list[Message] = []

        async def hold(message: Message) -> None:
            heard.append(message)

        with within(held.recording):
            await app(scope, receive, hold)
        await _finish(world, scope["litestar_app"], held, heard)
        for message in heard:
            await send(message)

    return recording


def _may_change(scope: Scope) -> bool:
    asked: Mapping[str, Any] = scope
    if asked["type"] != "http" or asked["method"] in {"GET", "HEAD", "OPTIONS"}:
        return False
    opt: Mapping[str, Any] = scope["route_handler"].opt
    needed = opt.get("page", "admin") if "page" in opt else opt.get("scope", "admin")
    return bool(opt.get("audit", needed not in {READ, INGEST, None}))


async def begin(request: "Request[Any, Any, Any]") -> None:
    """Note who asks for what, once the guard has let the request in."""
    held: Held | None = request.scope["state"].get(_HELD)
    grant = _who(request)
    if held is None or grant is None:
        return
    place = Place(request)
    held.object_path = place.object_path
    if_match = request.headers.get("if-match")
    if if_match is not None and not request.route_handler.opt.get(OWN_TAG):
        await _check_seen(request, held, grant, place, if_match)
    before = await ask(request.app, grant, place.object_path)
    asked = shown(await _body(request))
    held.recording.tenant = grant.tenant
    held.recording.draft = Change(
        actor=actor_of(grant),
        action=place.action,
        kind=place.kind,
        subject=place.subject,
        route=f"{request.method} {place.template}",
        request_id=_request_id(request, held.recording.id),
        before=before,
        asked=asked,
    )


async def _check_seen(
    request: "Request[Any, Any, Any]", held: Held, grant: Grant, place: "Place", if_match: str
) -> None:
    """Refuse a change to a thing that is not what its caller saw; raises Conflict.

    Guarantees: of two changes that were decided from the same state, at most one is made.
    """
    held.recording.seen = await run_sync(request.app.state.unmoved.seen, grant.tenant)
    whole = place.object_path == request.scope["path"].rstrip("/")
    query = request.scope.get("query_string", b"") if whole else b""
    heard = await _answered(request.app, grant, place.object_path, query)
    tag = None
    if heard and heard[0].get("status") == 200:
        text = _text(heard)
        own = dict(heard[0].get("headers", ())).get(b"etag")  # type: ignore[call-overload]
        tag = own.decode("latin-1") if own else tag_of(text) if len(text) <= BYTES_MAX else None
    if not matches(if_match, tag):
        raise moved()


def actor_of(grant: Grant) -> str:
    """Return who a grant stands for, as the log names them."""
    return grant.key_id if grant.key_id.startswith(PERSON) else f"key:{grant.key_id}"


def _who(request: "Request[Any, Any, Any]") -> Grant | None:
    session = request.state.get("session")
    found: Grant | None = session.grant if session is not None else request.state.get("grant")
    return found


def _request_id(request: "Request[Any, Any, Any]", fresh: str) -> str:
    for name, value in request.scope["headers"]:
        if name.lower() == b"x-request-id" and _REQUEST_ID.match(value):
            return value.decode("ascii")
    return fresh


async def _body(request: "Request[Any, Any, Any]") -> bytes:
    """Return what a request says, as JSON; a form without what belongs to the form itself."""
    if "page" not in request.route_handler.opt:
        return await request.body()
    form = await request.form()
    said = {name: str(form[name]) for name in form if name not in _FORM_ONLY}
    return msgspec.json.encode(said) if said else b""


class Place:
    """What a request is about, read from its path.

    Attributes:
        template: the route's path.
        kind: of the thing, such as meter.
        subject: its key or id, '' for none.
        object_path: where the API shows it, '' where it does not.
        action: what is to become of it.
    """

    def __init__(self, request: "Request[Any, Any, Any]") -> None:
        """Read the path."""
        shape = _shape(request.scope["path_template"])
        real = request.scope["path"].rstrip("/").split("/")
        self.template = request.scope["path_template"]
        if not self.template.startswith(API):  # a page: named as the route that shows the same
            shape, real = ["", "api", "v1", *shape[1:]], ["", "api", "v1", *real[1:]]
        showing = showing_paths(request.app)
        self.object_path = self.subject = ""
        for length in _lengths(shape, request.method):
            if "/".join(shape[:length]) in showing:
                self.object_path = "/".join(real[:length])
                break
        for length in _lengths(shape, request.method):
            if shape[length - 1] == "{}":
                self.subject = real[length - 1]
                break
        opt = request.route_handler.opt.get("audit")
        self.kind = opt if isinstance(opt, str) else singular(shape[3])
        self.action = _action(request.method, shape, real, "/".join(shape) in showing)


def _shape(template: str) -> list[str]:
    return _PARAM.sub("{}", template).rstrip("/").split("/")


def _lengths(shape: list[str], method: str) -> Iterator[int]:
    """Yield how much of a path names a thing: all of it, else up to a parameter, longest first."""
    last_is_word = method == "POST" and shape[-1] == "{}"  # /subscriptions/{key}/{what to do}
    if method != "POST":
        yield len(shape)
    for length in range(len(shape) - last_is_word, 4, -1):
        if shape[length - 1] == "{}":
            yield length


def _action(method: str, shape: list[str], real: list[str], listed: bool) -> str:  # noqa: FBT001
    if method in {"PUT", "PATCH"}:
        return "change"
    if method == "DELETE":
        return "delete"
    if len(shape) == 4:
        return "create"
    return f"add-{singular(shape[-1])}" if listed else real[-1]


def singular(word: str) -> str:
    """Return the name of one of many: the kind of thing that a path's first part names."""
    return _PLURALS.get(word, word.removesuffix("s"))


def showing_paths(app: Litestar) -> frozenset[str]:
    """Return the shapes of all paths under which the API shows something."""
    found: frozenset[str] | None = app.state.get("showing")
    if found is None:
        found = frozenset(
            "/".join(_shape(route.path_format))
            for route in app.routes
            for handler in getattr(route, "route_handlers", ())
            if "GET" in handler.http_methods and route.path_format.startswith(API)
        )
        app.state["showing"] = found
    return found


async def ask(app: Litestar, grant: Grant, path: str) -> str | None:
    """Return what the API shows under a path, as the log keeps it; None where it shows nothing."""
    heard = await _answered(app, grant, path)
    if not heard or heard[0].get("status") != 200:
        return None
    return shown(_text(heard))


async def _answered(app: Litestar, grant: Grant, path: str, query: bytes = b"") -> list[Message]:
    """Return what the API answers when the server itself asks; [] where there is no path."""
    if not path:
        return []
    heard: list[Message] = []
    asked, ended = False, asyncio.Event()

    async def receive() -> Any:
        nonlocal asked
        if asked:
            await ended.wait()
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def hear(message: Message) -> None:
        heard.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            ended.set()

    everything = Grant(grant.tenant, grant.key_id, frozenset(SCOPES))
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "scheme": "http",
        "client": None,
        "server": None,
        "headers": [],
        INSIDE: everything,
    }
    with within(None):
        await app(scope, receive, hear)
    return heard


def _text(heard: list[Message]) -> bytes:
    return b"".join(message.get("body", b"") for message in heard[1:])  # type: ignore[misc]


async def _finish(world: World, app: Litestar, held: Held, heard: list[Message]) -> None:
    """Write down what became of a request; what cannot be written now stays pending."""
    recording, draft = held.recording, held.recording.draft
    if draft is None:
        return
    status: int = heard[0].get("status", 500) if heard else 500  # type: ignore[assignment]
    failed = status >= 400
    if not recording.commits and (failed or _only_asks(held, draft)):
        return
    change = msgspec.structs.replace(draft, outcome="failed" if failed else "done")
    if not failed:
        change = await _with_after(app, held, change, heard)
    changes = [] if recording.covers(change) else [change]
    try:
        at_us = recording.at_us
        await run_sync(world.audit.finish, recording, changes, at_us)
    except TallybookError as error:
        structlog.get_logger("audit").error("audit.pending", id=recording.id, error=error.message)


def _only_asks(held: Held, draft: Change) -> bool:
    """Whether a request that committed nothing was a page that asks, or a dry run."""
    if not draft.route.partition(" ")[2].startswith(API):
        return held.made is None
    return '"dry_run":true' in (draft.asked or "")


async def _with_after(app: Litestar, held: Held, change: Change, heard: list[Message]) -> Change:
    if held.made is not None:
        subject, after = held.made
        told = None if after is None else shown(msgspec.json.encode(after))
        return msgspec.structs.replace(change, subject=subject, after=told)
    if held.object_path:
        grant = Grant(held.recording.tenant, "", frozenset())
        after_json = await ask(app, grant, held.object_path)
        return msgspec.structs.replace(change, after=after_json)
    if not _is_json(heard):
        return change
    said = shown(_text(heard))
    subject = change.subject or _named(said or "{}")
    return msgspec.structs.replace(change, subject=subject, after=said)


def _is_json(heard: list[Message]) -> bool:
    headers = dict(heard[0].get("headers", ()))  # type: ignore[call-overload]
    return bool(headers.get(b"content-type", b"").startswith(b"application/json"))


def _named(said: str) -> str:
    """Return the key or id of a thing that an answer shows, which is without secrets."""
    try:
        found = msgspec.json.decode(said, type=dict[str, msgspec.Raw])
        names = [msgspec.json.decode(found[name]) for name in _NAMES if name in found]
    except msgspec.MsgspecError:
        return ""
    return next((name for name in names if isinstance(name, str)), "")
