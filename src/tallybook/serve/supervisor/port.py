"""The port: checked before any child starts, and reserved while the tree lives.

API processes listen on one port with SO_REUSEPORT, which would also let a stranger join in
silently (DECISIONS 1); so the supervisor first binds the port without it.
"""

import socket

from tallybook.kernel.errors import Unavailable


def reserve(host: str, port: int) -> socket.socket:
    """Bind a port that nobody else uses and keep it for the children.

    Args:
        host: IPv4 or IPv6 address, or a name.
        port: 0 takes a free one.

    Returns:
        A bound socket that never listens; keep it open while children run.

    Raises:
        Unavailable: the address is taken or not of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with _bound(family, host, port, shared=False) as probe:
            port = probe.getsockname()[1]
        return _bound(family, host, port, shared=True)
    except OSError as error:
        message = (
            f"port {port} of {host} cannot be used: {error.strerror or error};"
            " stop what listens there, or choose another with --port"
        )
        raise Unavailable(message, code="port-taken") from error


def _bound(family: socket.AddressFamily, host: str, port: int, *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def url(host: str, port: int) -> str:
    """Return the address to reach a server that listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    shown = f"[{reachable}]" if ":" in reachable else reachable
    return f"http://{shown}:{port}"
