"""Whether waiting for more company pays: tried, and left for longer each time it was in vain.

Requests that come on their own, each at its time, share what storing costs only where somebody
waits for them. Clients that wait for their answer before they send more hardly ever come while they
are waited for. Which of them is there is found out by trying: nobody has to say.
"""

PASSES_MAX = 256
"""Most passes without a try."""


class Company:
    """What waiting brought lately."""

    def __init__(self) -> None:
        """Nothing is known: try."""
        self._alone = 0
        self._rest = 0

    @property
    def likely(self) -> bool:
        """Whether to wait for more."""
        return self._rest == 0

    def not_awaited(self) -> None:
        """Note a pass for which nobody waited."""
        self._rest = max(0, self._rest - 1)

    def awaited(self, *, came: bool) -> None:
        """Note a pass for which somebody waited.

        Args:
            came: whether anybody came in that time.
        """
        self._alone = 0 if came else min(PASSES_MAX, 2 * self._alone or 1)
        self._rest = self._alone
