"""The note on a parcel: which edge sends, which batch of it this is, and what still waits.

Every request of an agent carries it as headers. It changes nothing about what is counted, which the
events' identities decide; it lets the server see what it can see in no event: that a batch never
came, that one came twice, how far the edge is behind, how its clock stands.

| header | value |
|---|---|
| `Tallybook-Edge` | the edge's name |
| `Tallybook-Sequence` | `INCARNATION:NUMBER`; `INCARNATION:NUMBER.PART` for a piece of a batch |
| `Tallybook-Sent-At` | the edge's clock, RFC 3339 |
| `Tallybook-Agent` | its version |
| `Tallybook-Waiting` | `first=17 batches=3 events=240 bytes=9120 oldest=RFC 3339` |

An incarnation is one spool, from its making to its loss; its numbers start at 1 and have no holes.
"""

import re
from collections.abc import Mapping

import msgspec

from tallybook.kernel.errors import Invalid
from tallybook.kernel.event import EDGE_PREFIX
from tallybook.kernel.timestamps import format_us, parse_rfc3339

EDGE = "tallybook-edge"
SEQUENCE = "tallybook-sequence"
SENT_AT = "tallybook-sent-at"
AGENT = "tallybook-agent"
WAITING = "tallybook-waiting"
BATCH_NOTE = "tallybook-note"
"""On a broker: marks a message that tells of a batch and is no usage."""

NAME_CHARS_MAX = 128
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_SEQUENCE = re.compile(r"([0-9A-Za-z_-]{1,64}):([0-9]{1,18})(?:\.([0-9]{1,9}))?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_AGENT = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)
RESERVED = frozenset({"rules", "certificates"})
"""Names that addresses of the API have taken."""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What waits in a spool.

    Attributes:
        first: lowest number that waits; the next number where nothing does. All below it left.
        batches: that wait; so do events, and bytes as compressed.
        oldest_us: when the oldest was spooled, microseconds UTC; None where nothing waits.
    """

    first: int = 1
    batches: int = 0
    events: int = 0
    bytes: int = 0
    oldest_us: int | None = None


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """The note on one request.

    Attributes:
        edge: its name.
        incarnation: of its spool; None where there is no number to tell, as for a mere greeting.
        number: of the batch.
        part: counts pieces of a batch that was refused as a whole, from 1; 0 is the whole batch.
        agent: version.
        waiting: in the spool, this batch included.
    """

    edge: str
    incarnation: str | None = None
    number: int = 0
    part: int = 0
    agent: str = ""
    waiting: Waiting = Waiting()


class Note(msgspec.Struct, frozen=True):
    """A parcel's note with the time on the edge's clock when it was sent, None for none."""

    parcel: Parcel
    sent_us: int | None


def edge_name(text: str) -> str:
    """Return the text as the name of an edge.

    Raises:
        Invalid: it is not 1 to 128 of A-Z, a-z, 0-9, '.', '_', '-', starting with a letter or
            digit, or it is taken by an address of the API.
    """
    if not _NAME.fullmatch(text) or text in RESERVED:
        message = (
            f"'{text}' cannot name an edge: letters, digits, '.', '_' and '-', at most"
            f" {NAME_CHARS_MAX}, not {' or '.join(sorted(RESERVED))}"
        )
        raise Invalid(message, code="bad-edge-name", field="edge")
    return text


def nearest_name(text: str) -> str:
    """Return a name made of any text, as a machine's name may be anything."""
    kept = re.sub(r"[^A-Za-z0-9._-]", "-", text).lstrip("._-")[:NAME_CHARS_MAX]
    return kept if kept and kept not in RESERVED else f"edge-{kept}".rstrip("-")


def headers_of(parcel: Parcel, sent_us: int) -> dict[str, str]:
    """Return the headers that carry a note."""
    waiting = parcel.waiting
    told = [f"{n}={getattr(waiting, n)}" for n in ("first", "batches", "events", "bytes")]
    if waiting.oldest_us is not None:
        told.append(f"oldest={format_us(waiting.oldest_us)}")
    headers = {EDGE: parcel.edge, SENT_AT: format_us(sent_us), WAITING: " ".join(told)}
    if parcel.agent:
        headers[AGENT] = parcel.agent
    if parcel.incarnation is not None:
        part = f".{parcel.part}" if parcel.part else ""
        headers[SEQUENCE] = f"{parcel.incarnation}:{parcel.number}{part}"
    return headers


def note_of(headers: Mapping[str, str]) -> Note | None:
    """Return the note that headers carry (names in lower case); None where no edge is named.

    What is malformed is left out: a note never makes a request fail.
    """
    name = headers.get(EDGE, "")
    if not _NAME.fullmatch(name) or name in RESERVED:
        return None
    agent = headers.get(AGENT, "")
    incarnation, number, part = _sequence(headers.get(SEQUENCE, ""))
    parcel = Parcel(
        edge=name,
        incarnation=incarnation,
        number=number,
        part=part,
        agent=agent if _AGENT.fullmatch(agent) else "",
        waiting=_waiting(headers.get(WAITING, "")),
    )
    return Note(parcel, parse_rfc3339(headers.get(SENT_AT, "")))


def batch_note(parcel: Parcel) -> bytes:
    """Return the event that follows a batch to a broker, once all of the batch is there.

    It is a CloudEvent, so that whoever else reads the topic can leave it out by its type.
    """
    part = f".{parcel.part}" if parcel.part else ""
    event = {
        "specversion": "1.0",
        "type": f"{EDGE_PREFIX}sent",
        "source": f"edge:{parcel.edge}",
        "id": f"{parcel.incarnation}:{parcel.number}{part}",
    }
    return msgspec.json.encode(event)


def _sequence(text: str) -> tuple[str | None, int, int]:
    found = _SEQUENCE.fullmatch(text)
    if found is None or int(found[2]) < 1:
        return None, 0, 0
    return found[1], int(found[2]), int(found[3] or 0)


def _waiting(text: str) -> Waiting:
    told = dict(part.partition("=")[::2] for part in text.split()[:8])
    numbers = {
        name: int(told[name])
        for name in ("first", "batches", "events", "bytes")
        if _NUMBER.fullmatch(told.get(name, ""))
    }
    return Waiting(oldest_us=parse_rfc3339(told.get("oldest", "")), **numbers)
