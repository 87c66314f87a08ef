"""TLS settings of the listener, read again when their files change; and its own renewal."""

import ssl
import threading
from pathlib import Path

import structlog

from tallybook.kernel.errors import Unavailable

LOOK_SECONDS = 2.0


class TlsFiles:
    """The listener's certificate, its key, and the authority of its clients.

    Args:
        cert: PEM; key likewise.
        client_ca: PEM of the authority whose certificates clients may show.
        required: whether a client without a certificate is refused in the handshake.

    Raises:
        Unavailable: a file cannot be read or used.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path, *, required: bool) -> None:
        """Read the files."""
        self._files = (cert, key, client_ca)
        self._required = required
        self._seen = self._times()
        self._context = self._made()

    def context(self) -> ssl.SSLContext:
        """Return the settings to use now."""
        return self._context

    def watch(self, ended: threading.Event) -> None:
        """Read the files again whenever they change, until the end."""
        log = structlog.get_logger("tls")
        while not ended.wait(LOOK_SECONDS):
            try:
                if self.refresh():
                    log.info("tls.reloaded")
            except Unavailable as error:
                log.warning("tls.not_reloaded", error=error.message)

    def refresh(self) -> bool:
        """Read the files again where they changed; raises Unavailable and keeps the old."""
        times = self._times()
        if times == self._seen:
            return False
        self._context = self._made()
        self._seen = times
        return True

    def _times(self) -> tuple[tuple[int, int], ...]:
        try:
            stats = [path.stat() for path in self._files]
        except OSError as error:
            message = f"{error.filename}: {error.strerror}; `tallybook ca init` makes it"
            raise Unavailable(message, code="no-authority") from error
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)

    def _made(self) -> ssl.SSLContext:
        cert, key, client_ca = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED if self._required else ssl.CERT_OPTIONAL
        try:
            context.load_cert_chain(cert, key)
            context.load_verify_locations(client_ca)
        except (OSError, ssl.SSLError) as error:
            message = f"the listener's certificate {cert} cannot be used: {error}"
            raise Unavailable(message) from error
        return context
