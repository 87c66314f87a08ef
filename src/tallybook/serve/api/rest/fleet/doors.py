"""Front doors: what came in through each, why some of it made no event, and their rules."""

from collections import defaultdict

import msgspec
from litestar import Controller, delete, get, put

from tallybook.adapters.sql.edge.door_rules import StoredRules
from tallybook.adapters.sqlite.door_log import TallyRow, read_tally
from tallybook.collect.doors.rules import DOORS, DoorRules, checked
from tallybook.compose import World
from tallybook.kernel.errors import Missing
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.gate import Grant
from tallybook.serve.worker.pipeline import doors_log


class DoorView(msgspec.Struct, frozen=True, kw_only=True):
    """A front door.

    Attributes:
        door: otlp, prometheus, influx, logs or kafka.
        counts: what became of the points: 'events' made, and those that made none, by reason.
        examples: reason -> a series it happened to, for reasons that tell of something wrong.
        last_time: when something last came in; null for never.
        rules: how its series become events.
        rules_version: 0 where the rules are the defaults.
        rules_changed_time: null for the defaults.
    """

    door: str
    counts: dict[str, int]
    examples: dict[str, str]
    last_time: str | None
    rules: DoorRules
    rules_version: int
    rules_changed_time: str | None


class DoorList(msgspec.Struct, frozen=True):
    """All front doors."""

    items: list[DoorView]


def door_view(door: str, rows: list[TallyRow], stored: StoredRules) -> DoorView:
    """Return a door as the API shows it."""
    last = max((row.last_us for row in rows), default=0)
    return DoorView(
        door=door,
        counts={row.reason: row.count for row in rows},
        examples={row.reason: row.example for row in rows if row.example},
        last_time=format_us(last) if last else None,
        rules=stored.rules,
        rules_version=stored.version,
        rules_changed_time=format_us(stored.changed_us) if stored.version else None,
    )


def known(door: str) -> str:
    """Return a door's name; raises Missing."""
    if door not in DOORS:
        raise Missing(f"there is no door '{door}'; the doors are {', '.join(DOORS)}", field="door")
    return door


def shown(world: World, grant: Grant, door: str) -> DoorView:
    """Return a door as it is now."""
    stored = world.door_rules.get(grant.tenant, door)
    tally = read_tally(doors_log(world.settings.log_dir), grant.tenant)
    return door_view(door, [row for row in tally if row.door == door], stored)


class Doors(Controller):
    """How series of other agents become events, and what came in."""

    path = "/doors"
    tags = ("doors",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_doors(self, world: World, grant: Grant) -> DoorList:
        """List the front doors with their counts and rules."""
        rows: dict[str, list[TallyRow]] = defaultdict(list)
        for row in read_tally(doors_log(world.settings.log_dir), grant.tenant):
            rows[row.door].append(row)
        return DoorList(
            [
                door_view(door, rows[door], world.door_rules.get(grant.tenant, door))
                for door in sorted({*DOORS, *rows})
            ]
        )

    @get("/{door:str}", opt=READ, sync_to_thread=True)
    def get_door(self, world: World, grant: Grant, door: str) -> DoorView:
        """Show a front door."""
        return shown(world, grant, known(door))

    @put("/{door:str}", opt=BILLING, sync_to_thread=True)
    def set_rules(self, world: World, grant: Grant, door: str, data: DoorRules) -> DoorView:
        """Set a door's rules, for requests that come from now on; known within a second."""
        rules = checked(known(door), data)
        world.door_rules.put(grant.tenant, door, rules, world.clock.now_us())
        return shown(world, grant, door)

    @delete("/{door:str}", opt=BILLING, sync_to_thread=True)
    def reset_rules(self, world: World, grant: Grant, door: str) -> None:
        """Go back to the default rules."""
        world.door_rules.forget(grant.tenant, known(door))
