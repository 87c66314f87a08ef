"""Edges that fell silent, and that are heard of again."""

from collections.abc import Iterator

from tallybook.collect.sending.condition import SILENT_SECONDS
from tallybook.collect.sending.fleet import EdgeRecord
from tallybook.compose import World
from tallybook.deliver.watch import edge_returned_fact, edge_silent_fact
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.timestamps import SECOND_US

EDGES_SECONDS = 30.0
WATCH = "edge"
EDGES_AT_ONCE = 500


def watch_edges(world: World) -> int:
    """Tell of edges that fell silent or are back; return how many."""
    return sum(
        _tell(world, tenant, some)
        for tenant in world.edges.tenants()
        for some in _pages(world, tenant)
    )


def _pages(world: World, tenant: str) -> Iterator[list[EdgeRecord]]:
    after: str | None = None
    while some := world.edges.listed(tenant, EDGES_AT_ONCE, after):
        yield some
        after = some[-1].name


def _tell(world: World, tenant: str, edges: list[EdgeRecord]) -> int:
    """Tell of some edges; the mark is since when one is told silent, 0 where it is back."""
    now_us = world.clock.now_us()
    known = world.marks.of(tenant, WATCH, [edge.name for edge in edges])
    marks: dict[str, int] = {}
    facts: list[Fact] = []
    for edge in edges:
        silent = now_us - edge.last_seen_us > SILENT_SECONDS * SECOND_US
        told_us = known.get(edge.name, 0)
        if silent and told_us != edge.last_seen_us:
            marks[edge.name] = edge.last_seen_us
            facts.append(edge_silent_fact(edge.name, edge.last_seen_us, now_us))
        elif told_us and not silent:
            marks[edge.name] = 0
            facts.append(edge_returned_fact(edge.name, told_us, now_us))
    if marks:
        world.marks.move(tenant, WATCH, marks, facts)
    return len(facts)
