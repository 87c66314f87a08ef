"""Usage plans: what keys are limited to; the limits of single keys; how a key stands."""

import msgspec
from litestar import Controller, Response, delete, get, post, put

from tallybook.adapters.sql.access.usage_plans import StoredPlan
from tallybook.admit.key import Grant as KeyGrant
from tallybook.admit.key import granted
from tallybook.admit.plan import flow
from tallybook.admit.plan.bind import bind
from tallybook.admit.plan.decide import Bound, Held, Standing
from tallybook.admit.plan.headers import SECOND_NS
from tallybook.admit.plan.limit import Limit as PlanLimit
from tallybook.admit.plan.plan import UsagePlan, check_limits, check_plan
from tallybook.admit.plan.use import GIVEN_UP, Counter, Reported, counters
from tallybook.compose import World
from tallybook.kernel.errors import Conflict, Invalid
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.admission.watch import held
from tallybook.serve.api.common.access import ADMIN, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant


class UsagePlanView(msgspec.Struct, frozen=True, kw_only=True):
    """A usage plan as it is stored.

    Attributes:
        zone: IANA time zone of its windows.
        default: whether it holds for every key of the tenant that names none.
        version: grows with every change; it is the ETag too.
        keys: how many good keys name it.
        changed_time: RFC 3339.
    """

    key: str
    name: str
    zone: str
    default: bool
    limits: tuple[PlanLimit, ...]
    version: int
    keys: int
    changed_time: str


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one key: one with the name of its plan's limit takes its place, others add."""

    limits: tuple[PlanLimit, ...]


class LimitStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How one limit of a key stands.

    Attributes:
        limit: its key. usage_plan: of which plan; '' where it is the key's own alone.
        type: rate, quota or concurrency.
        counts: requests or events.
        who: whose requests are counted together, such as 'key:key_…', 'tenant'.
        size: how many it allows; of a rate, the burst.
        used, left: at this instant.
        reset_seconds: until all of it is there again.
        warning: the highest warning that is reached, in percent; null none.
    """

    limit: str
    usage_plan: str
    type: str
    counts: str
    who: str
    size: int
    used: int
    left: int
    reset_seconds: int
    warning: int | None


class UseRow(msgspec.Struct, frozen=True, kw_only=True):
    """How much a key was used since it is counted.

    Attributes:
        route: group of routes. status: class of status, such as 2xx.
        events: that the requests carried and that were accepted.
    """

    route: str
    status: str
    requests: int
    events: int


class KeyUsage(msgspec.Struct, frozen=True, kw_only=True):
    """How a key stands.

    Attributes:
        usage_plan: the plan that holds for it, its own or the tenant's; '' none.
        limits: of the plan, and its own.
        use: counted where the setting `gate.meter_use` is on.
    """

    id: str
    usage_plan: str
    limits: list[LimitStanding]
    use: list[UseRow]


def plan_views(world: World, tenant: str) -> list[UsagePlanView]:
    """Return the plans of a tenant, by key."""
    on: dict[str, int] = {}
    for key in world.keys.listed(tenant):
        if key.revoked_us is None:
            on[key.usage_plan] = on.get(key.usage_plan, 0) + 1
    return [_view(stored, on) for stored in world.usage_plans.listed(tenant)]


def key_usage(world: World, tenant: str, key_id: str) -> KeyUsage:
    """Return how a key of a tenant stands; raises Missing."""
    first = world.usage_plans.first_of(tenant, key_id)
    grant = msgspec.structs.replace(granted(world.keys.get(tenant, key_id)), key_id=first)
    plan = plan_of(world, grant)
    own = world.usage_plans.limits_of(tenant, first).limits
    bounds = bind(held(plan, own), grant).counting
    now_ns = world.clock.now_us() * 1000
    standings = flow.standings(world.counts, bounds, now_ns)
    places = counters(tenant, key_id)
    used = world.counts.read([one.place() for one in places])
    told = {one.counter: one for one in world.key_use.of(tenant, key_id)}
    return KeyUsage(
        id=key_id,
        usage_plan=plan.key if plan is not None else "",
        limits=[_standing(one) for one in standings],
        use=[
            row
            for one, count in zip(places, used, strict=True)
            if (row := _use_row(one, count, told.get(one))).requests
        ],
    )


def _use_row(counter: Counter, count: Held, told: Reported | None) -> UseRow:
    """Return what a counter counted: of one that was given up, what was reported of it."""
    requests, events = count[:2]
    if not requests and told is not None and told.generation == GIVEN_UP:
        requests, events = told.requests, told.events
    return UseRow(route=counter.route, status=counter.status, requests=requests, events=events)


def plan_of(world: World, grant: KeyGrant) -> UsagePlan | None:
    """Return the plan that holds for a key: its own, else the tenant's."""
    plans = {stored.plan.key: stored.plan for stored in world.usage_plans.listed(grant.tenant)}
    default = next((plan for plan in plans.values() if plan.default), None)
    return plans.get(grant.usage_plan, default) if grant.usage_plan else default


