"""For machines and operators: health, metrics, status, keys, the API's own description."""

import secrets
from typing import Any

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.openapi.spec import OpenAPI

from tallybook import __version__
from tallybook.adapters.sql.keys import key_digest
from tallybook.admit.key import ApiKey
from tallybook.compose import World
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import format_us
from tallybook.meter.usage import Counters
from tallybook.serve.api.common.access import ADMIN, OPEN, READ
from tallybook.serve.api.gate import SCOPES, Grant
from tallybook.serve.api.rest.ingest_doc import with_ingest
from tallybook.serve.api.rest.metrics import exposition
from tallybook.serve.api.rest.prices import with_question
from tallybook.serve.supervisor.folder import KEY_PREFIX, ServerInfo, read_info
from tallybook.serve.worker.pipeline import Lag, lag

KEY_BYTES = 32
KEY_SHOWN_CHARS = 8


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the server is.

    Attributes:
        caught_up: whether everything acknowledged is in the lake.
        head: the lake's newest commit.
        counters: what became of this tenant's events.
        partitions: how far the lake is behind each log partition.
        server: supervisor and children; null where that is unknown.
    """

    version: str
    time: str
    caught_up: bool
    head: int
    counters: Counters
    partitions: list[Lag]
    server: ServerInfo | None


class KeySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to make.

    Attributes:
        scopes: some of ingest, read, billing, admin.
    """

    name: str
    scopes: list[str]


class KeyView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key.

    Attributes:
        shown: its first characters.
        key: the whole key, in the answer that makes it and never again.
    """

    id: str
    name: str
    shown: str
    scopes: list[str]
    created_time: str
    revoked_time: str | None = None
    key: str | None = None


def status(world: World, tenant: str) -> Status:
    """Return how the server is, as a tenant may see it."""
    partitions = lag(world.settings, world.table)
    return Status(
        version=__version__,
        time=format_us(world.clock.now_us()),
        caught_up=all(part.events_behind == 0 for part in partitions if not part.problem),
        head=world.usage.head(),
        counters=world.usage.counters(tenant),
        partitions=partitions,
        server=read_info(world.settings.data_dir),
    )


def make_key(world: World, tenant: str, spec: KeySpec) -> KeyView:
    """Make a key; the answer is the only place that shows it."""
    if not spec.scopes or set(spec.scopes) - set(SCOPES):
        raise Invalid(f"scopes must be some of {', '.join(SCOPES)}", field="scopes")
    if not 1 <= len(spec.name) <= 128:
        raise Invalid("name must have 1 to 128 characters", field="name")
    text = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    key = ApiKey(
        tenant=tenant,
        id=world.ids.new("key"),
        name=spec.name,
        shown=text[:KEY_SHOWN_CHARS],
        digest=key_digest(world.secret, text),
        scopes=tuple(dict.fromkeys(spec.scopes)),
        created_us=world.clock.now_us(),
    )
    world.keys.add(key)
    return msgspec.structs.replace(key_view(key), key=text)


def key_view(key: ApiKey) -> KeyView:
    """Return a key as the API shows it, without its text."""
    return KeyView(
        id=key.id,
        name=key.name,
        shown=key.shown,
        scopes=list(key.scopes),
        created_time=format_us(key.created_us),
        revoked_time=None if key.revoked_us is None else format_us(key.revoked_us),
    )


class Keys(Controller):
    """Who may do what."""

    path = "/keys"
    tags = ("keys",)

    @get("/", opt=ADMIN, sync_to_thread=True)
    def list_keys(self, world: World, grant: Grant) -> list[KeyView]:
        """List keys, revoked ones too."""
        return [key_view(key) for key in world.keys.listed(grant.tenant)]

    @post("/", opt=ADMIN, sync_to_thread=True)
    def create_key(self, world: World, grant: Grant, data: KeySpec) -> KeyView:
        """Make a key; its text is shown in this answer only."""
        return make_key(world, grant.tenant, data)

    @delete("/{id:str}", opt=ADMIN, sync_to_thread=True)
    def revoke_key(self, world: World, grant: Grant, id: str) -> None:
        """Refuse a key from now on; takes effect everywhere within a second."""
        world.keys.revoke(grant.tenant, id, world.clock.now_us())


@get("/status", opt=READ, tags=["system"], sync_to_thread=True)
def show_status(world: World, grant: Grant) -> Status:
    """Show how far the lake is, what became of the events, and which processes run."""
    return status(world, grant.tenant)


@get("/health/live", opt=OPEN, tags=["system"], sync_to_thread=False)
def live() -> dict[str, str]:
    """Answer while the process lives."""
    return {"status": "live"}


@get("/health/ready", opt=OPEN, tags=["system"], sync_to_thread=True)
def ready(world: World) -> dict[str, str]:
    """Answer 200 while keys can be checked and events accepted; 503 otherwise."""
    world.keys.version()
    return {"status": "ready"}


@get("/metrics", opt=OPEN, tags=["system"], sync_to_thread=True)
def metrics(world: World) -> Response[bytes]:
    """Show figures for Prometheus; nothing of a tenant."""
    return Response(exposition(world), media_type="text/plain; version=0.0.4; charset=utf-8")


@get("/openapi.json", opt=READ, tags=["system"], sync_to_thread=True)
def openapi(request: "Request[Any, Any, Any]") -> Response[bytes]:
    """Describe this API: OpenAPI 3.1."""
    found: OpenAPI = request.app.openapi_schema
    described = with_question(with_ingest(found.to_schema()))
    return Response(msgspec.json.encode(described), media_type="application/json")
