"""A dry run: what the agent would collect next, without spooling or sending it."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import msgspec

from tallybook.adapters.files.tail import FileTail
from tallybook.adapters.host.reader import PsutilHostReader, machine_name
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.collect.fileid import log_source, origin_of
from tallybook.collect.flow import CHUNK_BYTES_MAX, HOST_CURSOR, file_cursor
from tallybook.collect.following import Followed
from tallybook.collect.formats.choice import log_format, piece_of
from tallybook.collect.host import HostState, host_round
from tallybook.collect.spool import encode_event
from tallybook.serve.agent.settings import AccessLog, AgentSettings
from tallybook.serve.agent.spool import SPOOL_NAME

_ALWAYS_US = 10**15
_FIRST_WAIT_SECONDS = 1.0


def next_events(
    settings: AgentSettings, limit: int, ends: ExitStack
) -> Iterator[tuple[str, list[bytes]]]:
    """Yield each source's name and the next events it would give, at most `limit`.

    Raises:
        Unavailable: a file cannot be read.
    """
    cursors = _cursors(settings)
    if settings.host:
        yield "host", _host_events(settings, cursors)[:limit]
    source = log_source(settings.host_name or machine_name())
    for log in settings.access_log:
        tail = ends.enter_context(closing(FileTail(log.path)))
        yield tail.name, _log_events(tail, log, source, cursors)[:limit]


def _cursors(settings: AgentSettings) -> dict[str, str]:
    path = settings.state / SPOOL_NAME
    if not path.exists():
        return {}
    with closing(SqliteEventLog(path, readonly=True)) as spool:
        return spool.cursors()


def _host_events(settings: AgentSettings, cursors: dict[str, str]) -> list[bytes]:
    """Measure from the last reading; where there is none, from one made a second before."""
    reader = PsutilHostReader(settings.host_name)
    known = cursors.get(HOST_CURSOR)
    if known is not None:
        state = msgspec.json.decode(known, type=HostState)
    else:
        state = host_round(reader.read(), None, _ALWAYS_US).state
        time.sleep(_FIRST_WAIT_SECONDS)
    found = host_round(reader.read(), state, _ALWAYS_US)
    return [encode_event(event) for event in found.events]


def _log_events(
    tail: FileTail, log: AccessLog, source: str, cursors: dict[str, str]
) -> list[bytes]:
    known = cursors.get(file_cursor(tail.name))
    followed = msgspec.json.decode(known, type=Followed) if known is not None else Followed()
    chunk = tail.read(followed, CHUNK_BYTES_MAX)
    if not chunk.lines:
        return []
    origin = origin_of(chunk.fingerprint, log.source or source)
    form = log_format(log.format)
    return [piece_of(line, origin, form) for line in chunk.lines]
