"""Exceptions: a command that cannot be done. Data that is wrong is a `Problem` value instead.

::

    TallybookError            code: stable kebab-case word; message for people
    ├── Refused               the caller must change something; never retried
    │   ├── Invalid           malformed or out of range; names the field
    │   ├── Missing           no such thing
    │   ├── Conflict          version, idempotency key reused, state forbids
    │   └── Forbidden         known caller, not allowed
    ├── Unavailable           the outside world; may be retried
    │   ├── Timeout
    │   └── Throttled
    └── Corrupt               stored data contradicts itself; stop and page

HTTP status, exit code and log level are looked up in `serve/` only.
"""


class TallybookError(Exception):
    """Root of every exception this package raises on purpose."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        """Keep the message for people, the stable code for machines and the field at fault."""
        super().__init__(message)
        self.message = message
        self.field = field
        if code is not None:
            self.code = code


class Refused(TallybookError):
    """The caller must change something; the same call will be refused again."""

    code = "refused"


class Invalid(Refused):
    """Input is malformed or out of range."""

    code = "invalid"


class Missing(Refused):
    """There is no such thing."""

    code = "not-found"


class Conflict(Refused):
    """The present state forbids it."""

    code = "conflict"


class Forbidden(Refused):
    """The caller is known but not allowed, or not known at all."""

    code = "forbidden"


class Unavailable(TallybookError):
    """Something outside failed; the same call may succeed later."""

    code = "unavailable"

    def __init__(
        self, message: str, *, code: str | None = None, retry_after_seconds: int | None = None
    ) -> None:
        """Carry how long to wait, when that is known."""
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds


class Timeout(Unavailable):
    """No answer in time; the outcome is unknown, so retry with the same identity."""

    code = "timeout"


class Throttled(Unavailable):
    """Too much at once."""

    code = "throttled"


class Corrupt(TallybookError):
    """Stored data contradicts itself; nothing may be guessed from it."""

    code = "corrupt"
