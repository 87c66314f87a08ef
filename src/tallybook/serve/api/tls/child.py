"""The TLS process: what an API process answers, for clients that show a certificate."""

import asyncio
import socket
import threading
from collections.abc import Callable

import structlog

from tallybook.adapters.sql.edge.certificates import Certificate
from tallybook.adapters.x509.authority import CA_CERT, SERVER_CERT, SERVER_DAYS, SERVER_KEY
from tallybook.compose import TENANT, World
from tallybook.kernel.errors import TallybookError
from tallybook.kernel.timestamps import SECOND_US
from tallybook.serve.api.child import BACKLOG, composed
from tallybook.serve.api.fleet.issuing import SERVER, issue_server
from tallybook.serve.api.tls.certified import Certified, Revocations
from tallybook.serve.api.tls.context import TlsFiles
from tallybook.serve.api.tls.wire import TlsWire
from tallybook.serve.supervisor.child import on_stop
from tallybook.settings import Settings

RENEW_LOOK_SECONDS = 60.0
AFTER_BUG_SECONDS = 5.0
LAST_SECONDS = 5.0
RENEW_LEFT = 3
"""The listener's own certificate is renewed when less than a third of its time is left."""


def run_tls(settings: Settings) -> int:
    """Serve until asked to stop; then finish what was begun."""
    with composed(settings) as made:
        files = tls_files(settings)
        revoked = Revocations(lambda: revoked_serials(made.world))
        ended = threading.Event()
        watching = (files.watch, revoked.watch, lambda end: keep_renewed(made.world, end))
        threads = [_watching(watch, ended) for watch in watching]
        wire = TlsWire(Certified(made.app, made.gate, revoked), files.context)
        try:
            asyncio.run(_serve(settings, wire))
        finally:
            ended.set()
            for thread in threads:  # they use what is closed next
                thread.join(LAST_SECONDS)
    return 0


def _watching(watch: Callable[[threading.Event], None], ended: threading.Event) -> threading.Thread:
    """Return a thread that watches until the end, and goes on after a bug."""

    def run() -> None:
        while not ended.is_set():
            try:
                watch(ended)
            except Exception:  # noqa: BLE001 - without this watch the door would freeze as it is
                structlog.get_logger("tls").exception("tls.bug")
                ended.wait(AFTER_BUG_SECONDS)

    thread = threading.Thread(target=run, name="tls-watch", daemon=True)
    thread.start()
    return thread


def tls_files(settings: Settings) -> TlsFiles:
    """Return the listener's files: those that are set, else the authority's.

    Raises:
        Unavailable: one cannot be used.
    """
    tls, folder = settings.tls, settings.ca_dir
    return TlsFiles(
        tls.cert or folder / SERVER_CERT,
        tls.key or folder / SERVER_KEY,
        tls.client_ca or folder / CA_CERT,
        required=tls.required,
    )


def revoked_serials(world: World) -> frozenset[str]:
    """Return the serial numbers that open no door any more."""
    return frozenset(one.serial for one in world.certificates.revoked(world.clock.now_us()))


def keep_renewed(world: World, ended: threading.Event) -> None:
    """Renew the listener's own certificate in time, until the end."""
    while True:
        try:
            renew_own(world)
        except TallybookError as error:
            log = structlog.get_logger("tls")
            log.warning("tls.not_renewed", code=error.code, error=error.message)
        if ended.wait(RENEW_LOOK_SECONDS):
            return


def renew_own(world: World) -> bool:
    """Renew the certificate that this server's authority gave it, where its time has come."""
    if world.settings.tls.cert is not None:
        return False
    own = next((one for one in world.certificates.listed(TENANT) if one.kind == SERVER), None)
    if own is None or not _due(own, world.clock.now_us()):
        return False
    days = max(1, round((own.expires_us - own.issued_us) / (86_400 * SECOND_US)))
    issue_server(world, TENANT, own.name.split(), min(days, SERVER_DAYS))
    structlog.get_logger("tls").info("tls.renewed", hosts=own.name)
    return True


def _due(own: Certificate, now_us: int) -> bool:
    return (own.expires_us - now_us) * RENEW_LEFT < own.expires_us - own.issued_us


async def _serve(settings: Settings, wire: TlsWire) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def end() -> None:
        loop.call_soon_threadsafe(stop.set)

    on_stop(end)
    with listening(settings.tls.host or settings.server.host, settings.tls.port or 0) as listener:
        await wire.serve(listener, stop)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens beside the supervisor's reservation."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, port))
    made.listen(BACKLOG)
    made.setblocking(False)
    return made
