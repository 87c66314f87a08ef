"""Issue, renew and revoke: sign, and write down what was signed, in that order.

A certificate that was signed and not written down opens the door for its time and cannot be revoked
by name; so it leaves this module only once it is written down, and the audit log has it with that.
A folder that no server ever used has no secret to seal a log with: what was done there is taken
down once a server has started (`take_down_found`).
"""

from collections.abc import Iterable, Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from tallybook.adapters.sql.access.audit import Question
from tallybook.adapters.sql.edge.certificates import KIND, Certificate, told_of
from tallybook.adapters.x509.authority import (
    CRL,
    SERVER_CERT,
    SERVER_KEY,
    Authority,
    Issued,
    write_closed,
    write_open,
)
from tallybook.adapters.x509.request import key_pem, new_key
from tallybook.admit.trail import Change
from tallybook.collect.sending.parcel import edge_name
from tallybook.compose import World

EDGE, SERVER = "edge", "server"
NAME_CHARS_MAX = 255
ROWS_MAX = 1_000_000
FOUND = "found at the start"
"""As route: a change that was made while no server's log was there."""


def issue_edge(
    world: World,
    tenant: str,
    edge: str,
    key: ec.EllipticCurvePublicKey,
    days: int,
    actor: str = "server",
) -> Issued:
    """Return a new certificate for an edge, written down with who asked for it.

    Raises:
        Invalid: the name cannot name an edge.
        Missing: no authority was founded.
    """
    authority = Authority(world.settings.ca_dir)
    issued = authority.issue_edge(tenant, edge_name(edge), key, world.clock.now_us(), days)
    _keep(world, tenant, edge, EDGE, issued, actor)
    return issued


def issue_server(
    world: World, tenant: str, hosts: Sequence[str], days: int, actor: str = "server"
) -> Issued:
    """Give the server's own listener a new key and certificate; it takes them up by itself."""
    authority = Authority(world.settings.ca_dir)
    key = new_key()
    issued = authority.issue_server(hosts, key.public_key(), world.clock.now_us(), days)
    _keep(world, tenant, " ".join(hosts), SERVER, issued, actor)
    write_closed(authority.folder / SERVER_KEY, key_pem(key))
    write_open(authority.folder / SERVER_CERT, issued.cert)
    return issued


def revoke(world: World, tenant: str, wanted: str, reason: str, actor: str = "server") -> list[str]:
    """Revoke an edge's certificates, or one by its serial number; return the serial numbers.

    Raises:
        Missing: nothing of that name is good.
    """
    with world.acting(actor, ""):
        serials = world.certificates.revoke(tenant, wanted, reason, world.clock.now_us())
    write_crl(world)
    return serials


def write_crl(world: World) -> None:
    """Write the signed list of revoked certificates, for other programs that end TLS."""
    authority = Authority(world.settings.ca_dir)
    now_us = world.clock.now_us()
    revoked = [(one.serial, one.revoked_us or now_us) for one in world.certificates.revoked(now_us)]
    write_open(authority.folder / CRL, authority.crl(revoked, now_us))


def take_down_found(world: World) -> int:
    """Add to the audit log what of certificates it does not have; return how many rows."""
    of_tenant: dict[str, list[Certificate]] = {}
    for one in world.certificates.listed():
        of_tenant.setdefault(one.tenant, []).append(one)
    return sum(_take_down(world, tenant, some) for tenant, some in of_tenant.items())


def _take_down(world: World, tenant: str, some: Sequence[Certificate]) -> int:
    rows = world.audit.listed(tenant, Question(kind=KIND), ROWS_MAX)
    known = {(row.change.action, row.change.subject) for row in rows}
    missing = [change for change in _said_of(some) if (change.action, change.subject) not in known]
    world.audit.add(tenant, missing, world.clock.now_us())
    return len(missing)


def _said_of(some: Iterable[Certificate]) -> Iterable[Change]:
    for one in some:
        yield _found("issue", one, told_of(one))
        if one.revoked_us is not None:
            yield _found("revoke", one, {"name": one.name, "reason": one.reason or ""})


def _found(action: str, one: Certificate, told: dict[str, object]) -> Change:
    after = msgspec.json.encode(told, order="sorted").decode()
    return Change(
        actor="server", action=action, kind=KIND, subject=one.serial, route=FOUND, after=after
    )


def _keep(world: World, tenant: str, name: str, kind: str, issued: Issued, actor: str) -> None:
    with world.acting(actor, ""):
        world.certificates.add(
            Certificate(
                tenant=tenant,
                serial=issued.serial,
                name=name[:NAME_CHARS_MAX],
                kind=kind,
                issued_us=issued.issued_us,
                expires_us=issued.expires_us,
            )
        )
