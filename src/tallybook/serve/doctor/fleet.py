"""Looks at edges, certificates, and the series of the front doors."""

from collections.abc import Callable, Iterator, Sequence

from tallybook.adapters.sqlite.door_log import read_series
from tallybook.collect.sending.condition import condition, missing, silent_seconds
from tallybook.collect.sending.fleet import EdgeRecord
from tallybook.compose import World
from tallybook.kernel.timestamps import SECOND_US
from tallybook.serve.api.fleet.expiry import EXPIRING_DAYS, expiries
from tallybook.serve.doctor.finding import Finding, error, good, note, warning
from tallybook.serve.worker.pipeline import doors_log

LAG_SECONDS_WARN = 600
CLOCK_SECONDS_WARN = 60
SERIES_SHARE_WARN = 0.9
NAMED_MAX = 5


def edges(world: World) -> Iterator[Finding]:
    """Look who is silent, behind, has gaps or a wrong clock."""
    records, now_us = list(world.edges.everybody()), world.clock.now_us()
    if not records:
        yield note("edges", "none was seen yet")
        return
    silent = [one for one in records if condition(one, now_us) == "silent"]
    late = [one for one in records if one not in silent and one.lag_seconds() > LAG_SECONDS_WARN]
    gaps = [one for one in records if missing(one)]
    skewed = [
        one for one in records if abs(one.clock_offset_us or 0) > CLOCK_SECONDS_WARN * SECOND_US
    ]
    if silent:
        text = f"{_named(silent, lambda one: _span(silent_seconds(one, now_us)))} silent"
        advice = "look at the agents there; `tallybook edges forget NAME` for one that is gone"
        yield warning("edges", text, advice)
    if late:
        text = f"{_named(late, lambda one: _span(int(one.lag_seconds())))} behind"
        advice = "they come nearer by themselves; if not, see `tallybook edge status` there"
        yield warning("edges", text, advice)
    if gaps:
        text = f"batches are missing of {_named(gaps, lambda one: str(missing(one)))}"
        advice = (
            "look for damaged-* in the state folder there; if this server was restored, what it"
            " held since the backup is lost"
        )
        yield warning("edges", text, advice)
    if skewed:
        text = f"the clock is wrong of {_named(skewed, _offset)}"
        yield warning("edges", text, "let a time service set it: events carry the edge's time")
    if not silent and not late and not gaps and not skewed:
        yield good("edges", f"{len(records)} seen, none silent, behind or with a gap")


def certificates(world: World) -> Iterator[Finding]:
    """Look what expires soon; agents and the listener renew long before that."""
    now_us = world.clock.now_us()
    found = expiries(world.settings, world.certificates.in_use())
    if not found:
        return
    soon = [one for one in found if one.days(now_us) < EXPIRING_DAYS]
    for one in soon:
        days = one.days(now_us)
        text = f"the certificate of {one.about} {_when(days)}"
        made = error if days <= 0 and one.kind != "edge" else warning
        yield made("certificates", text, _ADVICE[one.kind])
    if not soon:
        first = min(one.days(now_us) for one in found)
        yield good("certificates", f"{len(found)} in use, the first expires in {first} days")


_ADVICE = {
    "authority": "found a new one with `tallybook ca init` in another folder, and issue anew",
    "server": "`tallybook ca renew --server`; a running TLS listener renews its own by itself",
    "edge": "the agent renews by itself while it runs: look at it, or `tallybook ca renew NAME`",
}


def series(world: World) -> Iterator[Finding]:
    """Look how many series the front doors know."""
    count = read_series(doors_log(world.settings.log_dir))
    if not count.known:
        return
    text = f"{count.known:,} of at most {count.most:,} series have a standing"
    if count.forgotten:
        text += f"; {count.forgotten:,} were forgotten after a week without a sample"
    if count.known >= count.most * SERIES_SHARE_WARN:
        advice = "drop series that are not billed (`tallybook doors set`): new ones are refused"
        yield warning("front doors", text, advice)
    elif count.fullest_known >= count.fullest_most * SERIES_SHARE_WARN:
        text = f"{count.fullest_known:,} of at most {count.fullest_most:,} of '{count.fullest}'"
        advice = "drop its series that are not billed (`tallybook doors set`): new ones are refused"
        yield warning("front doors", text, advice)
    else:
        yield good("front doors", text)


def _named(records: Sequence[EdgeRecord], told: Callable[[EdgeRecord], str]) -> str:
    shown = ", ".join(f"{one.name} ({told(one)})" for one in records[:NAMED_MAX])
    more = f" and {len(records) - NAMED_MAX} more" if len(records) > NAMED_MAX else ""
    return f"{shown}{more}"


def _offset(record: EdgeRecord) -> str:
    return f"{(record.clock_offset_us or 0) / SECOND_US:+.0f} s"


def _span(seconds: int) -> str:
    for unit, width in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * width:
            return f"{seconds // width} {unit}"
    return f"{seconds} s"


def _when(days: int) -> str:
    return f"expires in {days} days" if days > 0 else "has expired"
