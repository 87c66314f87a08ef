"""Hashes that cost memory and time to guess: argon2id with the library's parameters of RFC 9106."""

import threading
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

AT_ONCE_MAX = 2
"""More passwords than this are not looked at at once: each takes 64 MiB."""

_hasher = PasswordHasher()
_turns = threading.BoundedSemaphore(AT_ONCE_MAX)


def hashed(password: str) -> str:
    """Return what is stored of a password; the salt and the parameters are in it."""
    with _turns:
        return _hasher.hash(password)


def fits(stored: str, password: str) -> bool:
    """Whether a password is the one whose hash is stored."""
    with _turns:
        try:
            return _hasher.verify(stored, password)
        except (Argon2Error, InvalidHashError):
            return False


@cache
def nobodys() -> str:
    """Return a hash that no password fits: looking at it takes as long as at somebody's."""
    return _hasher.hash("nobody has this password, and nobody is let in by it")
