"""`tallybook edge`: run the agent, see how it is, try what it would send."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tallybook.serve.agent.settings import STATE_DEFAULT, AgentSettings, access_log, load_settings
from tallybook.serve.cli.common import UNAVAILABLE, URL_DEFAULT, Target, show_json

if TYPE_CHECKING:
    from tallybook.collect.aggregate.rule import RuleSet
    from tallybook.serve.agent.status import AgentStatus, EdgeStatus

R = TypeVar("R")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[float]):
    """A time such as 30s, 5m, 2h; a bare number is seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip().lower()
        number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
        try:
            seconds = float(number) * _UNITS[unit]
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < 1e9:
            self.fail(f"'{value}' is not a duration such as 30s, 5m or 2h", param, ctx)
        return seconds


@click.group()
def edge() -> None:
    """Collect usage on this machine and send it to the server."""


def _collecting_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options that say what is collected."""
    for option in reversed(
        (
            click.option("--config", type=click.Path(path_type=Path, dir_okay=False),
                         envvar="TALLYBOOK_EDGE_CONFIG",
                         help="TOML file with these options; options given here win."),
            click.option("--state", type=click.Path(path_type=Path, file_okay=False),
                         envvar="TALLYBOOK_EDGE_STATE",
                         help=f"The agent's memory.  [default: {STATE_DEFAULT}]"),
            click.option("--access-log", "logs", multiple=True, metavar="FILE[:FORMAT]",
                         help="Follow this log (combined, common or json); may be repeated."),
            click.option("--no-host", is_flag=True, help="Do not read this host."),
            click.option("--host-name", help="This host's name in events."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def _settings(
    config: Path | None,
    state: Path | None,
    logs: tuple[str, ...],
    host_name: str | None,
    *,
    no_host: bool,
    **more: Any,
) -> AgentSettings:
    options: dict[str, Any] = {"state": state, "host_name": host_name, **more}
    options["host"] = False if no_host else None
    options["access_log"] = tuple(access_log(text) for text in logs) or None
    return load_settings(config, options)


@edge.command()
@_collecting_options
@click.option("--url", envvar="TALLYBOOK_URL",
              help=f"Server to send to.  [default: {URL_DEFAULT}]")  # fmt: skip
@click.option("--key", envvar="TALLYBOOK_KEY", help="API key, tb_…")
@click.option("--key-file", type=click.Path(path_type=Path, dir_okay=False),
              help="File with the API key.")  # fmt: skip
@click.option("--ca-file", type=click.Path(path_type=Path, dir_okay=False),
              help="Certificates to trust, PEM.")  # fmt: skip
@click.option("--interval", type=Duration(), help="Time between readings.  [default: 10s]")
@click.option("--for", "--once-seconds", "run_seconds", type=Duration(),
              help="Collect for so long, send everything, and end.")  # fmt: skip
@click.option("--drain", type=Duration(),
              help="At the end, go on sending for at most so long.  [default: 30s]")  # fmt: skip
def run(
    url: str | None,
    key: str | None,
    key_file: Path | None,
    ca_file: Path | None,
    interval: float | None,
    run_seconds: float | None,
    drain: float | None,
    **collecting: Any,
) -> int:
    """Collect until stopped. Nothing read is lost or counted twice, whatever is killed when."""
    from tallybook.serve.agent.loop import Agent
    from tallybook.serve.agent.reload import SettingsWatch

    def load() -> AgentSettings:
        return _settings(
            **collecting,
            url=url,
            key=key,
            key_file=key_file,
            ca_file=ca_file,
            interval_seconds=interval,
            drain_seconds=drain,
        )

    settings = load()
    server, secret = address_of(settings)
    stop, watch = Event(), SettingsWatch(collecting.get("config"), load)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, lambda *_: watch.asked.set())
    left = Agent(settings, server, secret, stop, watch).run(run_seconds)
    return UNAVAILABLE if left else 0


def address_of(settings: AgentSettings) -> tuple[str, str]:
    """Return the server's address and the key; raises Invalid or Forbidden."""
    from tallybook.kernel.errors import Invalid

    key = settings.key
    if key is None and settings.key_file is not None:
        try:
            key = settings.key_file.read_text().strip()
        except OSError as error:
            message = f"{settings.key_file}: {error.strerror or error}"
            raise Invalid(message, field="key_file") from error
    if settings.kafka is not None and key is None:
        return (settings.url or URL_DEFAULT).rstrip("/"), ""  # events go to the broker
    target = Target(url=(settings.url or URL_DEFAULT).rstrip("/"), key=key, data=None, json=False)
    with target.address() as found:
        return found


