"""`tallybook ca`: the authority whose certificates let edges in. Works on the data folder.

Its key lies in `ca/ca.key` of the data folder, closed to others; so these commands run on the
server's machine, whether or not the server runs. What they change takes effect within a second.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from tallybook.adapters.x509 import authority as x509
from tallybook.adapters.x509.request import key_pem, new_key
from tallybook.compose import TENANT, World
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.fleet import issuing
from tallybook.serve.cli.access.keys import somebody
from tallybook.serve.cli.common import DATA_DEFAULT, Target, table
from tallybook.serve.supervisor import folder
from tallybook.settings import load

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from tallybook.adapters.sql.edge.certificates import Certificate

R = TypeVar("R")

EDGE_CERT, EDGE_KEY = "edge.pem", "edge.key"
HOSTS_DEFAULT = ("localhost", "127.0.0.1")


@click.group()
def ca() -> None:
    """Issue, renew and revoke the certificates of edges."""


def _options(command: Callable[..., R]) -> Callable[..., R]:
    data = click.option("--data", type=click.Path(path_type=Path, file_okay=False),
                        default=DATA_DEFAULT, show_default=True,
                        help="The server's data folder.")  # fmt: skip
    tenant = click.option("--tenant", default=TENANT, show_default=True)
    shown = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return data(tenant(shown(command)))


def _days(default: int) -> Callable[[Callable[..., R]], Callable[..., R]]:
    return click.option("--days", type=click.IntRange(1, 3650), default=default,
                        show_default=True, help="How long it is good.")  # fmt: skip


@ca.command()
@click.option("--host", "hosts", multiple=True, metavar="NAME",
              help="Name or address under which edges reach this server; may be repeated."
                   "  [localhost, 127.0.0.1]")  # fmt: skip
@_options
def init(data: Path, tenant: str, hosts: tuple[str, ...], *, as_json: bool) -> None:
    """Found the authority, and give this server a certificate for its hosts."""
    folder.prepare(data)
    world = _world(data)
    x509.found(world.settings.ca_dir, "Tallybook edge authority", world.clock.now_us())
    issued = issuing.issue_server(world, tenant, hosts or HOSTS_DEFAULT, x509.SERVER_DAYS, _who())
    issuing.write_crl(world)
    told = {"ca": str(world.settings.ca_dir / x509.CA_CERT), "serial": issued.serial}
    _show(
        told,
        f"The authority is founded: {told['ca']} goes to every edge;"
        f" {x509.CA_KEY} beside it never leaves this machine.\n"
        "Start the server with --tls-port, and let edges in with `tallybook ca issue EDGE`.",
        as_json=as_json,
    )


@ca.command()
@click.argument("edge")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help="Folder for edge.pem, edge.key and ca.pem.  [./EDGE]")  # fmt: skip
@click.option("--csr", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="Request made on the edge, so that its key never travels.")  # fmt: skip
@_days(x509.EDGE_DAYS)
@_options
def issue(
    data: Path,
    tenant: str,
    edge: str,
    out: Path | None,
    csr: Path | None,
    days: int,
    *,
    as_json: bool,
) -> None:
    """Issue a certificate to an edge: it may send under this name and no other."""
    world = _world(data)
    target = out or Path(edge)
    if (target / EDGE_KEY).exists() and csr is None:
        raise Conflict(f"{target / EDGE_KEY} is there already; renew it, or name another --out")
    key = None if csr is not None else new_key()
    public = key.public_key() if key is not None else _requested(csr)
    issued = issuing.issue_edge(world, tenant, edge, public, days, _who())
    if key is not None:
        x509.write_closed(target / EDGE_KEY, key_pem(key))
    _hand_out(world, target, issued, edge, as_json=as_json)


@ca.command()
@click.argument("edge", required=False)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False),
              help="Folder with the edge.pem to renew.  [./EDGE]")  # fmt: skip
@click.option("--server", is_flag=True, help="Renew this server's own certificate instead.")
@click.option("--host", "hosts", multiple=True, metavar="NAME",
              help="With --server: other names than before.")  # fmt: skip
@click.option("--days", type=click.IntRange(1, 3650), help="How long it is good.")
@_options
def renew(
    data: Path,
    tenant: str,
    edge: str | None,
    out: Path | None,
    hosts: tuple[str, ...],
    days: int | None,
    *,
    server: bool,
    as_json: bool,
) -> None:
    """Renew a certificate by hand; a running agent renews its own in time."""
    world = _world(data)
    if server:
        issued = issuing.issue_server(
            world, tenant, hosts or _hosts(world, tenant), days or x509.SERVER_DAYS, _who()
        )
        told = {"serial": issued.serial, "expires_time": format_us(issued.expires_us)}
        _show(told, f"Renewed until {told['expires_time'][:10]}.", as_json=as_json)
        return
    if edge is None:
        raise click.UsageError("name an edge, or give --server")
    target = out or Path(edge)
    try:
        public = x509.certified_key((target / EDGE_CERT).read_bytes())
    except OSError as error:
        raise Missing(f"{target / EDGE_CERT}: {error.strerror}", field="out") from error
    lasting = days or x509.EDGE_DAYS
    issued = issuing.issue_edge(world, tenant, edge, public, lasting, _who())
    _hand_out(world, target, issued, edge, as_json=as_json)


@ca.command()
@click.argument("edge")
@click.option("--reason", default="", help="For the record.")
@_options
def revoke(data: Path, tenant: str, edge: str, reason: str, *, as_json: bool) -> None:
    """Refuse all certificates of an edge, or one by its serial number, within a second."""
    serials = issuing.revoke(_world(data), tenant, edge, reason, _who())
    text = f"Revoked: {', '.join(serials)}. An edge that is to come back needs a new one."
    _show({"revoked": serials}, text, as_json=as_json)


@ca.command("list")
@_options
def list_(data: Path, tenant: str, *, as_json: bool) -> None:
    """List certificates, newest first."""
    world = _world(data)
    found = world.certificates.listed(tenant)
    now_us = world.clock.now_us()
    told = [
        {
            "name": one.name,
            "kind": one.kind,
            "serial": one.serial,
            "issued_time": format_us(one.issued_us),
            "expires_time": format_us(one.expires_us),
            "state": _state(one, now_us),
            "reason": one.reason,
        }
        for one in found
    ]
    rows = [
        [one.name, one.kind, _state(one, now_us), format_us(one.expires_us)[:19], one.serial]
        for one in found
    ]
    columns = ("name", "kind", "state", "until", "serial")
    human = table(columns, rows, numbers=("until", "serial")) if rows else "None yet."
    _show(told, human, as_json=as_json)


def _who() -> str:
    """Return who runs this command, as the audit log names them."""
    return f"cli:{somebody()}"


def _world(data: Path) -> World:
    """Return the parts of the folder's server; raises Missing."""
    if not data.exists():
        raise Missing(f"there is no data folder {data}; `tallybook serve` makes one", field="data")
    return World(load(overrides={"data_dir": data}))


