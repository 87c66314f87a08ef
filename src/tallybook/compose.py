"""The composition root: the one place where the outside world enters.

A process composes one `World` from its settings and hands parts of it to flows. Heavy parts are
opened when they are first used, so that each process starts fast and pays for what it needs.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from sqlalchemy import Engine

from tallybook.adapters.mapped.counts import MappedCounts, put_aside
from tallybook.adapters.sealing.aesgcm import AesGcmSeal
from tallybook.adapters.sql.access.audit import SqlAudit
from tallybook.adapters.sql.access.tenants import SqlTenants
from tallybook.adapters.sql.access.usage_plans import SqlKeyUse, SqlUsagePlans
from tallybook.adapters.sql.access.users import SqlUsers
from tallybook.adapters.sql.accounts import SqlAccounts
from tallybook.adapters.sql.catalog import SqlCatalog
from tallybook.adapters.sql.database import address_of, open_database
from tallybook.adapters.sql.edge.certificates import SqlCertificates
from tallybook.adapters.sql.edge.door_rules import SqlDoorRules
from tallybook.adapters.sql.edge.edges import SqlEdges
from tallybook.adapters.sql.edge.rules import SqlEdgeRules
from tallybook.adapters.sql.idempotency import SqlIdempotency
from tallybook.adapters.sql.invoices import SqlInvoices
from tallybook.adapters.sql.jobs import SqlJobs
from tallybook.adapters.sql.keys import SqlKeys
from tallybook.adapters.sql.post.marks import SqlMarks
from tallybook.adapters.sql.post.store import SqlPost
from tallybook.adapters.sql.prepaid.entitlements import SqlEntitlements
from tallybook.adapters.sql.prepaid.wallets import SqlWallets
from tallybook.adapters.sql.quarantine import SqlQuarantine
from tallybook.adapters.sql.routing.rules import SqlRules
from tallybook.adapters.sql.settlements import SqlSettlements
from tallybook.admit.tenant import FIRST
from tallybook.invoice.ports import Billing, Bounds
from tallybook.kernel.errors import Corrupt, Unavailable
from tallybook.kernel.ids import uuid7_id
from tallybook.route.stream import Keep
from tallybook.settings import Settings
from tallybook.settle.receivable.flow import Settling

if TYPE_CHECKING:
    from tallybook.adapters.delta.event_table import DeltaEventTable
    from tallybook.adapters.duckdb.usage_reader import LakeUsageReader
    from tallybook.adapters.sqlite.streams import StreamsFile
    from tallybook.adapters.webhook.channel import WebhookChannel

T = TypeVar("T")

TENANT = FIRST
"""The tenant of the embedded server's first key (DECISIONS 18)."""


def _time_ns() -> int:
    return time.time_ns()  # noqa: TID251 - the clock that the Clock port stands for


class SystemClock:
    """`Clock` of this machine."""

    def now_us(self) -> int:
        """Return the present instant, microseconds UTC."""
        return _time_ns() // 1000


