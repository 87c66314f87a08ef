"""`/streams/{name}/dead-letters`, `redrive`: what a group could not process, and again."""

import msgspec
from litestar import Controller, get, post

from tallybook.adapters.sqlite.streams import SqliteShares
from tallybook.compose import World
from tallybook.route.ports import GroupAt
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, page, place_of
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.streams.views import DeadLetterView, GroupName, letter_view


class RedriveSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters to hand out again: `ids`, or all."""

    ids: list[int] | None = None


class RedrivenView(msgspec.Struct, frozen=True, kw_only=True):
    """How many dead letters are handed out again, each alone."""

    redriven: int


class DeadLetters(Controller):
    """Records that a group could not process."""

    path = "/streams/{name:str}"
    tags = ("routing",)

    @get("/dead-letters", opt=READ, sync_to_thread=True)
    def list_dead_letters(
        self,
        world: World,
        grant: Grant,
        name: str,
        group: GroupName,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Page[DeadLetterView]:
        """List what a group could not process, with the reason, by id."""
        at = GroupAt(grant.tenant, name, group)
        after = place_of(cursor, int) or 0
        found = SqliteShares(world.streams_file).dead_letters(at, after, limit + 1)
        shown = page(found, limit, lambda letter: letter.record.offset)
        return Page([letter_view(letter) for letter in shown.items], shown.next_cursor)

    @post("/redrive", opt=BILLING, status_code=200, sync_to_thread=True)
    def redrive(
        self, world: World, grant: Grant, name: str, group: GroupName, data: RedriveSpec
    ) -> RedrivenView:
        """Hand dead letters out again, each alone, with all its attempts."""
        at = GroupAt(grant.tenant, name, group)
        count = SqliteShares(world.streams_file).redrive(at, data.ids, world.clock.now_us())
        return RedrivenView(redriven=count)
