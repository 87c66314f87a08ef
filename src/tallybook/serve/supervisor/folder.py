"""The data folder: made, checked and locked, before anything else runs.

The lock is a `flock` whose descriptor every child inherits, so it is held until the last child
is gone and a second server can never write beside the remains of a first (DECISIONS 1).
"""

import errno
import fcntl
import os
import secrets
import shutil
from pathlib import Path

import msgspec

from tallybook.kernel.errors import Conflict, TallybookError, Unavailable

FREE_BYTES_MIN = 64 * 1024 * 1024
KEY_PREFIX = "tb_"
KEY_CHARS_MIN = 16


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the tree as `server.json` shows it."""

    kind: str
    index: int
    pid: int
    restarts: int = 0


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What `server.json` tells about the server of a folder.

    Attributes:
        url: base address.
        pid: the supervisor's process id.
        version: of the package.
        started_us: microseconds UTC.
        children: the processes below the supervisor.
        tls_url: address for edges with certificates, null for none.
    """

    url: str
    pid: int
    version: str
    started_us: int
    children: list[Child] = []
    tls_url: str | None = None


def prepare(folder: Path) -> None:
    """Make the folder where it is absent, and check that it can be used.

    Raises:
        Unavailable: it cannot be made, read or written, or its disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for sub in ("log", "lake", "documents"):
            (folder / sub).mkdir(exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        with probe.open("wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise _unusable(folder, error) from error
    if free < FREE_BYTES_MIN:
        message = (
            f"only {free >> 20} MiB are free under {folder}; free at least 64 MiB and start again"
        )
        raise Unavailable(message, code="disk-full")


def _unusable(folder: Path, error: OSError) -> TallybookError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        message = f"the disk of {folder} is full; free some space and start again"
        return Unavailable(message, code="disk-full")
    message = (
        f"the data folder {folder} cannot be used: {error.strerror or error};"
        " check that it is a folder this user may read and write"
    )
    return Unavailable(message, code="folder-unusable")


def lock(folder: Path) -> int:
    """Lock the folder for this process and every child that inherits the descriptor.

    Returns:
        The descriptor; it must stay open.

    Raises:
        Conflict: another server holds it; its address is named.
    """
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Conflict(_already(folder), code="folder-locked") from error
    return descriptor


def _already(folder: Path) -> str:
    info = read_info(folder)
    who = f" (process {info.pid}, {info.url})" if info else ""
    return (
        f"another server already works on {folder}{who};"
        " stop it first, or choose another folder with --data"
    )


def is_locked(folder: Path) -> bool:
    """Whether a server, or what is left of one, holds the folder."""
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True  # the question itself; nothing failed
    finally:
        os.close(descriptor)
    return False


def first_key(folder: Path, wanted: str | None) -> str | None:
    """On a fresh folder, make the server's secret and the first admin key.

    Args:
        folder: the data folder, locked.
        wanted: the key to use instead of a random one (`TALLYBOOK_FIRST_KEY`).

    Returns:
        The key to print once; None where the folder is not fresh.

    Guarantees: both files are 0600. The secret is written last, so a crash in between starts
    again with a fresh folder. The key reaches the control database when a process opens it.
    """
    if (folder / "secret").exists():
        return None
    key = wanted or KEY_PREFIX + secrets.token_urlsafe(32)
    fit = key.isascii() and key.isprintable() and " " not in key
    if not fit or not key.startswith(KEY_PREFIX) or len(key) < KEY_CHARS_MIN:
        message = f"TALLYBOOK_FIRST_KEY must be tb_… with at least {KEY_CHARS_MIN} characters"
        raise Conflict(message, code="bad-key")
    try:
        write_private(folder / "first-key", key.encode() + b"\n")
        write_private(folder / "secret", secrets.token_hex(32).encode())
    except OSError as error:
        raise _unusable(folder, error) from error
    return key


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step; only its owner may read it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def write_info(folder: Path, info: ServerInfo) -> None:
    """Tell commands and status pages which server runs on the folder."""
    try:
        write_private(folder / "server.json", msgspec.json.encode(info))
    except OSError as error:
        raise _unusable(folder, error) from error


def read_info(folder: Path) -> ServerInfo | None:
    """Return what the last server of the folder told, None where there was none."""
    try:
        return msgspec.json.decode((folder / "server.json").read_bytes(), type=ServerInfo)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(folder, error) from error
    except msgspec.MsgspecError:
        return None  # half of a file of another version; it is only advice
