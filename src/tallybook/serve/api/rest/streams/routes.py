"""`/routes`: rules with their versions, tried before they are used, and run again over history."""

import msgspec
from litestar import Controller, Response, delete, get, post, put

from tallybook.adapters.sqlite.streams import SqliteReplays, SqliteStreamReader, SqliteStreamWriter
from tallybook.compose import World
from tallybook.kernel.errors import Conflict, Invalid
from tallybook.route.flow import Changing, delete_rule, put_rule, rule_of
from tallybook.route.pattern.compile import Matcher
from tallybook.route.pattern.explain import Miss, misses
from tallybook.route.pattern.parse import parse_pattern
from tallybook.route.record import document_of
from tallybook.route.replay import Replay
from tallybook.route.rule import UNMATCHED, Declared, Rule, RuleState
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.instants import moment
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.streams.views import ReplayView, RuleView, replay_view, rule_view

REPLAYS_MAX = 4
"""Of one rule at a time."""
READ_ONLY = READ | {"audit": False}


class RuleSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rule shall be.

    Attributes:
        key: names it; may be left out where the path says it.
        pattern: of the pattern language, see docs/algorithms/patterns.md.
        targets: outbound streams; they are made with the rule.
        state: enabled, or paused.
    """

    pattern: dict[str, object]
    targets: tuple[str, ...]
    key: str = ""
    state: RuleState = "enabled"
    description: str = ""

    def declared(self, key: str, body: bytes) -> Declared:
        """Return the declaration, the pattern as it stands in the body; raises Invalid."""
        if self.state == "deleted":
            raise Invalid("state is enabled or paused; DELETE takes a rule away", field="state")
        return Declared(
            key=key,
            pattern=raw_member(body, "pattern").decode(),
            targets=self.targets,
            state=self.state,
            description=self.description,
        )


class Trial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern and the event to try it on, a CloudEvent or any JSON object."""

    pattern: dict[str, object]
    event: dict[str, object]


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an event matches, and why not.

    Attributes:
        misses: the fields at fault, of the alternative of `$or` that comes nearest.
    """

    matches: bool
    misses: list[Miss]


class ReplaySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a replay begins.

    Attributes:
        from_commit: the first lake commit; 1 is the beginning of history.
        from_time: RFC 3339; events received before are left out.
    """

    from_commit: int = 1
    from_time: str | None = None


class RuleHistory(msgspec.Struct, frozen=True, kw_only=True):
    """All versions of a rule, newest first, and its replays."""

    versions: list[RuleView]
    replays: list[ReplayView]


def raw_member(body: bytes, name: str) -> bytes:
    """Return a member of a JSON body as it was sent: its numbers exact, its keys all there."""
    try:
        return bytes(msgspec.json.decode(body, type=dict[str, msgspec.Raw])[name])
    except (msgspec.MsgspecError, KeyError) as error:
        raise Invalid("the body must be a JSON object", field=name) from error


def shown(world: World, tenant: str, rules: list[Rule]) -> list[RuleView]:
    """Return rules with what they delivered and why they are parked; looking makes no file."""
    if not world.settings.streams_db.exists():
        return [rule_view(rule) for rule in rules]
    delivered = SqliteStreamReader(world.streams_file).delivered(tenant)
    broken = SqliteStreamWriter(world.streams_file).broken(tenant)
    return [rule_view(r, delivered.get(r.key, 0), broken.get(r.key)) for r in rules]


def change(
    world: World, grant: Grant, wanted: Declared, seen: int | None = None
) -> tuple[RuleView, bool]:
    """Make or change a rule; return it and whether anything changed."""
    rule, changed = put_rule(world.rules, wanted, _changing(world, grant, seen))
    names = (*rule.targets, UNMATCHED)
    SqliteStreamReader(world.streams_file).make(grant.tenant, names, world.clock.now_us())
    return shown(world, grant.tenant, [rule])[0], changed


def _changing(world: World, grant: Grant, seen: int | None) -> Changing:
    return Changing(
        tenant=grant.tenant,
        by=grant.key_id,
        head=world.table.head(),
        now_us=world.clock.now_us(),
        seen=seen,
    )


