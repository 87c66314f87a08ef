"""The routes of `catalog.toml`: what an apply changes of them, decided once and written."""

from collections.abc import Sequence

from tallybook.adapters.sqlite.streams import SqliteStreamReader
from tallybook.compose import World
from tallybook.route.declare import RuleChange, declared_rules, rule_changes
from tallybook.route.flow import Changing, apply_rules
from tallybook.route.rule import UNMATCHED
from tallybook.serve.api.gate import Grant


def decided(
    world: World, tenant: str, written: Sequence[dict[str, object]] | None, *, prune: bool
) -> list[RuleChange]:
    """Return what is to be done so that a tenant's rules are as a file has them.

    Args:
        world: of the process.
        tenant: whose.
        written: `[[routes]]` of the file; None where it says nothing of any: all stay.
        prune: take away what is not declared.

    Raises:
        Invalid: a rule cannot be.
        Conflict: there would be too many.
    """
    if written is None:
        return []
    return rule_changes(world.rules.rules(tenant), declared_rules(written), prune=prune)


def write(world: World, grant: Grant, changes: Sequence[RuleChange]) -> None:
    """Do what was decided, all of it or nothing; raises Conflict where others were faster."""
    if not changes:
        return
    changing = Changing(
        tenant=grant.tenant,
        by=grant.key_id,
        head=world.table.head(),
        now_us=world.clock.now_us(),
    )
    rules = apply_rules(world.rules, changes, changing)
    names = {UNMATCHED, *(name for rule in rules for name in rule.targets)}
    SqliteStreamReader(world.streams_file).make(grant.tenant, sorted(names), changing.now_us)
