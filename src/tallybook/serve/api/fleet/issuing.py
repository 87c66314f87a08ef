"""Issue, renew and revoke: sign, and write down what was signed, in that order.

A certificate that was signed and not written down opens the door for its time and cannot be revoked
by name; so it leaves this module only once it is written down.
"""

from collections.abc import Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from tallybook.adapters.sql.edge.certificates import Certificate
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
from tallybook.kernel.timestamps import format_us

EDGE, SERVER = "edge", "server"
NAME_CHARS_MAX = 255


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
    serials = world.certificates.revoke(tenant, wanted, reason, world.clock.now_us())
    told = {"name": wanted, "reason": reason}
    _write_down(world, tenant, [_change("revoke", serial, told, actor) for serial in serials])
    write_crl(world)
    return serials


def write_crl(world: World) -> None:
    """Write the signed list of revoked certificates, for other programs that end TLS."""
    authority = Authority(world.settings.ca_dir)
    now_us = world.clock.now_us()
    revoked = [(one.serial, one.revoked_us or now_us) for one in world.certificates.revoked(now_us)]
    write_open(authority.folder / CRL, authority.crl(revoked, now_us))


def _keep(world: World, tenant: str, name: str, kind: str, issued: Issued, actor: str) -> None:
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
    told = {"name": name, "kind": kind, "expires_time": format_us(issued.expires_us)}
    _write_down(world, tenant, [_change("issue", issued.serial, told, actor)])


def _write_down(world: World, tenant: str, changes: Sequence[Change]) -> None:
    """Add to the audit log; a folder that no server ever used has no secret to seal it with."""
    if (world.settings.data_dir / "secret").exists():
        world.audit.add(tenant, changes, world.clock.now_us())


def _change(action: str, serial: str, told: dict[str, str], actor: str) -> Change:
    after = msgspec.json.encode(told).decode()
    return Change(actor=actor, action=action, kind="certificate", subject=serial, after=after)
