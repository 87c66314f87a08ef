"""What goes between a billing run and the processes that compose for it.

A message is its length in 8 bytes, then its bytes. Tasks go as JSON, whose integers have no bound;
what they come to as MessagePack, which copies long texts as they are.
"""

from collections.abc import Sequence
from typing import IO

import msgspec

from tallybook.invoice.ports import Parked
from tallybook.invoice.run.batch.prepared import Outcome, Prepared
from tallybook.invoice.run.batch.task import Scope, Task

_LENGTH_BYTES = 8


class Order(msgspec.Struct, frozen=True):
    """A message to a process: what the next batches share, or a batch."""

    scope: Scope | None = None
    tasks: tuple[Task, ...] = ()


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    """An outcome: one of the two."""

    prepared: Prepared | None
    parked: Parked | None


_orders = msgspec.json.Decoder(Order)
_answers = msgspec.msgpack.Decoder(list[_Answer])


def encode_order(order: Order) -> bytes:
    """Return a message to a process."""
    return msgspec.json.encode(order)


def decode_order(message: bytes) -> Order:
    """Return a message from a billing run."""
    return _orders.decode(message)


def encode_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """Return what a batch came to."""
    return msgspec.msgpack.encode(
        [_Answer(None, one) if isinstance(one, Parked) else _Answer(one, None) for one in outcomes]
    )


def decode_outcomes(message: bytes) -> list[Outcome]:
    """Return what a batch came to."""
    found: list[Outcome] = []
    for answer in _answers.decode(message):
        one = answer.prepared or answer.parked
        assert one is not None, "an outcome is one of the two"
        found.append(one)
    return found


def send(pipe: IO[bytes], message: bytes) -> None:
    """Write a message; raises OSError where nobody reads any more."""
    pipe.write(len(message).to_bytes(_LENGTH_BYTES, "big"))
    pipe.write(message)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes:
    """Read a message; raises EOFError where the other side is gone."""
    length = int.from_bytes(_exactly(pipe, _LENGTH_BYTES), "big")
    return _exactly(pipe, length)


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    found = pipe.read(count)
    if len(found) < count:
        raise EOFError("the other side of the pipe is gone")
    return found
