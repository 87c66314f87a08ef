"""How far the audit logs are, kept beside the database: a file of the data folder.

Whoever may write to the control database alone can cut the end of a log off and put an older end in
its place, which was sealed once, or take the whole log away. The file knows better. It only goes
onward, and only where the log still holds the row that it names.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from sqlalchemy import Engine, func, select

from tallybook.adapters.sql.access.audit import HEAD, LOG
from tallybook.adapters.sql.database import read
from tallybook.admit.trail import Anchor
from tallybook.kernel.errors import Corrupt, Unavailable

FILE = "audit-anchors.json"


class Anchors:
    """How far the log of each tenant is known to be.

    Args:
        engine: of the control database.
        folder: holds the file, which all processes of a server share.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        """Read nothing yet."""
        self._engine = engine
        self._path = folder / FILE
        self._seen: tuple[object, ...] = ()

    def of(self, tenant: str) -> Anchor | None:
        """Return how far a log is known to be, None where nothing is; raises Corrupt."""
        return self._read().get(tenant)

    def follow(self) -> list[str]:
        """Go onward with the logs; return the tenants whose log lacks the row it had.

        Raises:
            Unavailable: the database or the file cannot be used.
            Corrupt: the file is none of ours.
        """
        with read(self._engine) as connection:
            sums = select(func.count(), func.sum(HEAD.c.seq), func.min(HEAD.c.seq))
            seen = tuple(connection.execute(sums).one())
            if seen == self._seen:
                return []
            heads = connection.execute(select(HEAD.c.tenant, HEAD.c.seq, HEAD.c.digest)).all()
        lost: list[str] = []
        with self._locked():
            known = self._read()
            after = dict(known)
            for tenant, seq, digest in heads:
                before = known.get(tenant)
                if before is not None and not self._holds(tenant, before):
                    lost.append(tenant)
                elif seq > (before.seq if before is not None else 0):
                    after[tenant] = Anchor(seq=seq, digest=digest)
            lost += sorted(set(known) - {head.tenant for head in heads})
            if after != known:
                self._write(after)
        self._seen = () if lost else seen
        return lost

    def _holds(self, tenant: str, anchor: Anchor) -> bool:
        query = select(LOG.c.digest).where(LOG.c.tenant == tenant, LOG.c.seq == anchor.seq)
        with read(self._engine) as connection:
            return connection.execute(query).scalar() == anchor.digest

    def _read(self) -> dict[str, Anchor]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Anchor])
        except FileNotFoundError:
            return {}
        except msgspec.MsgspecError as error:
            message = f"{self._path} cannot be read; compare the log with what you kept elsewhere"
            raise Corrupt(message) from error
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror}") from error

    def _write(self, anchors: dict[str, Anchor]) -> None:
        fresh = self._path.with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(msgspec.json.encode(anchors))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            file = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)