def replay(world: World, grant: Grant, key: str, asked: ReplaySpec) -> ReplayView:
    """Ask for a rule to be run over what is past."""
    rule = rule_of(world.rules, grant.tenant, key)
    from_us = moment(asked.from_time, "from_time")
    if asked.from_commit < 1:
        raise Invalid("from_commit must be 1 or more", field="from_commit")
    replays = SqliteReplays(world.streams_file)
    running = [r for r in replays.replays(grant.tenant, key) if r.done_us is None]
    if len(running) >= REPLAYS_MAX:
        raise Conflict(f"{REPLAYS_MAX} replays of this rule are running", code="replay-running")
    made = Replay(
        tenant=grant.tenant,
        id=world.ids.new("rpl"),
        rule=key,
        version=rule.version,
        from_seq=asked.from_commit,
        upto_seq=world.table.head(),
        from_us=from_us,
        asked_by=grant.key_id,
        asked_us=world.clock.now_us(),
    )
    replays.ask(made)
    return replay_view(made)


def tried(pattern: str, event: bytes) -> Tried:
    """Try a pattern on an event, both JSON."""
    matcher = Matcher(parse_pattern(pattern))
    try:
        document = document_of(event)
    except (msgspec.MsgspecError, RecursionError) as error:
        message = f"event must be a JSON object, an event: {error}"
        raise Invalid(message, field="event") from error
    found = misses(matcher, document)
    return Tried(matches=matcher.matches(document), misses=found)


class Routes(Controller):
    """Rules: which events go to which outbound streams."""

    path = "/routes"
    tags = ("routing",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_rules(
        self, world: World, grant: Grant, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Page[RuleView]:
        """List rules, by key."""
        views = shown(world, grant.tenant, world.rules.rules(grant.tenant))
        return keyed_page(views, limit, cursor, lambda view: view.key)

    @post("/", opt=BILLING, sync_to_thread=True)
    def add_rule(self, world: World, grant: Grant, data: RuleSpec, body: bytes) -> RuleView:
        """Make a rule; events accepted after the answer are routed by it."""
        stored = world.rules.history(grant.tenant, data.key)
        if stored and stored[-1].state != "deleted":
            raise Conflict(f"there is a rule '{data.key}' already: PUT changes it", code="exists")
        return change(world, grant, data.declared(data.key, body))[0]

    @post("/test", opt=READ_ONLY, status_code=200, sync_to_thread=True)
    def try_pattern(self, data: Trial, body: bytes) -> Tried:
        """Try a pattern on an event: whether it matches, and why not. Nothing is stored."""
        del data
        return tried(raw_member(body, "pattern").decode(), raw_member(body, "event"))

    @get("/{key:str}", opt=READ, sync_to_thread=True)
    def get_rule(self, world: World, grant: Grant, key: str) -> Response[RuleView]:
        """Show a rule; its ETag is its version."""
        view = shown(world, grant.tenant, [rule_of(world.rules, grant.tenant, key)])[0]
        return Response(view, headers={"etag": f'"{view.version}"'})

    @put("/{key:str}", opt=BILLING, sync_to_thread=True)
    def put_rule(
        self, world: World, grant: Grant, key: str, data: RuleSpec, body: bytes
    ) -> Response[RuleView]:
        """Make or change a rule; a change is a new version, the same again is none."""
        if data.key not in {"", key}:
            raise Invalid("key must be that of the path, or be left out", field="key")
        view, _ = change(world, grant, data.declared(key, body))
        return Response(view, headers={"etag": f'"{view.version}"'})

    @delete("/{key:str}", opt=BILLING, sync_to_thread=True)
    def remove_rule(self, world: World, grant: Grant, key: str) -> None:
        """Take a rule away; what it delivered stays, and its versions stay known."""
        delete_rule(world.rules, key, _changing(world, grant, None))

    @get("/{key:str}/versions", opt=READ, sync_to_thread=True)
    def list_versions(self, world: World, grant: Grant, key: str) -> RuleHistory:
        """Show all versions of a rule, newest first, and its replays; also of one taken away."""
        history = world.rules.history(grant.tenant, key)
        if not history:
            rule_of(world.rules, grant.tenant, key)
        replays = SqliteReplays(world.streams_file).replays(grant.tenant, key)
        return RuleHistory(
            versions=[rule_view(rule) for rule in reversed(history)],
            replays=[replay_view(each) for each in replays],
        )

    @post("/{key:str}/replay", opt=BILLING, status_code=202, sync_to_thread=True)
    def replay_rule(self, world: World, grant: Grant, key: str, data: ReplaySpec) -> ReplayView:
        """Run a rule over what is past; its targets get what they have not got from it yet."""
        return replay(world, grant, key, data)
