"""People who sign in with a password: names, what a password must be, how guessing is slowed.

Source: NIST SP 800-63B, 5.1.1 and 5.2.2: length counts, composition rules do not, and attempts
that fail are throttled.
"""

import re

from tallybook.admit.tenant import FIRST
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import SECOND_US

PASSWORD_CHARS_MIN, PASSWORD_CHARS_MAX = 12, 256
FREE_FAILURES = 4
LOCK_SECONDS_MAX = 900
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,126}\Z")


def check_user_name(name: str) -> str:
    """Return a person's name; raises Invalid."""
    if _NAME.match(name) is None:
        message = "name must be 1 to 127 of a-z, 0-9 and ._@+-, starting with a letter or digit"
        raise Invalid(message, field="name")
    return name


def check_password(password: str, name: str) -> str:
    """Return a password that may be used; raises Invalid."""
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        message = f"a password has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters"
        raise Invalid(message, field="password")
    if len(set(password)) < FREE_FAILURES or name in password.lower():
        message = "this password is too easy to guess: it is one's name, or few characters repeated"
        raise Invalid(message, field="password")
    return password


def named(text: str) -> tuple[str, str]:
    """Return tenant and name of somebody who signs in as 'name' or 'tenant/name'."""
    tenant, slash, name = text.strip().partition("/")
    return (tenant, name) if slash else (FIRST, tenant)


def locked_until(failures: int, now_us: int) -> int:
    """Return before when no further password is looked at.

    Args:
        failures: wrong passwords since the last right one, this one included.
        now_us: the present instant.

    Returns:
        Now after the first few; then 1, 2, 4 … seconds later, at most a quarter of an hour.
    """
    over = failures - FREE_FAILURES
    if over <= 0:
        return now_us
    seconds: int = min(2 ** min(over - 1, 20), LOCK_SECONDS_MAX)
    return now_us + seconds * SECOND_US
