"""Connections of one attempt: to addresses that were checked, all of it within one deadline.

The address that was checked is the one that is connected to: a name that answers differently the
second time gains nothing, because it is asked once. TLS still verifies the name.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate

import httpcore2

from tallybook.adapters.webhook.guard import is_public

WRITE_BYTES = 16 * 1024
LOOKUPS_MAX = 256
"""Names that are asked for at once; a name server that hangs holds one of these for each of its
names, however often it is asked."""


class Refused(httpcore2.ConnectError):
    """The name leads to no address that may be reached."""


class Lookups:
    """Asks for names beside the attempts, so that a name server that hangs ends no deadline.

    Each name is asked for in a thread of its own, which ends no sooner than the system's resolver
    gives up, and never keeps the process from ending. Who asks for a name that is being asked for
    waits for the same answer, so that nobody's name waits behind another.
    """

    def __init__(self) -> None:
        """Start no thread yet."""
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, int], Future[list[str]]] = {}

    def addresses(self, host: str, port: int, seconds: float) -> list[str]:
        """Return the addresses of a name in the order of the system's preference.

        Raises:
            ConnectTimeout: no answer in time, or too many names are being asked for.
            ConnectError: there is no such name.
        """
        try:
            return self._ask(host, port).result(seconds)
        except TooLate as error:
            raise httpcore2.ConnectTimeout(f"the name {host} was not found in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"the name {host} has no address") from error

    def _ask(self, host: str, port: int) -> "Future[list[str]]":
        with self._lock:
            asked = self._asked.get((host, port))
            if asked is not None:
                return asked
            if len(self._asked) >= LOOKUPS_MAX:
                raise httpcore2.ConnectTimeout(f"the name {host} cannot be looked up now")
            asked = self._asked[host, port] = Future()
        look_up = threading.Thread(
            target=self._look_up, args=(host, port, asked), name="lookup", daemon=True
        )
        try:
            look_up.start()
        except RuntimeError as error:  # the machine has no thread left
            self._forget(host, port)
            raise httpcore2.ConnectTimeout(f"the name {host} cannot be looked up now") from error
        return asked

    def _look_up(self, host: str, port: int, asked: "Future[list[str]]") -> None:
        try:
            found = _addresses(host, port)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            self._forget(host, port)
            asked.set_exception(error)
        else:
            self._forget(host, port)
            asked.set_result(found)

    def _forget(self, host: str, port: int) -> None:
        """Let the next one who asks have an answer of its own."""
        with self._lock:
            del self._asked[host, port]


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[4][0]) for place in found))


class Deadline:
    """An end that everything of one attempt shares."""

    def __init__(self, seconds: float) -> None:
        """Begin now."""
        self._end = time.monotonic() + seconds

    def left(self, most: float | None = None) -> float:
        """Return the seconds that are left, at most `most`; above zero, for a socket's timeout."""
        left = self._end - time.monotonic()
        return max(0.001, left if most is None else min(left, most))

    def shorten(self, seconds: float) -> None:
        """Let it come in so many seconds, where it would come later."""
        self._end = min(self._end, time.monotonic() + seconds)

    @property
    def over(self) -> bool:
        """Whether it has come."""
        return time.monotonic() >= self._end


class GuardedNetwork(httpcore2.NetworkBackend):
    """Connects to public addresses, within a deadline.

    Args:
        lookups: asks for names.
        deadline: of the attempt.
        allow_private: whether every address may be reached.
    """

    def __init__(self, lookups: Lookups, deadline: Deadline, *, allow_private: bool) -> None:
        """Connect to nothing yet."""
        self._lookups = lookups
        self._deadline = deadline
        self._allow_private = allow_private
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address of a name that may be reached and answers."""
        within = Deadline(self._deadline.left(timeout))
        found = self._lookups.addresses(host, port, within.left())
        allowed = [one for one in found if self._allow_private or is_public(one)]
        if not allowed:
            raise Refused(f"{host} is not a public address; webhooks.allow_private would allow it")
        for place, address in enumerate(allowed, 1):
            seconds = within.left() / (len(allowed) - place + 1)
            try:
                stream = self._plain.connect_tcp(
                    address, port, seconds, local_address, socket_options
                )
                return _Bounded(stream, self._deadline)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if place == len(allowed):
                    raise
        raise AssertionError("one of the addresses was the last")


class _Bounded(httpcore2.NetworkStream):
    """A stream, none of whose waits goes beyond the deadline."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._deadline.over:
            raise httpcore2.ReadTimeout("the attempt's time is over")
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for at in range(0, len(buffer), WRITE_BYTES):
            if self._deadline.over:
                raise httpcore2.WriteTimeout("the attempt's time is over")
            self._stream.write(buffer[at : at + WRITE_BYTES], self._deadline.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        seconds = self._deadline.left(timeout)
        return _Bounded(
            self._stream.start_tls(ssl_context, server_hostname, seconds), self._deadline
        )

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
