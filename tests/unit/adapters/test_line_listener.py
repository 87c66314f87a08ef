"""Sockets that take lines: whole ones, from whoever sends, and nothing else."""

import os
import socket
import struct
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tallybook.adapters.sockets.listener import LINE_BYTES_MAX, LineListener
from tallybook.kernel.errors import Invalid, Unavailable

NUMBERS = count()


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@pytest.fixture
def short_path(tmp_path_factory):
    path = Path(f"/tmp/tb-{os.getpid()}-{next(NUMBERS)}.sock")
    yield path
    path.unlink(missing_ok=True)


def test_streams_are_cut_into_lines_and_the_last_needs_no_end(short_path):
    came: list[tuple[bytes, str]] = []
    port = free_port()
    listener = LineListener(
        [f"tcp://127.0.0.1:{port}", f"unix+stream://{short_path}"], lambda *took: came.append(took)
    )
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.sendall(b"a:1|c\nb:")
        until(lambda: came == [(b"a:1|c", "tcp")])
        stream.sendall(b"2|c")
    until(lambda: (b"b:2|c", "tcp") in came)
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(short_path))
        stream.sendall(b"c:3|c\n")
        until(lambda: (b"c:3|c", "unix") in came)
        stream.sendall(b"x" * (LINE_BYTES_MAX * 3))
        until(lambda: len(came[-1][0]) == LINE_BYTES_MAX)  # and the connection is closed
        with pytest.raises(OSError):
            stream.sendall(b"x" * 10_000_000)
    listener.close()
    assert not short_path.exists()


def test_datagrams_that_wait_are_taken_before_the_end_and_stale_sockets_are_replaced(short_path):
    came: list[bytes] = []
    left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.bind(str(short_path))
    left.close()  # as a killed process leaves it
    port = free_port()
    listener = LineListener(
        [f"unix://{short_path}", f"udp://127.0.0.1:{port}"], lambda data, _: came.append(data)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        for number in range(500):
            made.sendto(b"a:%d|c" % number, ("127.0.0.1", port))
    listener.close()
    assert came == [b"a:%d|c" % number for number in range(500)]


@pytest.mark.parametrize("address", ["x", "http://x", "udp://127.0.0.1", "tcp://127.0.0.1:99999"])
def test_addresses_that_are_none(address):
    with pytest.raises(Invalid):
        LineListener([address], lambda *_: None)


def test_an_address_in_use_and_a_file_in_the_way(tmp_path):
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        with pytest.raises(Unavailable, match="cannot listen"):
            LineListener([f"tcp://127.0.0.1:{made.getsockname()[1]}"], lambda *_: None)
    file = tmp_path / "f"
    file.write_text("keep")
    with pytest.raises(Unavailable):
        LineListener([f"unix://{file}"], lambda *_: None)
    assert file.read_text() == "keep"


def test_a_connection_that_is_reset_takes_nobody_along():
    came: list[bytes] = []
    port = free_port()
    listener = LineListener([f"tcp://127.0.0.1:{port}"], lambda data, _: came.append(data))
    for number in range(20):
        stream = socket.create_connection(("127.0.0.1", port))
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.sendall(b"a:%d|c\nb:" % number)
        until(lambda: len(came) > number)  # noqa: B023 - called at once
        stream.close()  # reset
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.sendall(b"last:1|c\n")
        until(lambda: came[-1] == b"last:1|c")
    listener.check()
    listener.close()


def test_who_listens_no_more_says_so():
    port = free_port()

    def take(_data: bytes, _transport: str) -> None:
        raise ZeroDivisionError("a bug")

    listener = LineListener([f"udp://127.0.0.1:{port}"], take)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"a:1|c", ("127.0.0.1", port))
    until(lambda: listener.problem)
    with pytest.raises(Unavailable, match="ZeroDivisionError: a bug"):
        listener.check()
    listener.close()
    LineListener([f"udp://127.0.0.1:{port}"], take).close()  # the address is free again
