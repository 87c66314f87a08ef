"""Looks at the folder itself: rights, room, lock, secrets, and the clock."""

import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from tallybook.serve.doctor.finding import Finding, error, good, note, warning
from tallybook.serve.supervisor import folder as folders
from tallybook.serve.supervisor.tree import answers

FREE_BYTES_WARN = 1 << 30
FREE_SHARE_WARN = 0.05
CLOCK_US_MAX = 60 * 1_000_000


def rights(data: Path) -> Iterator[Finding]:
    """Look whether the folder can be read and written."""
    if not data.exists():
        yield error("folder", f"{data} does not exist", "start `tallybook serve --data` on it once")
        return
    if not data.is_dir():
        yield error("folder", f"{data} is no folder", "choose a folder with --data")
        return
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        owner = data.stat().st_uid
        yield error(
            "folder",
            f"{data} (of user {owner}) cannot be read and written by this user, {os.getuid()}",
            f"run as its owner, or change it: chown -R {os.getuid()} {data}",
        )
        return
    yield good("folder", f"{data} can be read and written")


def room(data: Path) -> Iterator[Finding]:
    """Look at free space and inodes."""
    usage = shutil.disk_usage(data)
    free = f"{usage.free >> 20:,} MiB free of {usage.total >> 20:,}"
    stats = os.statvfs(data)
    if usage.free < folders.FREE_BYTES_MIN:
        advice = "free some space; the server refuses events until then and loses none"
        yield error("disk", f"the disk is full: {free}", advice)
    elif usage.free < FREE_BYTES_WARN or usage.free < usage.total * FREE_SHARE_WARN:
        yield warning("disk", f"little room: {free}", "free some space, or move the folder")
    else:
        yield good("disk", free)
    if stats.f_files and stats.f_favail < 1000:
        yield error("disk", f"only {stats.f_favail} inodes are left", "remove small files")


def server(data: Path) -> Iterator[Finding]:
    """Look at the lock, and whether its holder answers."""
    info = folders.read_info(data)
    locked = folders.is_locked(data)
    if not locked:
        stale = f"; {data / 'server.json'} is left from one that was killed" if info else ""
        yield note("server", f"no server runs on this folder{stale}")
        return
    if info is None:
        advice = "wait a moment and look again; else find who has it open: fuser -v "
        yield warning(
            "server",
            "the folder is locked, but no server tells of itself",
            advice + f"{data / 'lock'}",
        )
    elif answers(info.url):
        yield good("server", f"answers on {info.url}, process {info.pid}")
        yield from _restarts(info)
    else:
        yield error(
            "server",
            f"the folder is locked, but {info.url} (process {info.pid}) does not answer",
            "look at its messages; if it hangs, stop it: what was acknowledged is on disk",
        )


def _restarts(info: folders.ServerInfo) -> Iterator[Finding]:
    for child in info.children:
        if child.restarts:
            text = f"{child.kind} {child.index} was restarted {child.restarts} times"
            yield warning("server", text, "the server's messages say why it died")


def secrets(data: Path) -> Iterator[Finding]:
    """Look at the files that nobody else may read."""
    if not (data / "secret").exists():
        advice = "restore it from a backup: without it no API key is known any more"
        fresh = not (data / "control.db").exists()
        yield note("keys", "fresh folder") if fresh else error("keys", "secret is missing", advice)
        return
    found = False
    for name in ("secret", "first-key", "server.json"):
        path = data / name
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
        if mode & 0o077:
            found = True
            yield error("keys", f"{path} may be read by others ({mode:04o})", f"chmod 600 {path}")
    if not found:
        yield good("keys", "secret files are readable by their owner only")
    if (data / "first-key").exists():
        advice = "make keys of smaller scope with POST /api/v1/keys; then delete the file"
        yield note("keys", "the first admin key still lies in the folder", advice)


def clock(newest_us: int | None) -> Finding:
    """Compare this machine's clock with the newest stored receipt time."""
    now = time.time_ns() // 1000
    if newest_us is not None and newest_us > now + CLOCK_US_MAX:
        behind = (newest_us - now) // 1_000_000
        return error(
            "clock",
            f"the clock is {behind:,} s behind the newest event received here: it jumped back",
            "set the clock (timedatectl); events keep their own times and are counted once anyway",
        )
    return good("clock", "not behind anything stored")
