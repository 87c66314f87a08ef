"""Which sources the settings ask for: one row a family, imported only when it is configured.

A new family is three things: its table in `settings`, a module here with its `Source`, and a row
in `FAMILIES`. Nothing else of the agent knows families.
"""

from collections.abc import Callable, Iterator

from tallybook.collect.fileid import log_source
from tallybook.kernel.errors import Invalid
from tallybook.serve.agent.settings import AgentSettings
from tallybook.serve.agent.sources.plug import Source

Family = Callable[[AgentSettings], Iterator[Source]]
"""Yields the sources of one family that the settings ask for; imports what they need by itself."""


def edge_name(settings: AgentSettings) -> str:
    """Return what this edge is called: the subject of its host's events."""
    from tallybook.adapters.host.reader import machine_name

    return settings.host_name or machine_name()


def _host(settings: AgentSettings) -> Iterator[Source]:
    if settings.host or settings.containers is not None or settings.processes:
        from tallybook.serve.agent.sources.host import HostSource

        yield HostSource(settings)


def _access_logs(settings: AgentSettings) -> Iterator[Source]:
    if settings.access_log:
        from tallybook.serve.agent.sources.access_log import AccessLogSource

        source = log_source(edge_name(settings))
        for told in settings.access_log:
            yield AccessLogSource(told, source)


def _scraped(settings: AgentSettings) -> Iterator[Source]:
    if settings.prometheus or settings.status_page:
        from tallybook.serve.agent.sources.scraped import ScrapedSource

        edge = edge_name(settings)
        yield from (ScrapedSource(told, edge) for told in settings.prometheus)
        yield from (ScrapedSource(told, edge) for told in settings.status_page)


def _mqtt(settings: AgentSettings) -> Iterator[Source]:
    if settings.mqtt:
        from tallybook.serve.agent.sources.mqtt import MqttSource

        for told in settings.mqtt:
            yield MqttSource(told, edge_name(settings))


def _interval_files(settings: AgentSettings) -> Iterator[Source]:
    if settings.interval_file:
        from tallybook.serve.agent.sources.folder import FolderSource

        yield from (FolderSource(told) for told in settings.interval_file)


def _statsd(settings: AgentSettings) -> Iterator[Source]:
    if settings.statsd:
        from tallybook.serve.agent.sources.statsd import StatsdSource

        for told in settings.statsd:
            yield StatsdSource(told, edge_name(settings))


FAMILIES: tuple[Family, ...] = (
    _host, _access_logs, _scraped, _mqtt, _interval_files, _statsd,
)  # fmt: skip


def sources_of(settings: AgentSettings) -> list[Source]:
    """Return every source of the settings; nothing is opened before it is first read.

    Raises:
        Invalid: two are called the same, and would share what they remember.
    """
    found = [source for family in FAMILIES for source in family(settings)]
    names = [source.name for source in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Invalid(f"two sources are called '{twice}'; give one another `name`", field="config")
    return found
