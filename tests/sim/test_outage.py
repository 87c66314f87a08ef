"""The outage drill: the server is away for an hour, the agent killed ten times; then all is back.

Simulated time, a real spool on disk, the real decisions of sending. The agent reads every ten
seconds; the source counts up, so whatever is lost or doubled shows in the sums.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tallybook.adapters.http.sender import ZstdPacking
from tallybook.adapters.sqlite.spool import SqliteSpool
from tallybook.collect.ports import Receipt
from tallybook.collect.sending.fleet import EdgeRecord, Seen, noted
from tallybook.collect.sending.flow import Rest, Sending, Setup, Times
from tallybook.collect.sending.lanes import LIVE_SECONDS, Pace
from tallybook.collect.sending.parcel import Note, Parcel
from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.transport.ports import Batch

INTERVAL = 10
OUTAGE = (300.0, 300.0 + 3600)
END = 2 * 3600.0
SEND_SECONDS = 0.5
KILLS = 10
PACKING = ZstdPacking()


class Killed(BaseException):
    """SIGKILL: nothing catches it."""


class World:
    """Time, the server, and what the source has really used."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.stored: dict[str, int] = {}
        self.arrived: list[tuple[float, int]] = []
        self.repeated = 0
        self.record: EdgeRecord | None = None
        self.kill_at: list[float] = sorted(
            self.random.uniform(60, OUTAGE[1] + 900) for _ in range(KILLS)
        )
        self.used = 0

    def times(self) -> Times:
        return Times(int(self.now * 1_000_000), self.now)

    def perhaps_killed(self) -> None:
        if self.kill_at and self.now >= self.kill_at[0]:
            self.kill_at.pop(0)
            raise Killed

    def send(self, payload: bytes, events: int, parcel: Parcel | None = None) -> Receipt:
        assert parcel is not None
        self.now += SEND_SECONDS / 2
        away = OUTAGE[0] <= self.now < OUTAGE[1]
        if away or self.random.random() < 0.02:
            raise Unavailable("away")
        self.perhaps_killed()
        for piece in PACKING.unpack(payload):
            event = msgspec.json.decode(piece)
            self.repeated += event["id"] in self.stored
            self.stored.setdefault(event["id"], event["used"])
            self.arrived.append((self.now, event["at"]))
        note = Note(parcel, int(self.now * 1_000_000))
        seen = Seen(note=note, at_us=int(self.now * 1_000_000), stored=True)
        self.record = noted(self.record, seen)
        self.now += SEND_SECONDS / 2
        if self.random.random() < 0.02:
            raise Unavailable("the answer was lost")
        self.perhaps_killed()
        return Receipt(stored=events)

    def park(self, piece: bytes, error: TallybookError) -> None:
        raise AssertionError((piece, error))


class Agent:
    """Reads every ten seconds and sends in between; all it remembers is its spool."""

    def __init__(self, world: World, path: Path) -> None:
        self.world = world
        self.spool = SqliteSpool(path, now_us=lambda: world.times().wall_us)
        setup = Setup(
            outbox=self.spool,
            sender=world,
            packing=PACKING,
            parking=world,
            set_aside=lambda row: pytest.fail(f"damaged: {row}"),
            edge="web-1",
        )
        self.sending = Sending(setup, world.times, world.random.random, Pace())

    def read(self) -> None:
        """Spool what was used since the baseline, with the new baseline, in one transaction."""
        known = int(self.spool.cursors().get("baseline", "0"))
        used, at = self.world.used, int(self.world.now)
        event = {"id": f"{known}-{used}", "used": used - known, "at": at}
        piece = msgspec.json.encode(event)
        self.spool.append([Batch(1, PACKING.pack([piece]))], {"baseline": str(used)})

    def live(self) -> Iterator[None]:
        """Go on until the end, or until killed."""
        due = self.world.now
        while self.world.now < END or self.spool.waiting().batches:
            self.world.perhaps_killed()
            if self.world.now >= due and self.world.now < END:
                self.world.used += self.world.random.randint(1, 1000)
                self.read()
                due += INTERVAL
            try:
                done = self.sending.step()
            except Unavailable:
                continue
            if isinstance(done, Rest):
                until = min(due, self.world.now + (done.seconds or INTERVAL))
                self.world.now = max(until, self.world.now + 0.001)
            yield


def drill(world: World, path: Path) -> None:
    while True:
        agent = Agent(world, path)
        try:
            for _ in agent.live():
                pass
        except Killed:
            world.now += world.random.uniform(0.1, 30)
            continue
        finally:
            agent.spool.close()
        return


@pytest.mark.parametrize("chosen", [1, 2, None], ids=["1", "2", "any"])
def test_an_hour_without_a_server_and_ten_kills(tmp_path: Path, chosen: int | None) -> None:
    seed = random.randrange(10**6) if chosen is None else chosen
    print(f"seed {seed}")
    world = World(seed)
    drill(world, tmp_path / "spool.db")
    assert world.kill_at == []
    assert sum(world.stored.values()) == world.used, "something was lost or counted twice"
    back = [(now, at) for now, at in world.arrived if now >= OUTAGE[1]]
    assert live_first(back)
    assert world.record is not None
    assert [one.missing() for one in world.record.incarnations] == [()]
    assert world.record.incarnations[0].repeats == world.repeated
    assert world.record.waiting.batches == 0


def live_first(back: list[tuple[float, int]]) -> bool:
    """Whether what was read after the outage came at once, and what was read in it came in order.

    A live batch may wait for the one that is being sent, for a retry, or for the agent's return.
    """
    old = [(now, at) for now, at in back if at < OUTAGE[1] - LIVE_SECONDS]
    new = [(now, at) for now, at in back if at >= OUTAGE[1] + LIVE_SECONDS]
    done = max(now for now, _ in old)
    during = [now - at for now, at in new if now <= done]
    assert len(old) > 300, "the backlog is the outage"
    assert len(during) > 40, "the backlog took a while, and live data came meanwhile"
    assert sum(delay < INTERVAL for delay in during) > 0.9 * len(during)
    order = [at for _, at in old]
    assert order == sorted(order), "the oldest goes first"
    assert back[0][1] >= OUTAGE[1] - LIVE_SECONDS, "the first to go is live"
    share = len(old) * SEND_SECONDS / (done - OUTAGE[1])
    return share <= Pace().share + 0.02
