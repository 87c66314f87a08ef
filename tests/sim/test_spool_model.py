"""The spool against a model: every step may be the last one before the power goes.

A crash leaves the database file as it was and of the write-ahead log any beginning of what the step
wrote to it: that is what an fsync at the commit promises and no more. After it the spool must be
either what it was before the step or what it was after it, with batches and cursors together.
"""

import shutil
import sqlite3
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tallybook.adapters.sqlite.spool import SqliteSpool
from tallybook.collect.sending.parcel import Waiting
from tallybook.transport.ports import Batch

PAYLOAD = st.binary(min_size=1, max_size=300)
BATCHES = st.lists(PAYLOAD, max_size=4)


class Model:
    """What a spool is: rows by number, cursors, the last number."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[bytes, int]] = {}
        self.cursors: dict[str, str] = {}
        self.last = 0

    def copy(self) -> "Model":
        made = Model()
        made.rows, made.cursors, made.last = dict(self.rows), dict(self.cursors), self.last
        return made

    def waiting(self) -> Waiting:
        first = min(self.rows, default=self.last + 1)
        return Waiting(
            first=first,
            batches=len(self.rows),
            events=len(self.rows),
            bytes=sum(len(payload) for payload, _ in self.rows.values()),
            oldest_us=self.rows[first][1] if self.rows else None,
        )


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-model-"))
        self.now = 1_000_000
        self.lives = 0
        self.path = self.folder / "0" / "spool.db"
        self.spool = SqliteSpool(self.path, now_us=lambda: self.now)
        self.epoch = self.spool.epoch
        self.model = Model()

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder)

    def image(self) -> dict[str, bytes]:
        names = ("spool.db", "spool.db-wal")
        paths = [self.path.with_name(name) for name in names]
        return {path.name: path.read_bytes() if path.exists() else b"" for path in paths}

    def write(self, batches: list[bytes], cursor: int) -> None:
        self.spool.append([Batch(1, payload) for payload in batches], {"position": str(cursor)})

    def wrote(self, model: Model, batches: list[bytes], cursor: int) -> None:
        for payload in batches:
            model.last += 1
            model.rows[model.last] = (payload, self.now)
        model.cursors["position"] = str(cursor)

    @rule(batches=BATCHES, cursor=st.integers(0, 99), step=st.integers(-500, 5000))
    def append(self, batches: list[bytes], cursor: int, step: int) -> None:
        self.now += step
        self.write(batches, cursor)
        self.wrote(self.model, batches, cursor)

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def acknowledged(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.rows)))
        self.spool.drop(number)
        del self.model.rows[number]

    @rule(upto=st.integers(0, 40))
    def trim(self, upto: int) -> None:
        self.spool.trim(upto)
        self.model.rows = {n: row for n, row in self.model.rows.items() if n > upto}

    @rule()
    def checkpoint(self) -> None:
        with sqlite3.connect(self.path) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()

    @rule()
    def killed_between_steps(self) -> None:
        self.revive(self.image())

    @rule(batches=BATCHES, cursor=st.integers(100, 199), cut=st.floats(0, 1), torn=st.booleans())
    def killed_while_appending(
        self, batches: list[bytes], cursor: int, cut: float, torn: bool
    ) -> None:
        before, old = self.image(), self.model.copy()
        self.write(batches, cursor)
        self.wrote(self.model, batches, cursor)
        self.revive(torn_between(before, self.image(), cut, torn=torn))
        self.settle(old)

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data(), cut=st.floats(0, 1), torn=st.booleans())
    def killed_while_dropping(self, data: st.DataObject, cut: float, torn: bool) -> None:
        before, old = self.image(), self.model.copy()
        number = data.draw(st.sampled_from(sorted(self.model.rows)))
        self.spool.drop(number)
        del self.model.rows[number]
        self.revive(torn_between(before, self.image(), cut, torn=torn))
        self.settle(old)

    def revive(self, image: dict[str, bytes]) -> None:
        """Open what the crash left, in another place: nothing of the old life helps."""
        self.spool.close()
        self.lives += 1
        self.path = self.folder / str(self.lives) / "spool.db"
        self.path.parent.mkdir()
        for name, content in image.items():
            if content:
                self.path.with_name(name).write_bytes(content)
        self.spool = SqliteSpool(self.path, now_us=lambda: self.now)

    def settle(self, old: Model) -> None:
        """Find out which of both states the crash left; there must be no third."""
        found = {row.offset: (row.payload, row.appended_us) for row in self.spool.read(0, 10**6)}
        cursors = self.spool.cursors()
        states = [m for m in (old, self.model) if (m.rows, m.cursors) == (found, cursors)]
        assert states, (found, cursors)
        self.model = states[-1]

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        rows = self.spool.read(0, 10**6)
        assert {row.offset: (row.payload, row.appended_us) for row in rows} == self.model.rows
        assert self.spool.cursors() == self.model.cursors
        assert self.spool.waiting() == self.model.waiting()
        assert self.spool.epoch == self.epoch
        assert self.spool.state().last_offset == self.model.last

    @invariant()
    def the_oldest_of_a_time_is_found(self) -> None:
        for since in (None, self.now - 1000, self.now + 1):
            found = self.spool.oldest(since)
            rows = [(at, n) for n, (_, at) in self.model.rows.items() if at >= (since or 0)]
            if since is None:
                expected = min(self.model.rows, default=None)
            else:
                expected = min(rows)[1] if rows else None
            assert (found.offset if found else None) == expected


def torn_between(
    before: dict[str, bytes], after: dict[str, bytes], cut: float, *, torn: bool
) -> dict[str, bytes]:
    """Return the files where only the beginning of a step's writes reached the disk.

    The database file itself is written by checkpoints alone, from a log that was synced before; so
    a step that changed it has already happened.
    """
    if before["spool.db"] != after["spool.db"]:
        return after
    old, new = before["spool.db-wal"], after["spool.db-wal"]
    same = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
    end = same + int((len(new) - same) * cut)
    tail = old[end:] or (b"\xa5" * min(512, len(new) - end) if torn else b"")
    return {"spool.db": before["spool.db"], "spool.db-wal": new[:end] + tail}


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(
    max_examples=20,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
