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
        with _bound(family, host, port, socket.SO_REUSEADDR) as probe:
            port = probe.getsockname()[1]
        return _held(family, host, port)
    except OSError as error:
        message = (
            f"port {port} of {host} cannot be used: {error.strerror or error};"
            " stop what listens there, or choose another with --port"
        )
        raise Unavailable(message, code="port-taken") from error


def _held(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    """Bind for the children to join; without SO_REUSEADDR, so that another probe sees it."""
    try:
        return _bound(family, host, port, socket.SO_REUSEPORT)
    except OSError:  # old connections of another program linger on the port
        return _bound(family, host, port, socket.SO_REUSEPORT, socket.SO_REUSEADDR)


def _bound(family: socket.AddressFamily, host: str, port: int, *options: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            made.setsockopt(socket.SOL_SOCKET, option, 1)
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
