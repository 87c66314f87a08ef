"""API keys: made, looked at, changed, rotated, revoked."""

import secrets
from typing import Annotated

import msgspec
from litestar import Controller, delete, get, post, put
from litestar.params import Parameter

from tallybook.adapters.sql.keys import key_digest
from tallybook.admit.issue import (
    OVERLAP_SECONDS_DEFAULT,
    KeySpec,
    KeyText,
    check_expiry,
    check_giving,
    check_leaving,
    check_name,
    check_plan_name,
    check_terms,
    is_good,
    made,
    rotated,
)
from tallybook.admit.key import ApiKey
from tallybook.compose import World
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import ADMIN
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant
from tallybook.serve.supervisor.folder import KEY_PREFIX

KEY_BYTES = 32
KEY_SHOWN_CHARS = 8


class KeyView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key.

    Attributes:
        shown: its first characters.
        good: whether it is accepted now.
        subjects, customer: what it is only for; nothing where it is for all.
        usage_plan: what limits it.
        last_used_time: to the minute.
        replaces, successor: ids of the keys it was rotated from and to.
        key: the whole key, in the answer that makes it and never again.
    """

    id: str
    name: str
    shown: str
    scopes: list[str]
    created_time: str
    good: bool
    subjects: list[str] = []
    customer: str = ""
    usage_plan: str = ""
    expires_time: str | None = None
    revoked_time: str | None = None
    last_used_time: str | None = None
    replaces: str = ""
    successor: str = ""
    key: str | None = None


class KeyChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a key may change; its rights never do.

    Attributes:
        expires_time: RFC 3339, in the future; null never.
    """

    name: str
    usage_plan: str = ""
    expires_time: str | None = None


class RotateSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to rotate a key.

    Attributes:
        overlap_seconds: for how long both keys are good; 0 ends the old one at once.
        expires_time: of the successor; null gives it as long a life as the key had.
    """

    overlap_seconds: int = OVERLAP_SECONDS_DEFAULT
    expires_time: str | None = None


Dead = Annotated[bool, Parameter(query="all", description="Revoked and expired keys too.")]


def key_view(key: ApiKey, now_us: int, text: str | None = None) -> KeyView:
    """Return a key as the API shows it.

    Args:
        key: as stored.
        now_us: the present instant.
        text: the whole key, where this answer makes it.
    """
    return KeyView(
        id=key.id,
        name=key.name,
        shown=key.shown,
        scopes=list(key.scopes),
        created_time=format_us(key.created_us),
        good=is_good(key, now_us),
        subjects=list(key.subjects),
        customer=key.customer,
        usage_plan=key.usage_plan,
        expires_time=_time(key.expires_us),
        revoked_time=_time(key.revoked_us),
        last_used_time=_time(key.last_used_us),
        replaces=key.replaces,
        successor=key.successor,
        key=text,
    )


def _time(at_us: int | None) -> str | None:
    return None if at_us is None else format_us(at_us)


def new_text(world: World) -> tuple[str, KeyText]:
    """Return the text of a new key, and what is stored of it."""
    text = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    shown, digest = text[:KEY_SHOWN_CHARS], key_digest(world.secret, text)
    return text, KeyText(id=world.ids.new("key"), shown=shown, digest=digest)


def make_key(world: World, tenant: str, spec: KeySpec) -> KeyView:
    """Make a key; the answer is the only place that shows it."""
    now_us = world.clock.now_us()
    terms = check_terms(spec, now_us)
    world.usage_plans.check_known(tenant, terms.usage_plan)
    text, stored = new_text(world)
    key = made(tenant, terms, stored, now_us)
    world.keys.add(key)
    return key_view(key, now_us, text)


def rotate_key(world: World, grant: Grant, key_id: str, spec: RotateSpec) -> KeyView:
    """Make a key's successor; the answer is the only place that shows it."""
    now_us = world.clock.now_us()
    key = world.keys.get(grant.tenant, key_id)
    check_giving(grant, key.scopes)
    ends = check_expiry(spec.expires_time, now_us)
    text, stored = new_text(world)
    old, new = rotated(key, stored, spec.overlap_seconds, ends, now_us)
    world.keys.rotate(old, new)
    return key_view(new, now_us, text)


def revoke_key(world: World, grant: Grant, key_id: str) -> None:
    """Refuse a key from now on."""
    now_us = world.clock.now_us()
    check_giving(grant, world.keys.get(grant.tenant, key_id).scopes)
    check_leaving(world.keys.listed(grant.tenant), key_id, now_us)
    world.keys.revoke(grant.tenant, key_id, now_us)


class Keys(Controller):
    """Who may do what."""

    path = "/keys"
    tags = ("keys",)

    @get("/", opt=ADMIN, sync_to_thread=True)
    def list_keys(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        dead: Dead = True,
    ) -> Page[KeyView]:
        """List keys by id, which is by age; with `all=false` only those that are good now."""
        now_us = world.clock.now_us()
        some = [key for key in world.keys.listed(grant.tenant) if dead or is_good(key, now_us)]
        found = keyed_page(some, limit, cursor, lambda key: key.id)
        return Page([key_view(key, now_us) for key in found.items], found.next_cursor)

    @post("/", opt=ADMIN, sync_to_thread=True)
    def create_key(self, world: World, grant: Grant, data: KeySpec) -> KeyView:
        """Make a key; its text is shown in this answer only."""
        check_giving(grant, check_terms(data, world.clock.now_us()).scopes)
        return make_key(world, grant.tenant, data)

    @get("/{id:str}", opt=ADMIN, sync_to_thread=True)
    def get_key(self, world: World, grant: Grant, id: str) -> KeyView:
        """Show a key, a revoked one too; never its text."""
        return key_view(world.keys.get(grant.tenant, id), world.clock.now_us())

    @put("/{id:str}", opt=ADMIN, sync_to_thread=True)
    def change_key(self, world: World, grant: Grant, id: str, data: KeyChange) -> KeyView:
        """Change a key's name, usage plan and end; its rights never change."""
        key, now_us = world.keys.get(grant.tenant, id), world.clock.now_us()
        check_giving(grant, key.scopes)
        changed = msgspec.structs.replace(
            key,
            name=check_name(data.name),
            usage_plan=world.usage_plans.check_known(
                grant.tenant, check_plan_name(data.usage_plan)
            ),
            expires_us=check_expiry(data.expires_time, now_us),
        )
        world.keys.change(changed)
        return key_view(changed, now_us)

    @post("/{id:str}/rotate", opt=ADMIN, sync_to_thread=True)
    def rotate(self, world: World, grant: Grant, id: str, data: RotateSpec) -> KeyView:
        """Make a key's successor with the same rights; the key itself ends after an overlap."""
        return rotate_key(world, grant, id, data)

    @delete("/{id:str}", opt=ADMIN, sync_to_thread=True)
    def revoke(self, world: World, grant: Grant, id: str) -> None:
        """Refuse a key from now on; takes effect everywhere within a second."""
        revoke_key(world, grant, id)
