"""What `/metrics` tells of routing: sums over all tenants, no names."""

from collections.abc import Callable
from typing import Any

from tallybook.adapters.sqlite.streams import SqliteGroups, SqliteStreamReader, SqliteStreamWriter
from tallybook.compose import World
from tallybook.route.record import Place
from tallybook.route.stream import LIVE


def streams(gauge: Callable[..., Any], world: World) -> None:
    """Add the figures of streams and groups; none where nothing was ever routed."""
    if not world.settings.streams_db.exists():
        return
    reader, groups = SqliteStreamReader(world.streams_file), SqliteGroups(world.streams_file)
    tenants = reader.tenants()
    found = [stream for tenant in tenants for stream in reader.streams(tenant)]
    members = [group for tenant in tenants for group in groups.groups(tenant, "")]
    at = SqliteStreamWriter(world.streams_file).cursor(LIVE) or Place()
    gauge("router_commit", "The newest lake commit that was routed.").set(at.commit_seq)
    gauge("stream_records", "Records kept on streams.").set(sum(s.records for s in found))
    gauge("stream_bytes", "Their bytes.").set(sum(s.bytes for s in found))
    worst = max((group.lag for group in members), default=0)
    gauge("stream_lag", "Records that the group furthest behind has not acknowledged.").set(worst)
    dead = sum(group.dead for group in members)
    gauge("stream_dead_letters", "Records that groups could not process.").set(dead)
    lost = sum(group.lost for group in members)
    gauge("stream_lost", "Records that retention dropped unread.").set(lost)