def put_plan(world: World, tenant: str, plan: UsagePlan, expected: int | None) -> UsagePlanView:
    """Store a plan and return it as the API shows it."""
    stored = world.usage_plans.put(tenant, check_plan(plan), world.clock.now_us(), expected)
    return next(one for one in plan_views(world, tenant) if one.key == stored.plan.key)


class UsagePlans(Controller):
    """What keys are limited to."""

    path = "/usage-plans"
    tags = ("usage plans",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_usage_plans(
        self, world: World, grant: Grant, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Page[UsagePlanView]:
        """List usage plans by key."""
        return keyed_page(plan_views(world, grant.tenant), limit, cursor, lambda view: view.key)

    @post("/", opt=ADMIN, sync_to_thread=True)
    def create_usage_plan(
        self, world: World, grant: Grant, data: UsagePlan
    ) -> Response[UsagePlanView]:
        """Create a usage plan; keys are put on it by their field `usage_plan`."""
        try:
            return _answer(put_plan(world, grant.tenant, data, 0))
        except Conflict as error:
            message = f"usage plan '{data.key}' exists; PUT changes it"
            raise Conflict(message, code="exists", field="key") from error

    @get("/{key:str}", opt=READ, sync_to_thread=True)
    def get_usage_plan(self, world: World, grant: Grant, key: str) -> Response[UsagePlanView]:
        """Show a usage plan; the ETag is its version."""
        world.usage_plans.get(grant.tenant, key)
        return _answer(next(one for one in plan_views(world, grant.tenant) if one.key == key))

    @put("/{key:str}", opt=ADMIN, sync_to_thread=True)
    def change_usage_plan(
        self,
        world: World,
        grant: Grant,
        key: str,
        data: UsagePlan,
    ) -> Response[UsagePlanView]:
        """Replace a usage plan; every process follows within a second.

        What was counted under a limit goes on being counted under the limit of the same name.
        """
        if data.key != key:
            raise Invalid(f"the path names '{key}', the body '{data.key}'", field="key")
        return _answer(put_plan(world, grant.tenant, data, None))

    @delete("/{key:str}", opt=ADMIN, sync_to_thread=True)
    def delete_usage_plan(self, world: World, grant: Grant, key: str) -> None:
        """Take a usage plan out of use; 409 while keys are on it."""
        world.usage_plans.delete(grant.tenant, key, world.clock.now_us())


class KeysLimits(Controller):
    """How a key is limited, and how it stands."""

    path = "/keys/{id:str}"
    tags = ("usage plans",)

    @get("/usage", opt=ADMIN, sync_to_thread=True)
    def show_key_usage(self, world: World, grant: Grant, id: str) -> KeyUsage:
        """Show what a key has used, what is left of its limits, and when they are whole again."""
        return key_usage(world, grant.tenant, id)

    @get("/limits", opt=ADMIN, sync_to_thread=True)
    def get_key_limits(self, world: World, grant: Grant, id: str) -> Response[KeyLimits]:
        """Show the limits of this key alone, which stand in place of its plan's or on top."""
        world.keys.get(grant.tenant, id)
        first = world.usage_plans.first_of(grant.tenant, id)
        stored = world.usage_plans.limits_of(grant.tenant, first)
        return Response(KeyLimits(limits=stored.limits), headers={"etag": f'"{stored.version}"'})

    @put("/limits", opt=ADMIN, sync_to_thread=True)
    def change_key_limits(
        self,
        world: World,
        grant: Grant,
        id: str,
        data: KeyLimits,
    ) -> Response[KeyLimits]:
        """Replace the limits of this key alone; an empty list leaves it to its plan."""
        world.keys.get(grant.tenant, id)
        check_limits(data.limits)
        first = world.usage_plans.first_of(grant.tenant, id)
        now_us = world.clock.now_us()
        stored = world.usage_plans.put_limits(grant.tenant, first, data.limits, now_us)
        return Response(KeyLimits(limits=stored.limits), headers={"etag": f'"{stored.version}"'})


def _view(stored: StoredPlan, on: dict[str, int]) -> UsagePlanView:
    plan = stored.plan
    return UsagePlanView(
        key=plan.key,
        name=plan.name,
        zone=plan.zone,
        default=plan.default,
        limits=plan.limits,
        version=stored.version,
        keys=on.get(plan.key, 0),
        changed_time=format_us(stored.changed_us),
    )


def _standing(standing: Standing) -> LimitStanding:
    bound: Bound = standing.bound
    size = bound.limit.size
    return LimitStanding(
        limit=bound.limit.key,
        usage_plan=bound.plan,
        type=type(bound.limit).__name__.lower(),
        counts=bound.limit.counts,
        who=bound.who,
        size=size,
        used=size - standing.left,
        left=standing.left,
        reset_seconds=-(-standing.reset_ns // SECOND_NS),
        warning=standing.percent or None,
    )


def _answer(view: UsagePlanView) -> Response[UsagePlanView]:
    return Response(view, headers={"etag": f'"{view.version}"'})
