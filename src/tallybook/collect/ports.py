"""What collecting needs of the world: a host to read, lines to follow, somewhere to send."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from tallybook.collect.following import Chunk, Followed
from tallybook.collect.host import HostSample
from tallybook.collect.sending.parcel import Parcel
from tallybook.kernel.errors import TallybookError


class HostReader(Protocol):
    """Reads what this host has used since it booted."""

    def read(self) -> HostSample:
        """Return every series at one instant."""
        ...


class LineSource(Protocol):
    """A file that grows and is rotated, under one name."""

    @property
    def name(self) -> str:
        """The name its position is kept under."""
        ...

    def read(self, followed: Followed, bytes_max: int) -> Chunk:
        """Return the next complete lines after what was followed, oldest file first.

        Guarantees:
            The same `followed` gives the same lines again, until the files change, so a position
            that was not kept costs a second reading and nothing else.

        Raises:
            Unavailable: the file cannot be read now.
        """
        ...


class Intake(Protocol):
    """Where every source hands over what it has read."""

    def cursor(self, name: str) -> str | None:
        """Return what was kept under a name: a position, baselines; None for nothing yet."""
        ...

    def take(
        self, pieces: Iterable[bytes], cursors: Mapping[str, str], *, repeats: bool = False
    ) -> int:
        """Keep events and cursors in one transaction; return how many events came.

        Args:
            pieces: events as wire JSON (`spool.encode_event`).
            cursors: what to keep beside them; an empty text forgets a name.
            repeats: the source may give the same event again under the same identity, as
                brokers and files that are delivered twice do. Such events are never aggregated
                here, because only the server knows what it has seen.

        Guarantees:
            On return both are on stable storage; on an exception neither is.
        """
        ...


class Packing(Protocol):
    """Compresses a batch into the bytes that one request carries."""

    def pack(self, pieces: Sequence[bytes]) -> bytes:
        """Return the body of a request with these events."""
        ...

    def unpack(self, payload: bytes) -> list[bytes]:
        """Return the events of a body; raises Corrupt."""
        ...


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one batch.

    Attributes:
        stored: accepted; duplicates are not known yet and are among them.
        quarantined: kept by the server with a problem.
        parked: refused by the server and kept at the edge.
    """

    stored: int = 0
    quarantined: int = 0
    parked: int = 0

    def __add__(self, other: "Receipt") -> "Receipt":
        """Return what became of both."""
        return Receipt(
            stored=self.stored + other.stored,
            quarantined=self.quarantined + other.quarantined,
            parked=self.parked + other.parked,
        )


class EventSender(Protocol):
    """Hands batches to the server."""

    def send(self, payload: bytes, events: int, parcel: Parcel | None = None) -> Receipt:
        """Send one packed batch; on return the server has it on stable storage.

        Args:
            payload: as `Packing` made it.
            events: in it.
            parcel: the note that goes with it; None for none.

        Raises:
            Refused: this batch, this key or this address will not do.
            Unavailable: not now, or the outcome is unknown; send the same bytes again.
        """
        ...


class Parking(Protocol):
    """Keeps what the server will not take, for a person to look at."""

    def park(self, piece: bytes, error: TallybookError) -> None:
        """Keep one event and the reason, on stable storage."""
        ...
