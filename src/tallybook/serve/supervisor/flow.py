"""Start a server on a folder: folder, lock, port, first key, children; and stop it in order."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from tallybook.serve.supervisor import folder, port
from tallybook.serve.supervisor.schema import bring_up
from tallybook.serve.supervisor.tree import Say, Tree
from tallybook.settings import Settings


class Opened(msgspec.Struct, frozen=True):
    """A server whose children are started.

    Attributes:
        tree: its processes.
        first_key: the admin key, where the folder was fresh; print it once.
    """

    tree: Tree
    first_key: str | None


@contextmanager
def opened(
    settings: Settings, say: Say, *, key: str | None = None, log: IO[bytes] | None = None
) -> Iterator[Opened]:
    """Start the process tree; stopped in order at the end of the block.

    Args:
        settings: port 0 takes a free one.
        say: prints a line for people.
        key: first admin key instead of a random one, used on a fresh folder only.
        log: where children write; None is standard error.

    Raises:
        Conflict: another server holds the folder; or the schema is of another version.
        Unavailable: folder or port cannot be used; nothing was started.
    """
    folder.prepare(settings.data_dir)
    lock_fd = folder.lock(settings.data_dir)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, lock_fd)
        reserved = stack.enter_context(port.reserve(settings.server.host, settings.server.port))
        number = reserved.getsockname()[1]
        server = msgspec.structs.replace(settings.server, port=number)
        tls = settings.tls
        if tls.port is not None:
            host = tls.host or server.host
            held = stack.enter_context(port.reserve(host, tls.port))
            tls = msgspec.structs.replace(tls, host=host, port=held.getsockname()[1])
        settings = msgspec.structs.replace(
            settings, server=server, tls=tls, data_dir=settings.data_dir.resolve()
        )
        bring_up(settings, say)
        made = folder.first_key(settings.data_dir, key)
        tree = Tree(settings, lock_fd, port.url(server.host, number), say, log)
        stack.callback(_forget, settings.data_dir)
        stack.callback(tree.stop)
        tree.start()
        yield Opened(tree, made)


def _forget(data_dir: Path) -> None:
    (data_dir / "server.json").unlink(missing_ok=True)
