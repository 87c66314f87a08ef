"""One batch to the server: what it took, what it keeps aside, what it will not take."""

from collections.abc import Callable, Sequence

import msgspec
import zstandard

from tallybook.adapters.http.client import Client as Http
from tallybook.adapters.http.client import decoded
from tallybook.client.events import RefusedEvent, refused
from tallybook.collect.spool import joined
from tallybook.kernel.errors import Conflict, Invalid, TallybookError, Unavailable

EVENTS_PATH = "/api/v1/events"
COMPRESS_FROM_BYTES = 1024

Park = Callable[[bytes, TallybookError], None]


class _Quarantined(msgspec.Struct, frozen=True):
    index: int
    code: str = ""
    message: str = ""


class _Answer(msgspec.Struct, frozen=True):
    stored: int
    quarantined: list[_Quarantined] = []


class Outcome(msgspec.Struct, frozen=True):
    """What became of a batch: events stored, and those that cannot be counted."""

    stored: int
    bad: tuple[RefusedEvent, ...] = ()


def send(http: Http, pieces: Sequence[bytes], park: Park) -> Outcome:
    """Send a batch; one that is refused as a whole is halved until the guilty event is found.

    Args:
        http: the server and the key.
        pieces: events as JSON, at least one.
        park: keeps an event that the server has not taken; on return it is safe.

    Raises:
        Forbidden: the key will not do; nothing is parked for that.
        Unavailable: not now, or the outcome is unknown; send the same again. Also where what
            refuses is something else than the server, such as a proxy: its word parks nothing.
    """
    try:
        return _sent(http, pieces)
    except (Invalid, Conflict) as error:
        if error.code in {Invalid.code, Conflict.code}:  # the server always says which of them
            message = f"{error.message}; is something else at this address?"
            raise Unavailable(message) from error
        if len(pieces) == 1:
            park(pieces[0], error)
            return Outcome(0, (refused(pieces[0], error),))
    middle = len(pieces) // 2
    first, second = send(http, pieces[:middle], park), send(http, pieces[middle:], park)
    return Outcome(first.stored + second.stored, first.bad + second.bad)


def _sent(http: Http, pieces: Sequence[bytes]) -> Outcome:
    body = joined(pieces)
    headers = {
        "Content-Type": "application/cloudevents-batch+json",
        "Accept": "application/json",
    }
    if len(body) >= COMPRESS_FROM_BYTES:
        headers["Content-Encoding"] = "zstd"
        body = zstandard.ZstdCompressor(level=1).compress(body)
    params = {"partial": "true"}
    answer = http.raw("POST", EVENTS_PATH, content=body, headers=headers, params=params)
    said = decoded(answer.content, _Answer)
    if said.stored + len(said.quarantined) != len(pieces):
        message = f"the answer accounts for {said.stored} + {len(said.quarantined)} events"
        raise Unavailable(f"{message} of {len(pieces)}; is something else at this address?")
    bad = tuple(
        RefusedEvent(
            event=pieces[each.index], code=each.code, message=each.message, quarantined=True
        )
        for each in said.quarantined
        if 0 <= each.index < len(pieces)
    )
    return Outcome(said.stored, bad)
