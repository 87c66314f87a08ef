"""Writing one thing of the catalog: create, change, archive; the same for every kind."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from litestar.params import Parameter

from tallybook.catalog.catalog import Archive, Catalog, Entry, Kind, entry_key, entry_kind
from tallybook.catalog.flow import put
from tallybook.compose import World
from tallybook.invoice.unbilled import by_force, check_archive
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.serve.api.gate import Grant

T = TypeVar("T")

Archived = Annotated[bool, Parameter(description="Things out of use too.")]
Force = Annotated[bool, Parameter(description="Whatever is not billed yet is lost.")]


def create(world: World, grant: Grant, entry: Entry) -> Catalog:
    """Write a new thing and return the catalog with it; Conflict where it is in use already."""
    kind, key = entry_kind(entry), entry_key(entry)
    if world.catalog.load(grant.tenant).live(kind, key):
        raise Conflict(f"{kind} '{key}' exists; PUT changes it", code="exists", field="key")
    put(world.catalog, grant.tenant, [entry], now_us=world.clock.now_us())
    return world.catalog.load(grant.tenant)


def change(world: World, grant: Grant, path_key: str, entry: Entry) -> Catalog:
    """Write a thing as it shall be and return the catalog with it; Invalid for another key."""
    key = entry_key(entry)
    if path_key != key:
        raise Invalid(f"the path names '{path_key}', the body '{key}'", field="key")
    put(world.catalog, grant.tenant, [entry], now_us=world.clock.now_us())
    return world.catalog.load(grant.tenant)


def archive(world: World, grant: Grant, kind: Kind, key: str) -> None:
    """Take a thing out of use; Missing where it is not in use."""
    if not world.catalog.load(grant.tenant).live(kind, key):
        raise Missing(f"there is no {kind} '{key}'", field="key")
    put(world.catalog, grant.tenant, [Archive(kind, key)])


def archive_billed(world: World, grant: Grant, kind: Kind, key: str, *, force: bool) -> None:
    """Take out of use what has nothing left to bill, or anything by force.

    Raises:
        Missing: it is not in use.
        Conflict: something of it is not billed yet; code 'unbilled'.
    """
    catalog = world.catalog.load(grant.tenant)
    if not catalog.live(kind, key):
        raise Missing(f"there is no {kind} '{key}'", field="key")
    if not force:
        check_archive(world.billing(grant.tenant), kind, key)
    put(world.catalog, grant.tenant, by_force(catalog, kind, key))


def shown(catalog: Catalog, kind: Kind, things: Mapping[str, T], *, archived: bool) -> list[T]:
    """Return the things that are in use, or all of them."""
    return [thing for key, thing in things.items() if archived or catalog.live(kind, key)]
