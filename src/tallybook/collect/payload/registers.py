"""Running totals of devices: a meter's register, a pulse counter. What counts is the growth.

| seen | believed |
|---|---|
| for the first time | 0; the value becomes the baseline |
| a time that is not after the newest | 0: it is counted already |
| another `restart` (boot number, start time, serial number) | the whole value: it began at 0 |
| higher or the same | the difference |
| lower, with `wraps_at`, and the way over the end is the shorter one | that way |
| lower, but not below half | 0; the higher value stays |
| below half, and nothing says why | 0; the lower value becomes the baseline, and it is reported |

The rules of `collect.counter`, for what comes over a wire: late, repeated, out of order.
"""

from collections.abc import Callable
from decimal import Decimal
from hashlib import blake2b
from typing import Literal

import msgspec

from tallybook.kernel.decimals import EXACT, parse_decimal
from tallybook.kernel.errors import Corrupt, Invalid
from tallybook.kernel.jsonpath import steps

REGISTERS_MAX = 100_000
Judgement = Literal["first", "repeated", "restart", "forward", "wrapped", "jitter", "fell"]
_ZERO = Decimal(0)


class Counter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a running total is judged.

    Attributes:
        restart: path of what changes when, and only when, the device begins at 0 again.
        wraps_at: the value at which it begins at 0 by itself, such as '100000000'.
    """

    restart: str | None = None
    wraps_at: str | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.restart is not None:
            steps(self.restart)
        end = self.end()
        if self.wraps_at is not None and (end is None or end <= 0):
            raise Invalid("wraps_at is a number in quotes, such as '100000000'", field="wraps_at")

    def end(self) -> Decimal | None:
        """Return where the register begins anew, None for nowhere."""
        return parse_decimal(self.wraps_at) if self.wraps_at is not None else None


class Register(msgspec.Struct, frozen=True, array_like=True):
    """Where a running total stands; kept beside the events that were measured from it.

    Attributes:
        value: the highest believed since the last restart.
        seen_us: time of the newest reading.
        restart: as read with it, '' where nobody says.
    """

    value: Decimal
    seen_us: int
    restart: str = ""


class Moved(msgspec.Struct, frozen=True):
    """What a reading adds, why, and where the register stands then."""

    growth: Decimal
    judgement: Judgement
    register: Register


def moved(known: Register | None, now: Register, end: Decimal | None = None) -> Moved:
    """Return what a reading adds.

    Args:
        known: None where the register was never seen.
        now: the reading; not negative.
        end: where it begins anew by itself; None for nowhere.
    """
    if known is None:
        return Moved(_ZERO, "first", now)
    if now.seen_us <= known.seen_us:
        return Moved(_ZERO, "repeated", known)
    if known.restart and now.restart and known.restart != now.restart:
        return Moved(now.value, "restart", now)
    if now.value >= known.value:
        return Moved(EXACT.subtract(now.value, known.value), "forward", now)
    if end is not None and known.value < end:
        over = EXACT.add(EXACT.subtract(end, known.value), now.value)
        if over * 2 <= end:
            return Moved(over, "wrapped", now)
    if now.value * 2 >= known.value:
        return Moved(_ZERO, "jitter", Register(known.value, now.seen_us, known.restart))
    return Moved(_ZERO, "fell", now)


class Registers:
    """The registers of one source while messages are read; `changed` is to be kept with them.

    Args:
        prefix: of the names under which they are kept.
        kept: returns what was kept under a name.
        known: how many there are.
    """

    def __init__(self, prefix: str, kept: Callable[[str], str | None], known: int = 0) -> None:
        """Nothing has changed yet."""
        self._prefix = prefix
        self._kept = kept
        self.known = known
        self.changed: dict[str, str] = {}

    def get(self, *names: str) -> Register | None:
        """Return where a register stands, None where it was never seen; raises Corrupt."""
        name = self._name(names)
        text = self.changed.get(name) or self._kept(name)
        try:
            return msgspec.json.decode(text, type=Register) if text else None
        except msgspec.MsgspecError as error:
            raise Corrupt(f"the spool keeps a register that cannot be read: {error}") from error

    def put(self, register: Register, *names: str) -> None:
        """Remember where a register stands now."""
        name = self._name(names)
        self.known += name not in self.changed and not self._kept(name)
        self.changed[name] = msgspec.json.encode(register).decode()

    def _name(self, names: tuple[str, ...]) -> str:
        digest = blake2b(msgspec.json.encode(names), digest_size=16).hexdigest()
        return f"{self._prefix}{digest}"
