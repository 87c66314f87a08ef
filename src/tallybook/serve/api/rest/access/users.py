"""People who sign in to the console with a name and a password."""

import secrets

import msgspec
from litestar import Controller, delete, get, post, put

from tallybook.adapters.passwords.argon2id import hashed
from tallybook.adapters.sql.access.users import User
from tallybook.admit.issue import check_giving, check_scopes
from tallybook.admit.key import OPERATOR
from tallybook.admit.user import check_password, check_user_name
from tallybook.compose import World
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import ADMIN
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant

PASSWORD_BYTES = 15


class UserSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody who shall sign in.

    Attributes:
        scopes: some of read, billing, admin. roles: some of viewer, biller, owner.
        password: null for one that is made up and shown in the answer only.
    """

    name: str
    scopes: list[str] = []
    roles: list[str] = []
    password: str | None = None


class UserChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody may do from now on."""

    scopes: list[str] = []
    roles: list[str] = []


class PasswordSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody's next password; null for one that is made up."""

    password: str | None = None


class UserView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person.

    Attributes:
        good: whether they may sign in.
        locked_until: RFC 3339; after wrong passwords none is looked at before.
        password: in the answer that made it up and never again.
    """

    name: str
    scopes: list[str]
    created_time: str
    good: bool
    ended_time: str | None = None
    last_login_time: str | None = None
    locked_until: str | None = None
    password: str | None = None


def user_view(user: User, now_us: int, password: str | None = None) -> UserView:
    """Return a person as the API shows them."""
    return UserView(
        name=user.name,
        scopes=list(user.scopes),
        created_time=format_us(user.created_us),
        good=user.ended_us is None,
        ended_time=None if user.ended_us is None else format_us(user.ended_us),
        last_login_time=None if user.last_login_us is None else format_us(user.last_login_us),
        locked_until=format_us(user.locked_until_us) if user.locked_until_us > now_us else None,
        password=password,
    )


def make_user(world: World, grant: Grant, spec: UserSpec) -> UserView:
    """Let somebody sign in from now on."""
    now_us = world.clock.now_us()
    name, scopes = check_user_name(spec.name), _scopes(grant, spec.scopes, spec.roles)
    password, made_up = _password(spec.password, name)
    user = User(
        tenant=grant.tenant,
        name=name,
        password=hashed(password),
        scopes=scopes,
        created_us=now_us,
    )
    if any(one.name == name for one in world.users.listed(grant.tenant)):
        raise Conflict(f"there is a user '{name}' already")
    world.users.add(user)
    return user_view(user, now_us, made_up)


def _scopes(grant: Grant, scopes: list[str], roles: list[str]) -> tuple[str, ...]:
    found = check_scopes(scopes, roles)
    if not {"read", "billing", "admin"} & set(found) or OPERATOR in found:
        message = "people have some of the scopes read, billing and admin"
        raise Invalid(message, field="scopes")
    check_giving(grant, found)
    return found


def _password(given: str | None, name: str) -> tuple[str, str | None]:
    """Return a password, and the same where it was made up here."""
    if given is not None:
        return check_password(given, name), None
    made = secrets.token_urlsafe(PASSWORD_BYTES)
    return made, made


def good_user(world: World, grant: Grant, name: str) -> User:
    """Return somebody who may sign in, and can do no more than who asks."""
    user = world.users.get(grant.tenant, name)
    if user.ended_us is not None:
        raise Missing(f"there is no user '{name}' who may sign in", field="name")
    check_giving(grant, user.scopes)
    return user


def give_password(world: World, grant: Grant, name: str, given: str | None) -> UserView:
    """Give somebody another password, one that is made up for None; their sessions end."""
    user = good_user(world, grant, name)
    password, made_up = _password(given, name)
    changed = msgspec.structs.replace(
        user, password=hashed(password), epoch=user.epoch + 1, failures=0, locked_until_us=0
    )
    world.users.change(changed)
    return user_view(changed, world.clock.now_us(), made_up)


def end_sessions(world: World, grant: Grant, name: str) -> UserView:
    """End all sessions of somebody, within a second."""
    user = good_user(world, grant, name)
    changed = msgspec.structs.replace(user, epoch=user.epoch + 1)
    world.users.change(changed)
    return user_view(changed, world.clock.now_us())


def end(world: World, grant: Grant, name: str) -> None:
    """Let somebody sign in no more."""
    user, now_us = good_user(world, grant, name), world.clock.now_us()
    world.users.change(msgspec.structs.replace(user, ended_us=now_us, epoch=user.epoch + 1))


class Users(Controller):
    """People."""

    path = "/users"
    tags = ("users",)

    @get("/", opt=ADMIN, sync_to_thread=True)
    def list_users(
        self, world: World, grant: Grant, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Page[UserView]:
        """List people by name, those who may no longer sign in too."""
        now_us = world.clock.now_us()
        views = [user_view(user, now_us) for user in world.users.listed(grant.tenant)]
        return keyed_page(views, limit, cursor, lambda view: view.name)

    @post("/", opt=ADMIN, sync_to_thread=True)
    def create_user(self, world: World, grant: Grant, data: UserSpec) -> UserView:
        """Let somebody sign in; a password that is made up is shown in this answer only."""
        return make_user(world, grant, data)

    @get("/{name:str}", opt=ADMIN, sync_to_thread=True)
    def get_user(self, world: World, grant: Grant, name: str) -> UserView:
        """Show a person."""
        return user_view(world.users.get(grant.tenant, name), world.clock.now_us())

    @put("/{name:str}", opt=ADMIN, sync_to_thread=True)
    def change_user(self, world: World, grant: Grant, name: str, data: UserChange) -> UserView:
        """Change what somebody may do; it holds for their sessions within a second."""
        user = good_user(world, grant, name)
        changed = msgspec.structs.replace(user, scopes=_scopes(grant, data.scopes, data.roles))
        world.users.change(changed)
        return user_view(changed, world.clock.now_us())

    @post("/{name:str}/password", opt=ADMIN, status_code=200, sync_to_thread=True)
    def set_password(self, world: World, grant: Grant, name: str, data: PasswordSpec) -> UserView:
        """Give somebody another password; their sessions end, and a lock after wrong ones."""
        return give_password(world, grant, name, data.password)

    @post("/{name:str}/sign-out", opt=ADMIN, status_code=200, sync_to_thread=True)
    def sign_out(self, world: World, grant: Grant, name: str) -> UserView:
        """End all sessions of somebody, within a second."""
        return end_sessions(world, grant, name)

    @delete("/{name:str}", opt=ADMIN, sync_to_thread=True)
    def end_user(self, world: World, grant: Grant, name: str) -> None:
        """Let somebody sign in no more; their sessions end within a second."""
        end(world, grant, name)
