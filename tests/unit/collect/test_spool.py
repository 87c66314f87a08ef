"""Batches, waiting, and the three flows with memory adapters."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.adapters.http.sender import ZstdPacking
from tallybook.adapters.memory.event_log import MemoryEventLog
from tallybook.collect.backoff import wait_seconds
from tallybook.collect.fileid import line_digest
from tallybook.collect.flow import read_lines, take_reading
from tallybook.collect.following import Chunk, Followed, Position
from tallybook.collect.formats.choice import log_format
from tallybook.collect.host import HostSample
from tallybook.collect.lines import Line
from tallybook.collect.ports import Receipt
from tallybook.collect.sending.flow import deliver
from tallybook.collect.sending.parcel import Parcel
from tallybook.collect.spool import cut, encode_event, joined, parted
from tallybook.kernel.errors import Corrupt, Forbidden, Invalid, TallybookError, Unavailable
from tallybook.kernel.event import UsageEvent
from tallybook.serve.agent.intake import SpoolIntake

PIECES = st.lists(st.binary(min_size=1, max_size=30), max_size=40)
PACKING = ZstdPacking()


@given(PIECES, st.integers(1, 10), st.integers(1, 100))
def test_cutting_keeps_order_and_bounds(pieces: list[bytes], events: int, size: int) -> None:
    batches = list(cut(pieces, events, size))
    assert [piece for batch in batches for piece in batch] == pieces
    for batch in batches:
        assert 1 <= len(batch) <= events
        assert len(batch) == 1 or sum(map(len, batch)) <= size


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=3), max_size=5))
def test_packing_gives_back_every_byte(events: list[dict[str, int]]) -> None:
    pieces = [msgspec.json.encode(event) for event in events]
    assert parted(joined(pieces)) == pieces
    assert PACKING.unpack(PACKING.pack(pieces)) == pieces


@pytest.mark.parametrize("payload", [b"", b"plain", PACKING.pack([b"not json"])])
def test_a_spooled_batch_that_cannot_be_read_is_corrupt(payload: bytes) -> None:
    with pytest.raises(Corrupt):
        PACKING.unpack(payload)


def test_the_wire_form_always_names_its_version_and_keeps_extensions() -> None:
    event = UsageEvent(id="1", source="s", type="t", data=msgspec.Raw(b'{"n":1.10}'))
    assert encode_event(event) == (
        b'{"specversion":"1.0","type":"t","source":"s","id":"1","data":{"n":1.10}}'
    )
    extended = msgspec.structs.replace(event, ext={"trace": "x", "n": 3})
    assert msgspec.json.decode(encode_event(extended))["trace"] == "x"


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.integers(0, 3600))
def test_waiting_is_bounded_and_honours_the_server(n: int, fraction: float, asked: int) -> None:
    wait = wait_seconds(n, fraction, asked)
    assert asked <= wait <= asked + 60
    assert wait_seconds(n, fraction) <= min(60, 2 ** min(n - 1, 16))


class ListSource:
    """Lines from a list, one chunk of two at a time."""

    name = "/log"

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.lines = lines

    def read(self, followed: Followed, bytes_max: int) -> Chunk:
        position = followed.find("f") or Position(fingerprint="f")
        found, at = [], 0
        for raw in self.lines:
            line = Line(at, len(raw), raw, line_digest(raw), at + len(raw) + 1)
            at = line.end
            if line.offset >= position.offset and len(found) < 2:
                found.append(line)
        if found:
            followed = followed.moved(position.after(found[-1]), 1)
        return Chunk(lines=tuple(found), fingerprint="f", followed=followed)


class FullLog(MemoryEventLog):
    """Refuses every append while `full`."""

    full = True

    def append(self, *args: object, **kwargs: object) -> int:
        if self.full:
            raise Unavailable("disk full")
        return super().append(*args, **kwargs)  # type: ignore[arg-type]


def intake(log: MemoryEventLog) -> SpoolIntake:
    return SpoolIntake(log, PACKING, 1 << 30)


def spooled(log: MemoryEventLog) -> list[str]:
    rows = log.read(0, 1000)
    pieces = [piece for row in rows for piece in PACKING.unpack(row.payload or b"")]
    return [msgspec.json.decode(piece)["id"] for piece in pieces]


def test_lines_and_position_go_into_the_spool_together() -> None:
    log, source = MemoryEventLog(), ListSource([b"a", b"b", b"a"])
    form = log_format("combined")
    counts = [read_lines(source, form, None, intake(log)).lines for _ in range(3)]
    assert counts == [2, 1, 0]
    assert len(set(spooled(log))) == 3


def test_a_full_disk_moves_no_position() -> None:
    log, source, form = FullLog(), ListSource([b"a", b"b"]), log_format("combined")
    with pytest.raises(Unavailable):
        read_lines(source, form, None, intake(log))
    assert log.cursors() == {}
    log.full = False
    assert read_lines(source, form, None, intake(log)).lines == 2


def test_an_unreadable_position_is_corrupt_not_guessed() -> None:
    log = MemoryEventLog()
    log.append([], {"file:/log": "{", "host": "[]"})
    with pytest.raises(Corrupt):
        read_lines(ListSource([b"a"]), log_format("combined"), None, intake(log))
    with pytest.raises(Corrupt):
        take_reading(SilentHost(), intake(log), 1)


class SilentHost:
    def read(self) -> HostSample:
        return HostSample(host="h", boot_id="b", time_us=1, uptime_us=1, readings=())


def test_a_reading_without_series_only_reports_the_start() -> None:
    log = MemoryEventLog()
    assert take_reading(SilentHost(), intake(log), 1) == 1
    assert take_reading(SilentHost(), intake(log), 1) == 0
    assert len(log.read(0, 10)) == 1


class PickySender:
    """Refuses any batch with a bad piece, as a server that takes all or nothing."""

    def __init__(self, bad: set[bytes], error: TallybookError | None = None) -> None:
        self.bad = bad
        self.taken: list[bytes] = []
        self.error = error or Invalid("bad event")

    def send(self, payload: bytes, events: int, parcel: Parcel | None = None) -> Receipt:
        pieces = PACKING.unpack(payload)
        assert len(pieces) == events
        if self.bad & set(pieces):
            raise self.error
        self.taken += pieces
        return Receipt(stored=events)


class ListParking:
    def __init__(self) -> None:
        self.parked: list[bytes] = []

    def park(self, piece: bytes, error: TallybookError) -> None:
        assert error.code == "invalid"
        self.parked.append(piece)


@given(st.sets(st.integers(0, 30), min_size=1), st.sets(st.integers(0, 30)))
def test_only_the_guilty_events_are_parked_and_order_is_kept(all_: set[int], bad: set[int]) -> None:
    pieces = [str(n).encode() for n in sorted(all_)]
    guilty = {str(n).encode() for n in bad}
    sender, parking = PickySender(guilty), ListParking()
    receipt = deliver(PACKING.pack(pieces), len(pieces), sender, PACKING, parking)
    assert parking.parked == [piece for piece in pieces if piece in guilty]
    assert sender.taken == [piece for piece in pieces if piece not in guilty]
    assert receipt == Receipt(stored=len(sender.taken), parked=len(parking.parked))


@pytest.mark.parametrize("error", [Forbidden("key"), Unavailable("down")])
def test_a_wrong_key_or_an_outage_parks_nothing(error: TallybookError) -> None:
    parking = ListParking()
    with pytest.raises(type(error)):
        deliver(PACKING.pack([b"1"]), 1, PickySender({b"1"}, error), PACKING, parking)
    assert parking.parked == []