@edge.command()
@click.option("--state", type=click.Path(path_type=Path, file_okay=False),
              default=STATE_DEFAULT, envvar="TALLYBOOK_EDGE_STATE", show_default=True,
              help="The agent's memory.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(state: Path, *, as_json: bool) -> None:
    """Show what waits to be sent, how far files were read, and what is wrong."""
    from tallybook.serve.agent.status import read_status

    found = read_status(state)
    if as_json:
        show_json(found)
        return
    for label, text in _status_lines(found):
        click.echo(f"{label:<12}{text}")


def _status_lines(found: "EdgeStatus") -> Iterator[tuple[str, str]]:
    agent = found.agent
    yield "agent", _agent_line(found)
    if agent is not None:
        acked = f"{_ago(agent.acked_us)}" if agent.acked_us else "not since the start"
        yield "last ack", f"{acked}, {agent.stored} stored, {agent.quarantined} quarantined"
    yield (
        "spool",
        (
            f"{found.spooled_events} events in {found.spooled_batches} batches,"
            f" {found.spooled_bytes} bytes; {found.collected_events} ever collected"
        ),
    )
    if found.host_read_us is not None:
        yield "host", f"read {_ago(found.host_read_us)}"
    for file in found.files:
        yield "file", f"{file.path} read to byte {file.offset}"
    if agent is not None:
        yield from _source_lines(agent)
    if found.refused_events:
        yield "refused", f"{found.refused_events} events, see refused-reasons.ndjson"
    if agent is not None and agent.complaint:
        yield "problem", agent.complaint


def _source_lines(agent: "AgentStatus") -> Iterator[tuple[str, str]]:
    for source in agent.sources:
        if source.problem is not None:
            yield "failing", f"{source.name}: {source.problem}"
    if agent.rules_version or agent.windows:
        version = agent.rules_version or "none"
        yield "rules", f"version {version}, {agent.windows} windows open"
    if agent.rss_bytes:
        used = f"{agent.cpu_seconds} s of CPU since the start"
        yield "footprint", f"{agent.rss_bytes / 2**20:.1f} MiB, {used}"


def _agent_line(found: "EdgeStatus") -> str:
    agent = found.agent
    if agent is None:
        return "unknown"
    if agent.running:
        circuit = "" if agent.circuit == "closed" else f"; circuit {agent.circuit}"
        return f"running (pid {agent.pid}), sending to {agent.url}{circuit}"
    return f"stopped; last seen {_ago(agent.written_us)}, sending to {agent.url}"


def _ago(us: int) -> str:
    seconds = max(0, time.time_ns() // 1_000_000_000 - us // 1_000_000)
    for unit, width in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * width:
            return f"{seconds // width} {unit} ago"
    return f"{seconds} s ago"


@edge.command()
@_collecting_options
@click.option("--limit", default=10, show_default=True, type=click.IntRange(min=1),
              help="Events to print of each source.")  # fmt: skip
@click.option("--rules", "rules_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Try these rules (TOML) instead of those last fetched.")  # fmt: skip
def check(limit: int, rules_file: Path | None, **collecting: Any) -> None:
    """Print the next events as JSON lines, without sending or remembering anything.

    Where rules of aggregation take events, the windows that these would become are printed.
    """
    from tallybook.serve.agent.following import kept_rules
    from tallybook.serve.agent.trial import next_events

    settings = _settings(**collecting)
    rules = rules_in(rules_file) if rules_file is not None else kept_rules(settings.state)
    for trial in next_events(settings, limit, rules):
        click.echo(f"# {trial.name}: {trial.summary()}", err=True)
        for piece in trial.pieces:
            click.echo(piece)


def rules_in(path: Path) -> "RuleSet":
    """Return the rules of a TOML file; raises Invalid."""
    from tallybook.collect.aggregate.document import parse_rules
    from tallybook.collect.aggregate.rule import RuleSet
    from tallybook.kernel.errors import Invalid

    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: {error}", field="rules") from error
    return RuleSet(version=path.name, rules=parse_rules(text))
