"""Signing in with a name and a password: guesses are slowed by name and by address.

A browser in which somebody has signed in before is counted by itself, so that whoever guesses at a
name, or crowds behind the same proxy, does not keep its owner out.
"""

import threading
import time
from collections import OrderedDict

from tallybook.adapters.passwords.argon2id import fits, nobodys
from tallybook.admit.user import locked_until, named
from tallybook.compose import World
from tallybook.kernel.errors import Missing
from tallybook.serve.api.gate import PERSON, Gate, Grant

MINUTE_SECONDS = 60.0
ATTEMPTS_A_MINUTE_MAX = 20
OF_A_BROWSER_MAX = 5
ADDRESSES_MAX = 10_000


class Attempts:
    """Counts attempts by address, in this process, so that guessing many names is slow too.

    Args:
        most: of one address in a minute.
    """

    def __init__(self, most: int) -> None:
        """Nobody tried yet."""
        self._most = most
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def one_more(self, address: str) -> bool:
        """Count an attempt; return whether it may be made."""
        now = time.monotonic()
        with self._lock:
            began, count = self._seen.pop(address, (now, 0))
            if now - began > MINUTE_SECONDS:
                began, count = now, 0
            self._seen[address] = began, count + 1
            if len(self._seen) > ADDRESSES_MAX:
                self._seen.popitem(last=False)
        return count < self._most


ATTEMPTS = Attempts(ATTEMPTS_A_MINUTE_MAX)
BROWSERS = Attempts(OF_A_BROWSER_MAX)


def entered(
    world: World, gate: Gate, name: str, password: str, address: str, browser: str = ""
) -> Grant | None:
    """Return what somebody may do whose name and password are right, else None.

    Whether the name, the password or the moment is wrong is not told apart, and takes as long.

    Args:
        world: of the process.
        gate: knows people.
        name: 'NAME' or 'TENANT/NAME'.
        password: as typed.
        address: whence.
        browser: in which this person has signed in before; '' for any other.
    """
    if not (BROWSERS.one_more(browser) if browser else ATTEMPTS.one_more(address)):
        return None
    now_us, (tenant, own) = world.clock.now_us(), named(name)
    try:
        user = world.users.get(tenant, own)
    except Missing:
        fits(nobodys(), password)
        return None
    if user.ended_us is not None or (now_us < user.locked_until_us and not browser):
        fits(nobodys(), password)
        return None
    if not fits(user.password, password):
        world.users.failed(user, locked_until(user.failures + 1, now_us))
        return None
    world.users.entered(user, now_us)
    gate.refresh()
    return gate.by_id(f"{PERSON}{tenant}/{own}")
