"""Deliveries of a persistent session, numbered, so that one repeated has the number it had.

A broker that has not seen our acknowledgement sends a message again, marked as a duplicate and
under the same packet identifier. The last identifiers are kept, with a digest of what they
carried, in the same transaction as the events; a duplicate of one of them has its number.

Source: MQTT 5.0, 4.4 (message delivery retry); 3.3.1.1 (DUP).
"""

from hashlib import blake2b

import msgspec

from tallybook.kernel.event import EDGE_PREFIX, UsageEvent
from tallybook.kernel.timestamps import format_us

KEPT_MAX = 400
"""More than a broker may have in flight to us (`RECEIVE_MAX`), twice over."""
RECEIVE_MAX = 200


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a session.

    Attributes:
        epoch: made once; tells two states of one client name apart.
        counted: deliveries so far.
        recent: (packet identifier, digest, number), oldest first.
    """

    epoch: str
    counted: int = 0
    recent: tuple[tuple[int, str, int], ...] = ()


class Delivery(msgspec.Struct, frozen=True):
    """A delivery's name, whether it is a repetition, and the session after it."""

    name: str
    repeated: bool
    session: Session


def delivered(
    session: Session, packet: int, topic: str, payload: bytes, *, duplicate: bool
) -> Delivery:
    """Return what a delivery is called.

    Args:
        session: before it.
        packet: its packet identifier, 0 for QoS 0.
        topic: its topic.
        payload: its bytes.
        duplicate: the broker marked it as delivered again.
    """
    digest = blake2b(topic.encode() + b"\0" + payload, digest_size=8).hexdigest()
    if duplicate and packet:
        for known, said, number in reversed(session.recent):
            if known == packet and said == digest:
                return Delivery(f"{session.epoch}-{number}", repeated=True, session=session)
    number = session.counted + 1
    recent = (*session.recent, (packet, digest, number))[-KEPT_MAX:] if packet else session.recent
    after = Session(epoch=session.epoch, counted=number, recent=recent)
    return Delivery(f"{session.epoch}-{number}", repeated=False, session=after)


def session_gap(session: Session, source: str, now_us: int) -> UsageEvent:
    """Return the report that a broker has lost what came while nobody was connected."""
    said = {"reason": "session-lost", "until": format_us(now_us)}
    return UsageEvent(
        id=f"{session.epoch}-gap-{now_us}",
        source=source,
        type=f"{EDGE_PREFIX}gap",
        time=format_us(now_us),
        data=msgspec.Raw(msgspec.json.encode(said)),
    )
