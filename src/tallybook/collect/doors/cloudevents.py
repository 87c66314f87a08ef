"""CloudEvents in Kafka records: binary and structured mode become envelopes in JSON.

| record | mode |
|---|---|
| header `content-type: application/cloudevents+json` | structured: the value is the event |
| `application/cloudevents-batch+json` | a JSON array of events |
| headers `ce_…` | binary: attributes in headers, data in the value |
| none of these, and the value is an object with `specversion` | structured |

A record that is no event goes to quarantine under its place, and the partition goes on.

Source: CloudEvents Kafka protocol binding 1.0.2.
"""

from collections.abc import Sequence

import msgspec

from tallybook.collect.doors.point import Bad

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_PREFIX = "ce_"
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder(msgspec.Raw)
_WRONG = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record of a topic.

    Attributes:
        headers: in order; a name may occur more than once, a value may be null.
        value: None for a tombstone.
    """

    topic: str
    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes | None]] = ()
    value: bytes | None = None

    def place(self) -> str:
        """Return where it stands, for people and for its identity in quarantine."""
        return f"{self.topic}/{self.partition}/{self.offset}"


def envelopes(record: Record) -> list[bytes] | Bad:
    """Return the events of a record as CloudEvents JSON; [] for a bare tombstone."""
    try:
        headers = _headers(record)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == BATCH:
            return [bytes(piece) for piece in _ARRAY.decode(record.value or b"")]
        if any(name.startswith(_PREFIX) for name in headers) and kind != STRUCTURED:
            return [_binary(headers, kind, record.value)]
        if record.value is None:
            return []
        if kind == STRUCTURED or "specversion" in _OBJECT.decode(record.value):
            _OBJECT.decode(record.value)
            return [record.value]
    except _WRONG as error:
        return _bad(record, f"the record is no CloudEvent: {error}")
    return _bad(record, "the record has neither ce_ headers nor an object with specversion")


def _headers(record: Record) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in record.headers:
        key = "content-type" if name.lower() == "content-type" else name
        if not key.startswith(_PREFIX) and key != "content-type":
            continue
        if key in found:
            raise msgspec.DecodeError(f"the header {key} occurs twice")
        if value is not None:
            found[key] = value.decode()
    return found


def _binary(headers: dict[str, str], kind: str, value: bytes | None) -> bytes:
    event: dict[str, object] = {
        name.removeprefix(_PREFIX): text
        for name, text in headers.items()
        if name.startswith(_PREFIX)
    }
    if value:
        if kind not in {"", "application/json"} and not kind.endswith("+json"):
            raise msgspec.DecodeError(f"data of type '{kind}' is not JSON")
        event["data"] = msgspec.Raw(_ANY.decode(value))
        if kind:
            event["datacontenttype"] = headers["content-type"]
    return msgspec.json.encode(event)


def _bad(record: Record, message: str) -> Bad:
    piece = (record.value or b"").decode("utf-8", "backslashreplace")
    return Bad(
        code="malformed", message=message, piece=piece, place=record.place(), key=record.place()
    )
