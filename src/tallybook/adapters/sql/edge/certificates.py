"""Certificates that this server's authority issued, and which of them were revoked."""

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    RowMapping,
    String,
    Table,
    insert,
    or_,
    select,
    update,
)

from tallybook.adapters.sql.access.happening import happened
from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.kernel.errors import Missing
from tallybook.kernel.timestamps import format_us

KIND = "certificate"
"""What the audit log calls one."""

CERTIFICATES = Table(
    "edge_certificate",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("serial", String(40), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("issued_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
    Column("reason", String(255)),
)
"""Certificates. serial: upper-case hexadecimal. name: of the edge, or hosts with blanks between.
kind: edge or server. issued_us, expires_us, revoked_us: microseconds UTC, the last NULL while it is
good. reason: why it was revoked."""


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a certificate; see the table."""

    tenant: str
    serial: str
    name: str
    kind: str
    issued_us: int
    expires_us: int
    revoked_us: int | None = None
    reason: str | None = None

    def good(self, now_us: int) -> bool:
        """Whether it opens the door now."""
        return self.revoked_us is None and now_us < self.expires_us


class SqlCertificates:
    """Issued certificates."""

    def __init__(self, engine: Engine) -> None:
        """Keep the engine."""
        self._engine = engine

    def add(self, certificate: Certificate) -> None:
        """Keep one that was issued."""
        with write(self._engine) as connection:
            connection.execute(insert(CERTIFICATES), msgspec.structs.asdict(certificate))
            change = (KIND, certificate.serial, told_of(certificate))
            happened(connection, certificate.tenant, "issue", *change)

    def listed(self, tenant: str | None = None, name: str | None = None) -> list[Certificate]:
        """Return certificates, newest first: of a tenant, of a name, or all."""
        asked = select(CERTIFICATES)
        if tenant is not None:
            asked = asked.where(CERTIFICATES.c.tenant == tenant)
        if name is not None:
            asked = asked.where(CERTIFICATES.c.name == name)
        order = (CERTIFICATES.c.issued_us.desc(), CERTIFICATES.c.serial)
        with read(self._engine) as connection:
            rows = connection.execute(asked.order_by(*order)).mappings().all()
        return [_certificate(row) for row in rows]

    def in_use(self) -> list[Certificate]:
        """Return the newest certificate of every edge and listener of all tenants, unless revoked.

        One that has expired is among them: nobody has renewed it.
        """
        found: dict[tuple[str, str, str], Certificate] = {}
        for one in self.listed():
            found.setdefault((one.tenant, one.kind, one.name), one)
        return [one for one in found.values() if one.revoked_us is None]

    def newest(self, tenant: str) -> dict[str, Certificate]:
        """Return the newest certificate of every edge of a tenant, by the edge's name."""
        found: dict[str, Certificate] = {}
        for one in self.listed(tenant):
            if one.kind == "edge":
                found.setdefault(one.name, one)
        return found

    def revoke(self, tenant: str, wanted: str, reason: str, now_us: int) -> list[str]:
        """Refuse an edge's certificates, or the one with a serial number, from now on.

        Returns:
            The serial numbers that were good before.

        Raises:
            Missing: nothing of that name or number is good.
        """
        mine = (
            CERTIFICATES.c.tenant == tenant,
            or_(CERTIFICATES.c.name == wanted, CERTIFICATES.c.serial == wanted.upper()),
            CERTIFICATES.c.revoked_us.is_(None),
        )
        with write(self._engine) as connection:
            asked = select(CERTIFICATES.c.serial).where(*mine).order_by(CERTIFICATES.c.serial)
            serials = list(connection.execute(asked).scalars())
            if not serials:
                message = f"there is no good certificate of '{wanted}'"
                raise Missing(message, field="name")
            connection.execute(
                update(CERTIFICATES).where(*mine).values(revoked_us=now_us, reason=reason[:255])
            )
            told = {"name": wanted, "reason": reason[:255]}
            for serial in serials:
                happened(connection, tenant, "revoke", KIND, serial, told)
        return serials

    def revoked(self, now_us: int) -> list[Certificate]:
        """Return the revoked certificates that have not expired, of all tenants."""
        asked = select(CERTIFICATES).where(
            CERTIFICATES.c.revoked_us.is_not(None), CERTIFICATES.c.expires_us > now_us
        )
        with read(self._engine) as connection:
            rows = connection.execute(asked.order_by(CERTIFICATES.c.serial)).mappings().all()
        return [_certificate(row) for row in rows]


def told_of(certificate: Certificate) -> dict[str, object]:
    """Return what the audit log says of a certificate that was issued."""
    until = format_us(certificate.expires_us)
    return {"name": certificate.name, "kind": certificate.kind, "expires_time": until}


def _certificate(row: RowMapping) -> Certificate:
    return msgspec.convert({str(name): value for name, value in row.items()}, Certificate)
