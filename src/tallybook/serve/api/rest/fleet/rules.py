"""What edges add up before they send it: declared here, fetched by every agent."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, delete, get, put
from litestar.params import Parameter

from tallybook.adapters.sql.edge.rules import StoredEdgeRules
from tallybook.collect.aggregate.rule import EdgeRule
from tallybook.compose import World
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import BILLING, INGEST
from tallybook.serve.api.gate import Grant

EDGE_CHARS_MAX = 128

Edge = Annotated[
    str, Parameter(query="edge", description="An edge's name; without it, for all edges.")
]


class EdgeRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is declared: rules in order, the first that matches counts."""

    rules: tuple[EdgeRule, ...]


class EdgeRulesView(msgspec.Struct, frozen=True, kw_only=True):
    """The rules that an edge goes by.

    Attributes:
        edge: whose they are; '' where they are for all edges.
        version: stands on every event that is made by them; '' where none are declared.
    """

    edge: str
    version: str
    changed: str | None
    rules: tuple[EdgeRule, ...]


class EdgeRulesOf(Controller):
    """What edges add up before they send it."""

    path = "/edges/rules"
    tags = ("edges",)

    @get("/", opt=INGEST, sync_to_thread=True)
    def get_rules(
        self, world: World, grant: Grant, request: Request[Any, Any, Any], edge: Edge = ""
    ) -> Response[EdgeRulesView | None]:
        """Show the rules that an edge goes by: its own, else those for all.

        The answer has an ETag; asked again with `If-None-Match` it is 304 while nothing changed.
        """
        found = _view(world.edge_rules.of(grant.tenant, _name(edge)))
        if request.headers.get("if-none-match") == _tag(found):
            return Response(None, status_code=304, headers={"etag": _tag(found)})
        return _answer(found)

    @put("/", opt=BILLING, sync_to_thread=True)
    def put_rules(
        self,
        world: World,
        grant: Grant,
        data: EdgeRules,
        edge: Edge = "",
    ) -> Response[EdgeRulesView | None]:
        """Replace the rules of one edge, or of all that have none of their own.

        Edges follow within a minute; windows that are open then close under the version they
        began with.
        """
        now_us = world.clock.now_us()
        stored = world.edge_rules.put(grant.tenant, _name(edge), data.rules, now_us)
        return _answer(_view(stored))

    @delete("/", opt=BILLING, sync_to_thread=True)
    def delete_rules(self, world: World, grant: Grant, edge: Edge = "") -> None:
        """Take an edge's own rules back, so that those for all count; without an edge, those."""
        world.edge_rules.put(grant.tenant, _name(edge), None, world.clock.now_us())


def _name(edge: str) -> str:
    if len(edge) > EDGE_CHARS_MAX or (edge and not edge.isprintable()):
        raise Invalid(f"an edge's name has at most {EDGE_CHARS_MAX} characters", field="edge")
    return edge


def _view(stored: StoredEdgeRules) -> EdgeRulesView:
    told = stored.told()
    changed = format_us(stored.changed_us) if stored.changed_us else None
    return EdgeRulesView(edge=stored.edge, version=told.version, changed=changed, rules=told.rules)


def _tag(view: EdgeRulesView) -> str:
    return f'"{view.version}"'


def _answer(view: EdgeRulesView) -> Response[EdgeRulesView | None]:
    return Response(view, headers={"etag": _tag(view)})


ROUTES: tuple[type[Controller], ...] = (EdgeRulesOf,)