def _hosts(world: World, tenant: str) -> Sequence[str]:
    own = [one for one in world.certificates.listed(tenant) if one.kind == issuing.SERVER]
    return own[0].name.split() if own else HOSTS_DEFAULT


def _requested(csr: Path | None) -> "ec.EllipticCurvePublicKey":
    assert csr is not None
    try:
        return x509.requested_key(csr.read_bytes())
    except OSError as error:
        raise Invalid(f"{csr}: {error.strerror}", field="csr") from error


def _hand_out(world: World, target: Path, issued: x509.Issued, edge: str, *, as_json: bool) -> None:
    authority = x509.Authority(world.settings.ca_dir)
    x509.write_open(target / EDGE_CERT, issued.cert)
    x509.write_open(target / x509.CA_CERT, authority.cert)
    until = format_us(issued.expires_us)
    told = {"edge": edge, "folder": str(target), "serial": issued.serial, "expires_time": until}
    text = (
        f"{target} has the certificate of {edge}, good until {until[:10]}:"
        f" {EDGE_CERT}, {x509.CA_CERT} and, unless it stayed on the edge, {EDGE_KEY}."
    )
    _show(told, text, as_json=as_json)


def _state(one: "Certificate", now_us: int) -> str:
    if one.revoked_us is not None:
        return "revoked"
    return "good" if one.good(now_us) else "expired"


def _show(answer: object, human: object, *, as_json: bool) -> None:
    target = Target(url="", key=None, data=None, json=as_json)
    target.show(answer, lambda: human)
