"""The worked cases of grants and credit: their times, usage and grants as ours."""

import re
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from tallybook.catalog.entitlement import (
    Grant,
    GrantSpec,
    check_grant,
    parse_interval,
    void,
)
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import DAY_US, HOUR_US, SECOND_US, format_us
from tallybook.settle.balance import Usage
from tests.golden.vectors import Case

UTC = zone("UTC")
SIZES = {"d": DAY_US, "h": HOUR_US, "m": 60 * SECOND_US, "s": SECOND_US}


def identity(case: Case) -> str:
    return str(case["id"])


def at(text: str, base: str = "2024-01-01T00:00:00Z") -> int:
    """Return an instant: RFC 3339, or `T+5h1m` counted from the start of measuring."""
    if not text.startswith("T"):
        return parse_moment(text, UTC, "at")
    parts = re.findall(r"(\d+)([dhms])", text)
    offset = sum(int(number) * SIZES[unit] for number, unit in parts)
    return parse_moment(base, UTC, "at") + (-offset if text.startswith("T-") else offset)


def used(given: Case) -> list[Usage]:
    return [Usage(at(when), Decimal(amount)) for when, amount in given.get("usage", [])]


def granted(given: dict[str, Any], number: int = 0) -> Grant:
    recurrence = given.get("recurrence", {})
    spec = GrantSpec(
        key=given.get("id", f"g{number}"),
        amount=Decimal(given["amount"]),
        effective=format_us(at(given.get("effective_at") or given["effective"])),
        expires_after=given.get("expires_after"),
        every=recurrence.get("interval"),
        anchor=recurrence.get("anchor"),
        priority=given.get("priority", 1),
        rollover_min=Decimal(given.get("reset_min", 0)),
        rollover_max=Decimal(given.get("reset_max", 0)),
    )
    grant = check_grant(spec, "UTC")
    if "expires" in given:
        lasting = f"PT{(at(given['expires']) - grant.effective_us) // SECOND_US}S"
        assert parse_interval("expires", lasting)
        grant = check_grant(GrantSpec(**{**fields(spec), "expires_after": lasting}), "UTC")
    return void(grant, at(given["deleted_at"])) if "deleted_at" in given else grant


def fields(spec: GrantSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__struct_fields__}


def all_granted(given: Case) -> tuple[Grant, ...]:
    found: list[Grant] = []
    for item in given["grants"]:
        one = granted(item, len(found))
        more = range(1, item.get("repeat", 1))
        found += [one, *(replace(one, key=f"{one.key}-{n}") for n in more)]
    return tuple(found)
