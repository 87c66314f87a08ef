"""The use of keys becomes events, every minute: a chore of the jobs process.

What is about to be reported is stored first, then the events are, then that they are. A kill in
between repeats the same events, with the same ids, in the next round: each counts once.
"""

import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tallybook.adapters.sqlite.door_log import Addition, SqliteDoorLog, View
from tallybook.admit.plan.use import (
    GIVEN_UP,
    Reported,
    UsedKey,
    closed,
    counters,
    emptied,
    ended,
    event,
    may_end,
    opened,
)
from tallybook.compose import World
from tallybook.kernel.errors import Unavailable
from tallybook.kernel.period import Period
from tallybook.kernel.timestamps import SECOND_US
from tallybook.serve.api.child import accept_limits
from tallybook.serve.api.columns import ColumnWatch
from tallybook.serve.api.doors.commit import batches
from tallybook.serve.api.partition import put_aside
from tallybook.serve.worker.chores import Chore
from tallybook.serve.worker.pipeline import doors_log
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.columns import ColumnSet

LOOK_SECONDS = 1.0
"""How often it is looked whether a round is due."""
AT_ONCE = 2_000
"""Events stored in one transaction."""


Keys = Mapping[tuple[str, str], UsedKey]


class UseEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one tenant's use, to be stored in the log that the doors share."""

    tenant: str
    pieces: Sequence[bytes]
    now_us: int
    columns: ColumnSet
    limits: AcceptLimits
    door: str = "use"
    keys: frozenset[bytes] = frozenset()

    def decide(self, view: View) -> Addition:
        """Return the events."""
        del view
        made = batches(self.tenant, self.pieces, self.now_us, self.columns, self.limits)
        return Addition(batches=made)


class UseReporter:
    """Reports what the counters of keys gained, from one process."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._log: SqliteDoorLog | None = None
        self._columns: ColumnWatch | None = None
        self._last_us = 0

    def round(self, world: World) -> int:
        """Report where a round is due; return how many events were stored.

        Rounds begin with a minute, so that the last minute of a month is reported as of it.
        """
        settings, now_us = world.settings.gate, world.clock.now_us()
        pause_us = max(settings.use_seconds, 1) * SECOND_US
        if not settings.meter_use or now_us // pause_us == self._last_us // pause_us:
            return 0
        span = Period(min(self._last_us or now_us - pause_us, now_us - 1), now_us)
        stored = self._report(world, span)
        self._last_us = now_us
        return stored

    def _report(self, world: World, span: Period) -> int:
        keys = world.key_use.keys()
        before = {row.counter: row for row in world.key_use.reported()}
        generation = world.counts.generation
        over = {(one.tenant, one.key_id) for one in before if before[one].generation == GIVEN_UP}
        over -= {(one.tenant, one.key_id) for one in before if before[one].generation != GIVEN_UP}
        found = []
        for (tenant, key_id), key in keys.items():
            if key.gone(span.end_us) and (tenant, key_id) in over:
                continue
            some = counters(tenant, key_id)
            held = world.counts.read([counter.place() for counter in some])
            for counter, count in zip(some, held, strict=True):
                if count[0] or counter in before:
                    found.append(opened(counter, before.get(counter), count, generation, span))
        reports = [report for report in found if report is not None]
        quiet = before.keys() - {report.counter for report in reports}
        self._give_up(world, keys, [before[one] for one in quiet], span.end_us)
        if not reports:
            return 0
        world.counts.sync_all()  # what is reported must not be forgotten by a power cut
        world.key_use.put(reports)
        pending = [report for report in reports if report.pending]
        for tenant in sorted({report.tenant for report in pending}):
            mine = [report for report in pending if report.tenant == tenant]
            for at in range(0, len(mine), AT_ONCE):
                self._store(world, tenant, mine[at : at + AT_ONCE], keys)
        return len(pending)

    @staticmethod
    def _give_up(world: World, keys: Keys, reported: Iterable[Reported], now_us: int) -> None:
        """Free counters of keys that ended long ago, of which this round has nothing to report.

        A counter is emptied first: what is reported of one that was not emptied stays as it is.
        """
        gone = [
            one for one in reported if may_end(one) and keys[one.tenant, one.key_id].gone(now_us)
        ][:AT_ONCE]
        done = [
            ended(one) for one in gone if world.counts.change([one.counter.leaving()], emptied(one))
        ]
        if done:
            world.key_use.put(done)

    def _store(
        self,
        world: World,
        tenant: str,
        reports: Sequence[Reported],
        keys: Keys,
    ) -> None:
        """Store the events of reports, and then that they are stored."""
        log, columns = self._opened(world)
        asked = UseEvents(
            tenant=tenant,
            pieces=[event(one, keys[tenant, one.key_id].customer or one.key_id) for one in reports],
            now_us=world.clock.now_us(),
            columns=columns(),
            limits=accept_limits(world.settings),
        )
        (answer,) = log.write([asked])
        if isinstance(answer, BaseException):
            raise Unavailable(f"the use of keys could not be stored: {answer}") from answer
        world.key_use.put([closed(report) for report in reports])

    def _opened(self, world: World) -> tuple[SqliteDoorLog, ColumnWatch]:
        if self._log is None or self._columns is None:
            path = doors_log(world.settings.log_dir)
            self._log = SqliteDoorLog(path, lambda: time.time_ns() // 1000, put_aside)
            self._columns = ColumnWatch(
                world.catalog.version,
                world.catalog.all_meters,
                world.settings.limits.typed_columns_max,
            )
        return self._log, self._columns


CHORES = (Chore(name="key-use", every_seconds=LOOK_SECONDS, step=UseReporter().round),)
"""What is looked after between jobs."""
