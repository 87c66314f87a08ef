"""What the agent asks of everything that it reads, and what it gives in return."""

from typing import Protocol

from tallybook.collect.ports import Intake
from tallybook.serve.agent.voice import Voice


class Surroundings(Protocol):
    """What a source may use while it reads.

    Attributes:
        intake: takes events together with the source's cursors, in one transaction.
        voice: says notes to the operator.
        dry: nothing is remembered or acknowledged; a look at what would come.
    """

    @property
    def intake(self) -> Intake:
        """Where events go."""
        ...

    @property
    def voice(self) -> Voice:
        """Says notes to the operator."""
        ...

    @property
    def dry(self) -> bool:
        """Whether nothing is remembered."""
        ...

    def may_go_on(self) -> bool:
        """Whether there is room in the spool, and no wish to end: asked between two steps."""
        ...

    def wake(self, source: "Source | None" = None) -> None:
        """Ask for a round before its time, of one source or all; from any thread."""
        ...


class Source(Protocol):
    """One thing that is read. Made from its table of the settings by `registry`."""

    @property
    def name(self) -> str:
        """What complaints, status and `edge check` call it; unlike any other's."""
        ...

    @property
    def told(self) -> object:
        """Its part of the settings; a source lives through a reload that leaves it equal."""
        ...

    @property
    def interval_seconds(self) -> float | None:
        """Between two readings; None is the agent's own interval."""
        ...

    def read(self, around: Surroundings) -> int:
        """Read what there is now and hand it over; return how many events.

        Called in the agent's one collecting thread. A step that may be long is cut where
        `may_go_on` says no; what was not read is read in the next round.

        Raises:
            TallybookError: told to the operator, and tried again in the next round.
        """
        ...

    def close(self) -> None:
        """Give back files and connections; called once."""
        ...
