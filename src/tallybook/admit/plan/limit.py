"""The limits of a usage plan: as they are written, in the API, in files and in storage."""

from typing import Literal, TypeAlias, assert_never, get_args

import msgspec

from tallybook.admit.plan import routes
from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import NAME_CHARS_MAX

Per: TypeAlias = Literal["key", "tenant", "customer"]
"""Whose requests share a count. A key of no customer counts for itself under 'customer'."""

Counted: TypeAlias = Literal["requests", "events"]
"""What is counted: requests, or the events that they carry."""

Window: TypeAlias = Literal["day", "week", "month"]

AMOUNT_MAX = 10**15
SECONDS_MAX = 31 * 24 * 3600
WARNINGS_MAX = 4


class Rate(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag="rate",
    tag_field="type",
    forbid_unknown_fields=True,
):
    """A token bucket: so many in so many seconds, and a burst after a pause.

    Attributes:
        key: names the limit within its plan.
        rate: tokens that come in `seconds`; one token is one request or event.
        burst: tokens that a full bucket holds; 0 is `rate`.
        routes: the group of routes that it is for.
        per: whose requests share a bucket.
        counts: what takes tokens.
        warn: percent of the bucket in use at which to warn, rising.
    """

    key: str
    rate: int
    seconds: int = 1
    burst: int = 0
    routes: tuple[str, ...] = ("*",)
    per: Per = "key"
    counts: Counted = "requests"
    warn: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Tokens that a full bucket holds."""
        return self.burst or self.rate


class Quota(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag="quota",
    tag_field="type",
    forbid_unknown_fields=True,
):
    """So many in each calendar day, week or month of the plan's time zone.

    Attributes:
        key: names the limit within its plan.
        limit: how many a window.
        hour: local hour at which a window begins, 0 to 23.
        day: on which a week begins (1 is Monday) or a month (1 to 31; in a shorter month its last).
        routes: the group of routes that it is for.
        per: whose requests share a count.
        counts: what is counted.
        warn: percent of the limit at which to warn, rising.
    """

    key: str
    limit: int
    window: Window
    hour: int = 0
    day: int = 1
    routes: tuple[str, ...] = ("*",)
    per: Per = "key"
    counts: Counted = "requests"
    warn: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many a window."""
        return self.limit


class Concurrency(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag="concurrency",
    tag_field="type",
    forbid_unknown_fields=True,
):
    """So many requests that run at once.

    Attributes:
        key: names the limit within its plan.
        limit: how many at once.
        routes: the group of routes that it is for.
        per: whose requests are counted together.
        warn: percent of the limit at which to warn, rising.
    """

    key: str
    limit: int
    routes: tuple[str, ...] = ("*",)
    per: Per = "key"
    warn: tuple[int, ...] = ()
    counts: Literal["requests"] = "requests"

    @property
    def size(self) -> int:
        """How many at once."""
        return self.limit


class Entitled(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag="entitlement",
    tag_field="type",
    forbid_unknown_fields=True,
):
    """The key's customer must have access to a feature: a hard entitlement stops the request.

    Attributes:
        key: names the limit within its plan.
        feature: of the customer's entitlement.
        routes: the group of routes that it is for.
        doors: whether requests that send events are stopped too; usage that happened is better
            recorded than refused, so they are not unless it is said.
    """

    key: str
    feature: str
    routes: tuple[str, ...] = ("*",)
    doors: bool = False


Counting: TypeAlias = Rate | Quota | Concurrency
"""A limit with a count."""

Limit: TypeAlias = Rate | Quota | Concurrency | Entitled


def check_limit(limit: Limit, field: str) -> Limit:
    """Return a limit whose parts are in range.

    Args:
        limit: as written.
        field: where it stands, for the refusal.

    Raises:
        Invalid: a part is out of range; its field is named.
    """
    check_name(limit.key, f"{field}.key")
    routes.checked(limit.routes, f"{field}.routes")
    match limit:
        case Entitled():
            check_name(limit.feature, f"{field}.feature")
            return limit
        case Rate():
            _within(limit.rate, 1, AMOUNT_MAX, f"{field}.rate")
            _within(limit.seconds, 1, SECONDS_MAX, f"{field}.seconds")
            _within(limit.burst, 0, AMOUNT_MAX, f"{field}.burst")
            filling = limit.size * limit.seconds // limit.rate
            _within(filling, 0, SECONDS_MAX, f"{field}.burst")
        case Quota():
            _within(limit.limit, 1, AMOUNT_MAX, f"{field}.limit")
            _within(limit.hour, 0, 23, f"{field}.hour")
            _within(limit.day, 1, {"day": 1, "week": 7, "month": 31}[limit.window], f"{field}.day")
        case Concurrency():
            _within(limit.limit, 1, AMOUNT_MAX, f"{field}.limit")
        case never:
            assert_never(never)
    _check_warnings(limit.warn, f"{field}.warn")
    return limit


def _check_warnings(warn: tuple[int, ...], field: str) -> None:
    if len(warn) > WARNINGS_MAX or list(warn) != sorted(set(warn)):
        raise Invalid(f"{field} must be up to {WARNINGS_MAX} percentages, rising", field=field)
    for percent in warn:
        _within(percent, 1, 100, field)


def check_name(name: str, field: str) -> str:
    """Return a name; raises Invalid for one that cannot stand in a header."""
    sound = name.isascii() and name.isprintable() and not set(name) & set('" \\')
    if not sound or not 1 <= len(name) <= NAME_CHARS_MAX:
        message = f"{field} must be 1 to {NAME_CHARS_MAX} ASCII characters without blank and quote"
        raise Invalid(message, field=field)
    return name


def _within(value: int, least: int, most: int, field: str) -> None:
    if not least <= value <= most:
        raise Invalid(f"{field} must be {least} to {most}", field=field)


TYPES: tuple[type[Limit], ...] = get_args(Limit)
