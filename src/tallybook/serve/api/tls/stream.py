"""One TLS connection over a plain one, which tells a refused client why before it hangs up.

asyncio's own TLS drops the connection when a handshake fails, and with it the alert that says that
the certificate has expired. An edge's operator reads that alert in the agent's log; so here the
bytes between the TLS library and the socket are moved by hand.
"""

import asyncio
import ssl
from contextlib import suppress

_CHUNK_BYTES = 256 * 1024
_LAST_SECONDS = 2.0


class TlsStream:
    """Reads and writes through TLS.

    Args:
        reader: of the plain connection; writer likewise.
        context: certificate, authority, and whether clients must show one.

    Attributes:
        tls: the library's object; has the client's certificate after the handshake.
        sockname: own address and port.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext
    ) -> None:
        """Nothing is said yet."""
        self._reader = reader
        self._writer = writer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=True)
        self.sockname = writer.get_extra_info("sockname")[:2]

    async def handshake(self) -> None:
        """Agree with the client; raises ssl.SSLError where its certificate will not do."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._feed()
            else:
                return
            finally:
                self._flush()

    async def read(self, size: int) -> bytes:
        """Return what the client sent, b'' at its end."""
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                self._flush()
                await self._feed()
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return b""
            finally:
                self._flush()

    def write(self, data: bytes) -> None:
        """Hand bytes over; `drain` waits until they are on their way."""
        self.tls.write(data)
        self._flush()

    async def drain(self) -> None:
        """Wait while the connection is slower than we are."""
        await self._writer.drain()

    async def close(self) -> None:
        """Say goodbye, and hang up once the client has heard it."""
        with suppress(ssl.SSLError, OSError, TimeoutError):
            with suppress(ssl.SSLError):  # the client has not said its goodbye, or never agreed
                self.tls.unwrap()
            self._flush()
            self._writer.write_eof()
            async with asyncio.timeout(_LAST_SECONDS):
                while await self._reader.read(_CHUNK_BYTES):
                    pass  # hanging up with unread bytes would overtake what was said last
        self._writer.close()

    async def _feed(self) -> None:
        self._flush()
        await self._writer.drain()
        data = await self._reader.read(_CHUNK_BYTES)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def _flush(self) -> None:
        data = self._out.read()
        if data and not self._writer.is_closing():
            self._writer.write(data)
