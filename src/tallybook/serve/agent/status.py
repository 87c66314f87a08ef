"""What `tallybook edge status` shows: a small file the agent rewrites, and the spool itself."""

import os
from pathlib import Path

import msgspec

from tallybook.adapters.files.refused import RefusedFile
from tallybook.adapters.sqlite.spool import SqliteSpool
from tallybook.collect.flow import HOST_CURSOR
from tallybook.collect.following import Followed
from tallybook.collect.host import HostState
from tallybook.kernel.errors import Missing, Unavailable
from tallybook.serve.agent.spool import SPOOL_NAME

STATUS_NAME = "status.json"


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one source is.

    Attributes:
        name: the source's.
        events: read from it since the start.
        read_us: when it was last read, microseconds UTC; 0 for never.
        problem: why it could not be read then, or None.
    """

    name: str
    events: int
    read_us: int
    problem: str | None


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent last said about itself.

    Attributes:
        pid: its process id.
        url: the server it sends to.
        started_us: when it started, microseconds UTC; written_us when it wrote this.
        acked_us: when the server last acknowledged; 0 for never since the start.
        stored: events acknowledged since the start; so are quarantined and parked.
        complaint: what is wrong now, or None.
        running: False once it has ended in good order.
        circuit: whether batches flow: closed, open (too many failures), half-open (trying one).
        rounds: of reading since the start.
        sources: everything that is read.
        windows: open windows of aggregation; rules_version is that of their rules, '' for none.
        rss_bytes: memory of the process; cpu_seconds what it has used since the start.
    """

    pid: int
    url: str
    started_us: int
    written_us: int
    acked_us: int
    stored: int
    quarantined: int
    parked: int
    complaint: str | None
    running: bool
    circuit: str = "closed"
    rounds: int = 0
    sources: tuple[SourceStatus, ...] = ()
    windows: int = 0
    rules_version: str = ""
    rss_bytes: int = 0
    cpu_seconds: float = 0


class FilePosition(msgspec.Struct, frozen=True, kw_only=True):
    """How far one file has been read."""

    path: str
    offset: int
    fingerprint: str


class EdgeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about an agent from its state folder.

    Attributes:
        spooled_batches: waiting to be sent; so are spooled_events and spooled_bytes.
        spooled_since_us: when the oldest of them was spooled, None where nothing waits.
        collected_events: ever put into the spool.
        files: newest file of each name.
        host_read_us: when the host was last read, None for never.
        refused_events: parked because the server will not take them.
        agent: what the agent last said, None where it never ran.
    """

    spooled_batches: int
    spooled_events: int
    spooled_bytes: int
    collected_events: int
    files: tuple[FilePosition, ...]
    host_read_us: int | None
    refused_events: int
    agent: AgentStatus | None
    spooled_since_us: int | None = None


def write_status(folder: Path, status: AgentStatus) -> None:
    """Replace the status file; raises Unavailable."""
    partial = folder / f"{STATUS_NAME}.new"
    try:
        partial.write_bytes(msgspec.json.encode(status))
        partial.replace(folder / STATUS_NAME)
    except OSError as error:
        raise Unavailable(f"{partial}: {error.strerror or error}") from error


def footprint() -> tuple[int, float]:
    """Return this process's resident memory in bytes and the CPU seconds it has used."""
    times = os.times()
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):  # not Linux: the highest it ever had
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, times.user + times.system
    return pages * os.sysconf("SC_PAGE_SIZE"), times.user + times.system


def read_status(folder: Path) -> EdgeStatus:
    """Return what is known about the agent of a state folder.

    Raises:
        Missing: no agent ever ran there.
    """
    if not (folder / SPOOL_NAME).exists():
        message = f"no agent has run on {folder}; start one with `tallybook edge run`"
        raise Missing(message)
    spool = SqliteSpool(folder / SPOOL_NAME, readonly=True)
    try:
        state, cursors, waiting = spool.state(), spool.cursors(), spool.waiting()
    finally:
        spool.close()
    host = cursors.get(HOST_CURSOR)
    return EdgeStatus(
        spooled_batches=waiting.batches,
        spooled_events=waiting.events,
        spooled_bytes=waiting.bytes,
        spooled_since_us=waiting.oldest_us,
        collected_events=state.events_total,
        files=_positions(cursors),
        host_read_us=msgspec.json.decode(host, type=HostState).time_us if host else None,
        refused_events=RefusedFile(folder).count(),
        agent=_agent(folder),
    )


def _positions(cursors: dict[str, str]) -> tuple[FilePosition, ...]:
    found = []
    for name, text in sorted(cursors.items()):
        kind, _, path = name.partition(":")
        if kind == "file":
            newest = msgspec.json.decode(text, type=Followed).files[0]
            position = FilePosition(path=path, offset=newest.offset, fingerprint=newest.fingerprint)
            found.append(position)
    return tuple(found)


def _agent(folder: Path) -> AgentStatus | None:
    try:
        said = msgspec.json.decode((folder / STATUS_NAME).read_bytes(), type=AgentStatus)
    except (OSError, msgspec.MsgspecError):
        return None  # never ran, or was killed while it wrote: only the spool counts
    alive = said.running and _alive(said.pid)
    return msgspec.structs.replace(said, running=alive)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
