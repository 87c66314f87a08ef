"""`POST /edges/certificates/renew`: an edge that is certified gets a new certificate."""

from typing import Any

import msgspec
from litestar import Request, post

from tallybook.adapters.x509.names import Presented
from tallybook.compose import World
from tallybook.kernel.errors import Forbidden
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import OPEN

CERTIFICATE, CERTIFICATE_DER = "tallybook.certificate", "tallybook.certificate_der"


class Renewal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for.

    Attributes:
        csr: request for a new key, PEM; null keeps the key of the present certificate.
    """

    csr: str | None = None


class RenewedView(msgspec.Struct, frozen=True, kw_only=True):
    """A new certificate; the one before stays good until it expires.

    Attributes:
        certificate: PEM.
        ca: the authority's certificate, PEM.
    """

    certificate: str
    ca: str
    serial: str
    expires_time: str


@post("/edges/certificates/renew", opt=OPEN, tags=["edges"], status_code=200, sync_to_thread=True)
def renew_certificate(
    request: "Request[Any, Any, Any]", world: World, data: Renewal
) -> RenewedView:
    """Renew the certificate under which the request came; its key has proved itself by that."""
    from tallybook.adapters.x509.authority import Authority, certified_key, requested_key
    from tallybook.serve.api.fleet.issuing import issue_edge

    shown = request.scope.get(CERTIFICATE)
    der = request.scope.get(CERTIFICATE_DER)
    if not isinstance(shown, Presented) or not isinstance(der, bytes):
        message = "renewing needs the present certificate; ask on the TLS port"
        raise Forbidden(message, code="certificate-needed")
    key = requested_key(data.csr.encode()) if data.csr is not None else certified_key(der)
    days = world.settings.tls.edge_days
    issued = issue_edge(world, shown.tenant, shown.edge, key, days, f"edge:{shown.edge}")
    return RenewedView(
        certificate=issued.cert.decode(),
        ca=Authority(world.settings.ca_dir).cert.decode(),
        serial=issued.serial,
        expires_time=format_us(issued.expires_us),
    )