class RandomIds:
    """`Ids` from this machine's clock and randomness; ids of one process grow strictly."""

    def __init__(self) -> None:
        """Start with the present millisecond."""
        self._last = 0
        self._lock = threading.Lock()

    def new(self, prefix: str) -> str:
        """Return a fresh UUIDv7 with a type prefix."""
        with self._lock:
            self._last = max(self._last + 1, _time_ns() // 1_000_000)
            return uuid7_id(prefix, self._last, os.urandom(10))


class World:
    """Everything a process of the server may need, opened when first used.

    Args:
        settings: of this process.

    Raises:
        Unavailable: a part cannot be opened; raised where it is first used.
    """

    def __init__(self, settings: Settings) -> None:
        """Open nothing yet."""
        self.settings = settings
        self.clock = SystemClock()
        self.ids = RandomIds()
        self._opening = threading.RLock()

    @cached_property
    def engine(self) -> Engine:
        """The control database."""
        return self._once(lambda: open_control(self.settings))

    @cached_property
    def secret(self) -> bytes:
        """The server's secret, under which keys and sessions are hashed."""
        return read_secret(self.settings.data_dir / "secret")

    @cached_property
    def catalog(self) -> SqlCatalog:
        """What is sold, to whom."""
        return SqlCatalog(self.engine)

    @cached_property
    def keys(self) -> SqlKeys:
        """API keys."""
        return SqlKeys(self.engine)

    @cached_property
    def tenants(self) -> SqlTenants:
        """Tenants besides the first."""
        return SqlTenants(self.engine)

    @cached_property
    def audit(self) -> SqlAudit:
        """Who changed what."""
        return self._once(lambda: SqlAudit(self.engine, self.secret, self.clock.now_us))

    def acting(self, actor: str, route: str) -> AbstractContextManager[None]:
        """Let the audit log say who changes what the block changes, where no request does.

        A folder that no server ever used has no secret to seal a log with, and so no log.
        """
        if not (self.settings.data_dir / "secret").exists():
            return nullcontext()
        return self.audit.acting(actor, route)

    @cached_property
    def users(self) -> SqlUsers:
        """People who sign in with a password."""
        return SqlUsers(self.engine)

    @cached_property
    def usage_plans(self) -> SqlUsagePlans:
        """What keys are limited to."""
        return SqlUsagePlans(self.engine)

    @cached_property
    def key_use(self) -> SqlKeyUse:
        """How far the use of keys is reported."""
        return SqlKeyUse(self.engine)

    @cached_property
    def counts(self) -> MappedCounts:
        """What the processes of the server count together."""
        return self._once(lambda: MappedCounts(self.settings.counts_path, put_aside))

    @cached_property
    def jobs(self) -> SqlJobs:
        """Long work."""
        return SqlJobs(self.engine)

    @cached_property
    def quarantine(self) -> SqlQuarantine:
        """Decisions about quarantined events."""
        return SqlQuarantine(self.engine)

    @cached_property
    def rules(self) -> SqlRules:
        """Rules of routing."""
        return SqlRules(self.engine)

    @cached_property
    def streams_file(self) -> "StreamsFile":
        """The outbound streams."""
        from tallybook.adapters.sqlite.streams import StreamsFile

        keep = Keep(**msgspec.structs.asdict(self.settings.streams))
        return self._once(lambda: StreamsFile(self.settings.streams_db, keep))

    @cached_property
    def answers(self) -> SqlIdempotency:
        """Answers remembered under an Idempotency-Key."""
        return SqlIdempotency(self.engine)

    @cached_property
    def door_rules(self) -> SqlDoorRules:
        """How the front doors map series to events."""
        return SqlDoorRules(self.engine)

    @cached_property
    def edge_rules(self) -> SqlEdgeRules:
        """What edges add up before they send it."""
        return SqlEdgeRules(self.engine)

    @cached_property
    def invoices(self) -> SqlInvoices:
        """Invoices, and where billing stands."""
        return SqlInvoices(self.engine)

    @cached_property
    def accounts(self) -> SqlAccounts:
        """What customers hold."""
        return SqlAccounts(self.engine)

    @cached_property
    def entitlements(self) -> SqlEntitlements:
        """What was granted."""
        return SqlEntitlements(self.engine)

    @cached_property
    def wallets(self) -> SqlWallets:
        """What was paid in advance."""
        return SqlWallets(self.engine)

    @cached_property
    def settlements(self) -> SqlSettlements:
        """Payments, credit notes and the ledger."""
        return SqlSettlements(self.engine)

    @cached_property
    def edges(self) -> SqlEdges:
        """Edges, as their requests showed them."""
        return SqlEdges(self.engine)

    @cached_property
    def certificates(self) -> SqlCertificates:
        """Certificates that were issued to edges."""
        return SqlCertificates(self.engine)

    @cached_property
    def post(self) -> SqlPost:
        """Who is told facts, and what became of it."""
        return SqlPost(self.engine)

    @cached_property
    def marks(self) -> SqlMarks:
        """What was told of things that nobody's command brings about."""
        return SqlMarks(self.engine)

    @cached_property
    def seal(self) -> AesGcmSeal:
        """Encrypts the secrets of endpoints."""
        return AesGcmSeal(self.secret)

    @cached_property
    def webhooks(self) -> "WebhookChannel":
        """Tells facts over HTTP."""
        from tallybook.adapters.webhook.channel import WebhookChannel

        hooks = self.settings.webhooks
        return WebhookChannel(allow_private=hooks.allow_private, ca_file=hooks.ca_file)

    def settling(self, tenant: str) -> Settling:
        """Return the ports that settling works with, for one tenant."""
        return Settling(
            billing=self.billing(tenant),
            settlements=self.settlements,
            payments=self.settlements,
        )

    def billing(self, tenant: str) -> Billing:
        """Return the ports that billing works with, for one tenant."""
        return Billing(
            tenant=tenant,
            catalog=self.catalog,
            invoices=self.invoices,
            accounts=self.accounts,
            usage=self.usage,
            clock=self.clock,
            ids=self.ids,
            tz=version("tzdata"),
            bounds=msgspec.convert(self.settings.billing, Bounds, from_attributes=True),
        )

    @cached_property
    def table(self) -> "DeltaEventTable":
        """The lake's event table, for reading."""
        from tallybook.adapters.delta.event_table import DeltaEventTable

        return self._once(lambda: DeltaEventTable(self.settings.lake_dir / "events"))

    @cached_property
    def usage(self) -> "LakeUsageReader":
        """Answers about usage."""
        from tallybook.adapters.duckdb.usage_reader import LakeUsageReader

        lake = self.settings.lake
        return self._once(
            lambda: LakeUsageReader(
                self.table,
                self.settings.lake_dir / "rollups",
                memory_limit=f"{lake.memory_mb}MB",
                threads=lake.threads,
            )
        )

    def _once(self, make: Callable[[], T]) -> T:
        """Make a part while no other thread makes one."""
        with self._opening:
            return make()


def control_address(settings: Settings) -> str:
    """Return the address of the control database, with its password: never to be shown."""
    control = settings.control
    return address_of(settings.control_db, control.url, control.password_file)


def open_control(settings: Settings) -> Engine:
    """Open the control database of the settings; raises as `open_database`."""
    return open_database(control_address(settings))


def read_secret(path: Path) -> bytes:
    """Return the server's secret.

    Raises:
        Unavailable: it cannot be read.
        Corrupt: it is too short to be one.
    """
    try:
        secret = path.read_bytes()
    except OSError as error:
        message = f"the server's secret {path} cannot be read: {error.strerror}"
        raise Unavailable(message, code="no-secret") from error
    if len(secret) < 32:
        raise Corrupt(f"{path} is too short; restore it from a backup", code="bad-secret")
    return secret
