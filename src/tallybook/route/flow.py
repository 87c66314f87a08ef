"""Use cases of routing: route what was committed, replay, change a rule.

The order is the guarantee: head of the lake → rules → records → one transaction of records and
cursor. An event accepted after a rule was stored is committed after it, so the rule sees it.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import msgspec

from tallybook.kernel.errors import Conflict, Missing
from tallybook.kernel.ports import Clock
from tallybook.route.declare import RuleChange, taken_away
from tallybook.route.ports import CommittedRecords, Replays, RuleStore, Slice, StreamWriter
from tallybook.route.record import DONE, Place, Record, begun_anew, envelope
from tallybook.route.replay import Replay
from tallybook.route.rule import RULES_MAX, UNMATCHED, Declared, Rule, declared, next_version
from tallybook.route.stream import LIVE, Delivery, Moved
from tallybook.route.table import RoutingTable

TABLES_MAX = 64
"""Tenants whose compiled rules are remembered."""


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """The ports that the router works with."""

    rules: RuleStore
    records: CommittedRecords
    streams: StreamWriter
    replays: Replays
    clock: Clock


class Span(msgspec.Struct, frozen=True):
    """Commits that are routed by the same rules; both ends included."""

    first: int
    last: int
    tables: Mapping[str, RoutingTable]


def spans(rules: Sequence[Rule], after_seq: int, head: int) -> list[Span]:
    """Return the commits after one, cut where a rule begins or changes; without rules left out.

    Args:
        rules: all versions of all rules.
        after_seq: the last commit that is done.
        head: the last commit there is.
    """
    cuts = sorted({r.since_seq for r in rules if after_seq + 1 < r.since_seq <= head})
    firsts = [after_seq + 1, *cuts]
    lasts = [*(cut - 1 for cut in cuts), head]
    found = []
    for first, last in zip(firsts, lasts, strict=True):
        tables = tables_at(rules, first)
        if tables and first <= last:
            found.append(Span(first, last, tables))
    return found


def tables_at(rules: Sequence[Rule], seq: int) -> dict[str, RoutingTable]:
    """Return the rules that route a commit, by tenant; tenants without an enabled rule left out."""
    newest: dict[tuple[str, str], Rule] = {}
    for rule in rules:
        if rule.since_seq <= seq:
            newest[rule.tenant, rule.key] = rule
    of_tenant: dict[str, list[Rule]] = {}
    for rule in newest.values():
        if rule.state == "enabled":
            of_tenant.setdefault(rule.tenant, []).append(rule)
    return {tenant: _table(tuple(found)) for tenant, found in of_tenant.items()}


@lru_cache(maxsize=TABLES_MAX)
def _table(rules: tuple[Rule, ...]) -> RoutingTable:
    """Return rules compiled, once: a thousand of them take a tenth of a second."""
    return RoutingTable(rules)


def deliveries(table: RoutingTable, records: Iterable[Record]) -> list[Delivery]:
    """Return where records go: to the targets of every rule they match, else to `unmatched`."""
    found = []
    for record in records:
        rules = table.matching(record)
        text = envelope(record)
        if not rules:
            found.append(_delivery(UNMATCHED, "", 0, record, text))
        for rule in rules:
            found += [_delivery(t, rule.key, rule.version, record, text) for t in rule.targets]
    return found


def _delivery(stream: str, rule: str, version: int, record: Record, text: bytes) -> Delivery:
    return Delivery(stream=stream, rule=rule, version=version, record=record, envelope=text)


def route_once(routing: Routing) -> int:
    """Route everything that is committed; return how many records were put on streams.

    Without a rule nothing is read.
    """
    head = routing.records.head()
    rules = routing.rules.all_versions()
    done = begun_anew(routing.streams.cursor(LIVE) or Place(0, DONE))
    put = 0
    for span in spans(rules, done.commit_seq if done.row >= DONE else done.commit_seq - 1, head):
        _tell_broken(routing, span)
        start = max(done, Place(span.first - 1, DONE))
        for part in routing.records.read(start, span.last, sorted(span.tables)):
            put += _route(routing, span, part)
    return put


def _route(routing: Routing, span: Span, part: Slice) -> int:
    found = []
    for tenant, records in _by_tenant(part.records).items():
        found.append((tenant, deliveries(span.tables[tenant], records)))
    moved = Moved(name=LIVE, place=part.after)
    return routing.streams.append(found, routing.clock.now_us(), moved)


def _by_tenant(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.tenant, []).append(record)
    return found


def _tell_broken(routing: Routing, span: Span) -> None:
    """Park what cannot be used; a rule that was mended meanwhile is taken back."""
    for tenant, table in span.tables.items():
        known = routing.streams.broken(tenant)
        now = {broken.rule.key: broken for broken in table.broken}
        for key, broken in now.items():
            if known.get(key) != (broken.rule.version, broken.reason):
                routing.streams.tell_broken(tenant, key, broken.rule.version, broken.reason)
        for key in known.keys() - now.keys():
            routing.streams.tell_broken(tenant, key, 0, "")


def replay_once(routing: Routing) -> int:
    """Carry on every replay that has not ended; return how many records were put on streams."""
    return sum(_replay(routing, replay) for replay in routing.replays.running())


def _replay(routing: Routing, replay: Replay) -> int:
    rules = routing.rules.history(replay.tenant, replay.rule)
    rule = next((r for r in rules if r.version == replay.version), None)
    table = RoutingTable([rule] if rule is not None else [])
    if not table.rules:
        reason = table.broken[0].reason if table.broken else "the rule is gone"
        routing.replays.end(replay.tenant, replay.id, routing.clock.now_us(), reason)
        return 0
    put = 0
    start = max(begun_anew(replay.place), Place(replay.from_seq - 1, DONE))
    for part in routing.records.read(start, replay.upto_seq, [replay.tenant]):
        chosen = [r for r in part.records if r.received_us >= (replay.from_us or 0)]
        found = [d for d in deliveries(table, chosen) if d.rule]
        moved = Moved(name=replay.id, place=part.after)
        put += routing.streams.append([(replay.tenant, found)], routing.clock.now_us(), moved)
    routing.replays.end(replay.tenant, replay.id, routing.clock.now_us(), "")
    return put


class Changing(msgspec.Struct, frozen=True, kw_only=True):
    """Who changes a rule, and from what they saw.

    Attributes:
        head: the lake's newest commit, read before the change.
        seen: the version that was seen; None where nothing was.
    """

    tenant: str
    by: str
    head: int
    now_us: int
    seen: int | None = None


def put_rule(store: RuleStore, wanted: Declared, changing: Changing) -> tuple[Rule, bool]:
    """Make or change a rule; return it as it stands, and whether anything changed.

    Raises:
        Invalid: the declaration is wrong.
        Conflict: the rule was changed since it was seen, or there are too many.
    """
    declared(wanted)
    history = store.history(changing.tenant, wanted.key)
    stored = history[-1] if history else None
    if changing.seen is not None and changing.seen != (stored.version if stored else 0):
        message = "the rule was changed meanwhile; look at it again"
        raise Conflict(message, code="version-changed", field="version")
    if (stored is None or stored.state == "deleted") and (
        len(store.rules(changing.tenant)) >= RULES_MAX
    ):
        raise Conflict(f"a tenant has at most {RULES_MAX} rules", code="too-many-rules")
    rule = _next(stored, wanted, changing)
    if rule is None:
        assert stored is not None
        return stored, False
    store.add(rule)
    return rule, True


def _next(stored: Rule | None, wanted: Declared, changing: Changing) -> Rule | None:
    return next_version(
        stored,
        wanted,
        tenant=changing.tenant,
        since_seq=changing.head + 1,
        now_us=changing.now_us,
        by=changing.by,
    )


def delete_rule(store: RuleStore, key: str, changing: Changing) -> Rule:
    """Take a rule out of use; its versions stay, for what they delivered names them.

    Raises:
        Missing: there is none.
    """
    stored = rule_of(store, changing.tenant, key)
    return put_rule(store, taken_away(stored), changing)[0]


def apply_rules(store: RuleStore, changes: Sequence[RuleChange], changing: Changing) -> list[Rule]:
    """Write what an apply decided, all of it or nothing, and return the new versions.

    Raises:
        Conflict: a rule was changed since that was decided.
    """
    made = []
    for change in changes:
        history = store.history(changing.tenant, change.key)
        stored = history[-1] if history else None
        live = stored.version if stored is not None and stored.state != "deleted" else 0
        if live != change.seen:
            message = f"the rule '{change.key}' was changed meanwhile; look at it again"
            raise Conflict(message, code="version-changed", field="version")
        made.append(_next(stored, change.rule, changing))
    rules = [rule for rule in made if rule is not None]
    if rules:
        store.add(*rules)
    return rules


def rule_of(store: RuleStore, tenant: str, key: str) -> Rule:
    """Return the newest version of a rule; raises Missing."""
    history = store.history(tenant, key)
    if not history or history[-1].state == "deleted":
        raise Missing(f"there is no rule '{key}'", field="key")
    return history[-1]
