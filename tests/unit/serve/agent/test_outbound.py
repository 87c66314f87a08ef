"""What the agent keeps when its disk or its renewal is interrupted, and how the sender waits."""

import sqlite3
import time
from pathlib import Path
from threading import Event

import pytest

from tallybook.adapters.http.sender import ZstdPacking
from tallybook.adapters.x509 import authority as x509
from tallybook.adapters.x509.request import key_pem, new_key
from tallybook.collect.ports import Receipt
from tallybook.collect.sending.lanes import Pace
from tallybook.collect.sending.parcel import Parcel
from tallybook.kernel.errors import Forbidden, Invalid, Missing, Unavailable
from tallybook.serve.agent.outbound.renewing import Files, due, put, recover, validity
from tallybook.serve.agent.outbound.sending import Route, Sender
from tallybook.serve.agent.spool import SPOOL_NAME, SharedSpool, opened_spool
from tallybook.serve.agent.voice import Voice
from tallybook.transport.ports import Batch

PACKING = ZstdPacking()
DAY_US = 86_400_000_000
NOW_US = 1_795_000_000_000_000


class Server:
    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.parcels: list[Parcel] = []
        self.got = Event()

    def send(self, payload: bytes, events: int, parcel: Parcel | None = None) -> Receipt:
        assert parcel is not None
        if self.failures:
            raise self.failures.pop(0)
        self.parcels.append(parcel)
        self.got.set()
        return Receipt(stored=events)


def spool_some(spool: SharedSpool, count: int) -> None:
    spool.append([Batch(1, PACKING.pack([b'{"n":%d}' % n])) for n in range(count)])


def sender_of(spool: SharedSpool, server: Server, folder: Path) -> Sender:
    route = Route(sender=server, packing=PACKING, edge="web-1", pace=Pace(share=0.01))
    return Sender(spool, route, folder, Voice())


def test_every_batch_goes_with_its_number_and_what_waits(tmp_path: Path) -> None:
    server = Server(Unavailable("away"), Forbidden("key"))
    with opened_spool(tmp_path) as spool:
        spool_some(spool, 3)
        sender = sender_of(spool, server, tmp_path)
        sender.start()
        assert sender.drain(20)
    assert [p.number for p in server.parcels] == [1, 2, 3]
    assert [p.waiting.batches for p in server.parcels] == [3, 2, 1]
    assert [p.waiting.first for p in server.parcels] == [1, 2, 3]
    assert len({p.incarnation for p in server.parcels}) == 1
    assert sender.total == Receipt(stored=3)
    assert sender.circuit() == "closed"


def test_a_spool_that_the_disk_ruined_is_put_aside_and_collecting_goes_on(tmp_path: Path) -> None:
    with opened_spool(tmp_path) as spool:
        spool_some(spool, 2)
        epoch = spool.epoch
    (tmp_path / SPOOL_NAME).write_bytes(b"not a database at all" * 500)
    for suffix in ("-wal", "-shm"):
        (tmp_path / (SPOOL_NAME + suffix)).unlink(missing_ok=True)
    with opened_spool(tmp_path) as spool:
        assert spool.lost is not None
        assert spool.lost.exists()
        assert spool.epoch != epoch
        assert spool.waiting().batches == 0
        spool_some(spool, 1)


def test_a_damaged_batch_is_kept_aside_and_its_number_is_missing(tmp_path: Path) -> None:
    server = Server()
    with opened_spool(tmp_path) as spool:
        spool_some(spool, 3)
    with sqlite3.connect(tmp_path / SPOOL_NAME) as db:
        db.execute("UPDATE batch SET payload = x'00ff' WHERE offset = 2")
    db.close()
    with opened_spool(tmp_path) as spool:
        sender = sender_of(spool, server, tmp_path)
        sender.start()
        assert sender.drain(20)
    assert [p.number for p in server.parcels] == [1, 3]
    assert (tmp_path / "damaged-2.bin").read_bytes() == b"\x00\xff"


def test_new_data_does_not_wait_for_the_backlogs_turn(tmp_path: Path) -> None:
    server = Server()
    with opened_spool(tmp_path) as spool:
        spool_some(spool, 3)
    with sqlite3.connect(tmp_path / SPOOL_NAME) as db:
        db.execute("UPDATE batch SET appended_us = appended_us - 3600000000")
    db.close()

    class Slow(Server):
        def send(self, payload: bytes, events: int, parcel: Parcel | None = None) -> Receipt:
            time.sleep(0.05)
            return super().send(payload, events, parcel)

    server = Slow()
    with opened_spool(tmp_path) as spool:
        sender = sender_of(spool, server, tmp_path)
        sender.start()
        assert server.got.wait(10)  # the first of the backlog; the next waits for 5 s
        server.got.clear()
        spool_some(spool, 1)
        sender.wake()
        assert server.got.wait(3)
        assert [p.number for p in server.parcels] == [1, 4]
        assert sender.drain(20)  # at the end nothing is held back
    assert [p.number for p in server.parcels] == [1, 4, 2, 3]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path / "edge.pem", tmp_path / "edge.key")
    cert, key = pair(tmp_path / "ca", since_days=0)
    x509.write_open(made.cert, cert)
    x509.write_closed(made.key, key)
    return made


def pair(folder: Path, since_days: int) -> tuple[bytes, bytes]:
    now_us = NOW_US - since_days * DAY_US
    try:
        authority = x509.Authority(folder)
    except Missing:
        authority = x509.found(folder, "test", now_us)
    key = new_key()
    return authority.issue_edge("default", "web-1", key.public_key(), now_us, 30).cert, key_pem(key)


def test_a_certificate_is_due_when_a_third_of_its_time_is_left(files: Files) -> None:
    begin, end = validity(files.cert)
    assert not due(files.cert, begin + (end - begin) * 0.6)
    assert due(files.cert, begin + (end - begin) * 0.7)
    assert due(files.cert, end + 1)
    files.cert.write_text("nothing")
    with pytest.raises(Unavailable):
        validity(files.cert)


def test_a_certificate_for_another_key_is_not_put_in_place(files: Files, tmp_path: Path) -> None:
    before = files.cert.read_bytes()
    stranger, _ = pair(tmp_path / "ca", 0)
    with pytest.raises(Invalid):
        put(files, stranger, None)
    assert files.cert.read_bytes() == before
    assert not (tmp_path / "edge.pem.renewed").exists()


@pytest.mark.parametrize("step", ["before", "key only"])
def test_a_renewal_that_was_killed_is_finished_at_the_next_start(
    files: Files, tmp_path: Path, step: str
) -> None:
    cert, key = pair(tmp_path / "ca", 0)
    (tmp_path / "edge.pem.renewed").write_bytes(cert + key)
    if step == "key only":
        files.key.write_bytes(key)
    recover(files)
    assert (files.cert.read_bytes(), files.key.read_bytes()) == (cert, key)
    assert files.key.stat().st_mode & 0o077 == 0
    assert not (tmp_path / "edge.pem.renewed").exists()
    recover(files)


def test_half_a_renewal_is_none(files: Files, tmp_path: Path) -> None:
    before = files.cert.read_bytes(), files.key.read_bytes()
    cert, key = pair(tmp_path / "ca", 0)
    (tmp_path / "edge.pem.renewed").write_bytes((cert + key)[:-20])
    recover(files)
    assert (files.cert.read_bytes(), files.key.read_bytes()) == before
