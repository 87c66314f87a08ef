"""How an edge's name stands in its certificate, and how it is read from there again.

Subject: common name = the edge, organisation = the tenant. Alternative name: the URI
`urn:tallybook:edge:NAME`, which alone decides; a common name may be anything.
"""

import ssl
from collections.abc import Mapping
from typing import Any

import msgspec

from tallybook.kernel.timestamps import SECOND_US

EDGE_URN = "urn:tallybook:edge:"


class Presented(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified certificate says.

    Attributes:
        edge: the name, '' where it names no edge.
        tenant: whose edge; '' for unknown.
        serial: upper-case hexadecimal without leading zeros.
        expires_us: microseconds UTC.
    """

    edge: str
    tenant: str
    serial: str
    expires_us: int


def presented(found: Mapping[str, Any]) -> Presented:
    """Return what a certificate says, as `SSLSocket.getpeercert` shows it."""
    uris = [text for kind, text in found.get("subjectAltName", ()) if kind == "URI"]
    edges = [uri.removeprefix(EDGE_URN) for uri in uris if uri.startswith(EDGE_URN)]
    subject = {name: value for part in found.get("subject", ()) for name, value in part}
    return Presented(
        edge=edges[0] if len(edges) == 1 else "",
        tenant=subject.get("organizationName", ""),
        serial=str(found["serialNumber"]).upper().lstrip("0"),
        expires_us=int(ssl.cert_time_to_seconds(str(found["notAfter"]))) * SECOND_US,
    )
