"""Listens for lines over UDP, TCP and unix sockets, in one thread.

A connection that sends a line without an end, longer than `LINE_BYTES_MAX`, is closed. Where
nobody takes what came, datagrams wait in the kernel's buffer and connections are not read.
"""

import contextlib
import os
import selectors
import socket
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock, Thread

from tallybook.kernel.errors import Invalid, Unavailable

LINE_BYTES_MAX = 64 * 1024
CONNECTIONS_MAX = 1000
_BLOCK_BYTES = 64 * 1024
_LOOK_SECONDS = 0.2
_REST_SECONDS = 0.05
_BUFFER_BYTES = 4 * 1024 * 1024


class LineListener:
    """Sockets at addresses such as `udp://127.0.0.1:8125`, `tcp://…` and `unix:///run/statsd.sock`.

    Args:
        addresses: where to listen; a unix socket takes datagrams, `unix+stream://` connections.
        take: gets whole lines and the transport (`udp`, `tcp`, `unix`); called under `lock`.

    Attributes:
        lock: hold it to read what `take` has kept.

    Raises:
        Invalid: no such address.
        Unavailable: it is in use.
    """

    def __init__(self, addresses: Sequence[str], take: Callable[[bytes, str], None]) -> None:
        """Open the sockets and begin."""
        self.lock = Lock()
        self._take = take
        self._selector = selectors.DefaultSelector()
        self._partial: dict[socket.socket, bytes] = {}
        self._paths: list[Path] = []
        self._ended = False
        try:
            for address in addresses:
                self._open(address)
        except OSError as error:
            self._close_all()
            raise Unavailable(f"cannot listen: {error}") from error
        except Invalid:
            self._close_all()
            raise
        self.problem: str | None = None
        self._thread = Thread(target=self._run_all, name="lines", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise Unavailable where nobody listens any more."""
        if self.problem is not None:
            raise Unavailable(f"listening has ended: {self.problem}")

    def close(self) -> None:
        """Stop listening, after what has arrived is taken."""
        self._ended = True
        self._thread.join()
        self._close_all()

    def _open(self, address: str) -> None:
        scheme, colon, place = address.partition("://")
        if not colon or scheme not in {"udp", "tcp", "unix", "unix+stream"}:
            raise Invalid(f"'{address}' is no address such as udp://127.0.0.1:8125", field="listen")
        stream = scheme in {"tcp", "unix+stream"}
        kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
        if scheme.startswith("unix"):
            made = socket.socket(socket.AF_UNIX, kind)
            path = Path(place)
            _remove_stale(path)
            made.bind(place)
            self._paths.append(path)
        else:
            host, port = _split(place, address)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            made = socket.socket(family, kind)
            if stream:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((host, port))
        made.setblocking(False)
        transport = "unix" if scheme.startswith("unix") else scheme
        if stream:
            made.listen()
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._selector.register(made, selectors.EVENT_READ, (transport, stream))

    def _run_all(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - told by `check`, to whoever reads next
            self.problem = f"{type(error).__name__}: {error}"

    def _run(self) -> None:
        while True:
            ended = self._ended
            ready = self._selector.select(0 if ended else _LOOK_SECONDS)
            for key, _ in ready:
                made = key.fileobj
                assert isinstance(made, socket.socket), "only sockets are registered"
                transport, listens = key.data
                with contextlib.suppress(BlockingIOError, InterruptedError):
                    if listens:
                        self._accept(made, transport)
                    elif made in self._partial:
                        self._stream(made, transport)
                    else:
                        self._datagrams(made, transport)
            if ended and not ready:
                return

    def _accept(self, made: socket.socket, transport: str) -> None:
        try:
            connection, _ = made.accept()
        except BlockingIOError:
            return
        except OSError:  # gone again, or no descriptor is left: the others go on meanwhile
            time.sleep(_REST_SECONDS)
            return
        if len(self._partial) >= CONNECTIONS_MAX or self._ended:
            connection.close()
            return
        connection.setblocking(False)
        self._partial[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ, (transport, False))

    def _stream(self, made: socket.socket, transport: str) -> None:
        try:
            block = made.recv(_BLOCK_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # reset, timed out, unreachable: what came before counts
            block = b""
        whole, _, rest = (self._partial[made] + block).rpartition(b"\n")
        if whole:
            self._hand(whole, transport)
        if not block:
            if rest:
                self._hand(rest, transport)
            self._drop(made)
        elif len(rest) > LINE_BYTES_MAX:
            self._hand(rest[:LINE_BYTES_MAX], transport)
            self._drop(made)
        else:
            self._partial[made] = rest

    def _datagrams(self, made: socket.socket, transport: str) -> None:
        while True:
            self._hand(made.recv(_BLOCK_BYTES), transport)

    def _hand(self, data: bytes, transport: str) -> None:
        with self.lock:
            self._take(data, transport)

    def _drop(self, made: socket.socket) -> None:
        self._selector.unregister(made)
        del self._partial[made]
        made.close()

    def _close_all(self) -> None:
        for key in list(self._selector.get_map().values()):
            made = key.fileobj
            assert isinstance(made, socket.socket), "only sockets are registered"
            made.close()
        self._selector.close()
        for path in self._paths:
            path.unlink(missing_ok=True)


def _split(place: str, address: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise Invalid(f"'{address}' has no port", field="listen")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _remove_stale(path: Path) -> None:
    """Remove a socket that a killed process has left; anything else stays, and fails the bind."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - a socket, not a file
            path.unlink()
