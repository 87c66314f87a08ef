"""Sends batches of events to the server, compressed.

`?partial=true`: the server stores what is right and files the rest in quarantine, so one bad event
never holds the others up.
"""

import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
import zstandard

from tallybook.adapters.http.client import Answer, Client, decoded
from tallybook.collect.ports import Receipt
from tallybook.collect.sending.parcel import Parcel, headers_of
from tallybook.collect.spool import joined, parted
from tallybook.kernel.errors import Corrupt, Invalid, Unavailable
from tallybook.kernel.limits import REQUEST_BYTES_MAX

EVENTS_PATH = "/api/v1/events"
_LEVEL = 3
_HEADERS = {
    "Content-Type": "application/cloudevents-batch+json",
    "Content-Encoding": "zstd",
    "Accept": "application/json",
}


class ZstdPacking:
    """`Packing` as zstd-compressed JSON, the body that one request carries."""

    def pack(self, pieces: Sequence[bytes]) -> bytes:
        """Return the body of a request with these events."""
        # Made anew for each batch: between two of them its megabyte is free.
        return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(joined(pieces))

    def unpack(self, payload: bytes) -> list[bytes]:
        """Return the events of a body.

        Raises:
            Corrupt: it is no such body.
        """
        try:
            plain = zstandard.ZstdDecompressor().decompress(
                payload, max_output_size=REQUEST_BYTES_MAX
            )
            return parted(plain)
        except (zstandard.ZstdError, msgspec.MsgspecError) as error:
            raise Corrupt(f"a spooled batch cannot be read: {error}") from error


class _Quarantined(msgspec.Struct, frozen=True):
    index: int = -1
    code: str = ""
    message: str = ""


class _PartialAnswer(msgspec.Struct, frozen=True):
    stored: int
    quarantined: list[_Quarantined] = []


class HttpEventSender:
    """`EventSender` over HTTP."""

    def __init__(self, client: Client) -> None:
        """Use this client; its address and key decide where the events go."""
        self._client = client

    def send(self, payload: bytes, events: int, parcel: Parcel | None = None) -> Receipt:
        """Send one batch; on return the server has it on stable storage.

        Raises:
            Unavailable: also where a 2xx does not account for every event, or a refusal does not
                say what is wrong: a proxy or a sign-in page answered, not the server, and the
                batch must stay in the spool.
        """
        headers = _HEADERS
        if parcel is not None:
            headers = headers | headers_of(parcel, time.time_ns() // 1000)
        answer = self._posted(payload, headers)
        if answer.status == HTTPStatus.NO_CONTENT:  # everything was stored
            return Receipt(stored=events)
        said = decoded(answer.content, _PartialAnswer)
        receipt = Receipt(stored=said.stored, quarantined=len(said.quarantined))
        if receipt.stored + receipt.quarantined != events:
            message = f"the answer accounts for {receipt.stored} + {receipt.quarantined} events"
            raise Unavailable(f"{message} of {events}; is something else at this address?")
        return receipt

    def _posted(self, payload: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            return self._client.raw(
                "POST", EVENTS_PATH, content=payload, headers=headers, params={"partial": "true"}
            )
        except Invalid as error:
            if error.code != Invalid.code:
                raise
            raise Unavailable(f"{error.message}; is something else at this address?") from error
