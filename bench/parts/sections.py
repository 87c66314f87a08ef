"""What the benches of single parts found, as figures beside their bounds and targets."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.figures.numbers import spread
from bench.figures.report import Bound, Figure, Found
from bench.parts import agent, doors, edge, limits
from bench.parts.checks_http import measured as checks_over_http


def checks(seconds: float = 15.0) -> Found:
    """Ask whether a customer may use something, on a server of its own."""
    found = checks_over_http(seconds)
    cpu = found["CPU of the API processes a check alone, ms"]
    notes = {
        " alone": f"nothing else comes in; {cpu:.2f} ms of CPU each",
        "": "500 events/s come in",
    }
    return Found(
        figures=[
            Figure(
                name=f"entitlement check over HTTP, 10,000 customers, {title}, p{share}",
                spread=spread([found[f"p{share} ms{way}"]]),
                unit="ms",
                target="< 5 ms" if share == 99 else "",
                reached=found[f"p99 ms{way}"] < 5 if share == 99 else None,
                less_is_better=True,
                note=f"{found[f'checks{way}']:,.0f} checks, one in flight, {notes[way]}",
                headline=share == 99,
            )
            for way, title in ((" alone", "alone"), ("", "beside 500 events/s"))
            for share in (50, 99)
        ]
    )


def protocols() -> Found:
    """Read, judge and store what other people's agents send."""
    with tempfile.TemporaryDirectory() as name:
        speeds = doors.report(Path(name))
    return Found(
        figures=[
            Figure(
                name=f"front door {speed.name}, requests of 1,000 points",
                spread=spread([speed.points]),
                unit="points/s of a core",
                bounds=(Bound(name="protobuf's own decoding", value=speed.decode),),
                note=f"read alone {speed.read:,.0f}",
            )
            for speed in speeds
        ]
    )


DECISIONS = {
    "rate_and_quota_us": "a decision under a rate and a quota",
    "concurrency_too_us": "under four limits",
    "wrapper_rate_and_quota_us": "everything at the door, a rate and a quota",
    "wrapper_use_alone_us": "counting the use of keys",
    "wrapper_no_plan_us": "at the door where no plan applies",
}


def decisions() -> Found:
    """Decide whether a request may go on."""
    with tempfile.TemporaryDirectory() as name:
        cost = limits.measure(Path(name))
    return Found(
        figures=[
            Figure(
                name=f"limits: {title}",
                spread=spread([cost[key]]),
                unit="µs of a core",
                target=f"< {limits.TARGET_US} µs",
                reached=cost[key] < limits.TARGET_US,
                less_is_better=True,
                bounds=(Bound(name="lock, read, write, unlock", value=cost["bare_us"]),),
                note=f"median of {limits.ROUNDS} rounds of {limits.TIMES:,}",
            )
            for key, title in DECISIONS.items()
        ]
    )


AGENT_TARGETS = {
    "edge agent at readings every 10 s": (1.0, "this host's readings, five times as often, scaled"),
    "edge agent at 500 log lines/s, each line an event": (5.0, "500 clients"),
    "edge agent at 500 log lines/s, added up by the minute": (5.0, "by client and status"),
}


def agents(seconds_max: int = 1_000) -> Found:
    """Run the edge agent under its loads, each for so long at most."""
    figures = []
    with tempfile.TemporaryDirectory() as name:
        for title, used in agent.report(Path(name) / "loads", seconds_max):
            most, note = AGENT_TARGETS[title]
            host = most < 5
            figures += [
                _less(f"{title}: processor", used.core_share * 100, "% of a core", most, note),
                _less(f"{title}: memory", used.rss_mb, "MiB", 40 if host else None, note),
                _less(f"{title}: sent", used.mb_an_hour, "MiB an hour", 1 if host else None, note),
            ]
        used_ = edge.following(Path(name) / "log", min(seconds_max, edge.RUN_SECONDS))
    note = f"{used_.lines_a_second:,.0f} lines/s; the last had arrived {used_.lag_seconds:.1f} s on"
    share = used_.core_share * 100
    figures.append(_less("edge agent on an access log: processor", share, "% of a core", 5, note))
    return Found(figures=figures)


def _less(name: str, value: float, unit: str, most: float | None, note: str) -> Figure:
    return Figure(
        name=name,
        spread=spread([value]),
        unit=unit,
        target=f"< {most:g} {unit}" if most is not None else "",
        reached=value < most if most is not None else None,
        less_is_better=True,
        note=note,
        headline=name.startswith("edge agent at readings"),
    )


PARTS: dict[str, Callable[[], Found]] = {
    "checks": checks,
    "doors": protocols,
    "limits": decisions,
    "agent": agents,
}
