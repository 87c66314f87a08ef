"""What sending needs of the world: an outbox to take batches from."""

from typing import Protocol

from tallybook.collect.sending.parcel import Waiting
from tallybook.transport.ports import LogRow


class Outbox(Protocol):
    """Batches that wait to be sent, each under a number that never repeats within an incarnation.

    Raises, from every method:
        Unavailable: the disk refuses; nothing of the call has happened.
    """

    @property
    def epoch(self) -> str:
        """The incarnation: changes when the outbox is made anew."""
        ...

    def oldest(self, since_us: int | None = None) -> LogRow | None:
        """Return the batch that has waited longest, of all or of those spooled since an instant."""
        ...

    def drop(self, offset: int) -> None:
        """Forget one batch for good, on stable storage: it was acknowledged."""
        ...

    def waiting(self) -> Waiting:
        """Return what waits now. Cost: none that grows with what waits."""
        ...

    def raw(self, offset: int) -> bytes:
        """Return the bytes of a batch that the disk has damaged, as they are."""
        ...
