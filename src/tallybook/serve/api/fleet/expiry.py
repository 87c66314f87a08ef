"""When certificates expire: the authority's, the listener's, and every edge's."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tallybook.adapters.sql.edge.certificates import Certificate
from tallybook.adapters.x509.authority import CA_CERT
from tallybook.kernel.timestamps import DAY_US, SECOND_US
from tallybook.serve.agent.outbound.renewing import validity
from tallybook.settings import Settings

EXPIRING_DAYS = 14
"""Agents and listener renew when a third of the time is left; less than this means that they did
not."""


class Expiry(msgspec.Struct, frozen=True):
    """A certificate.

    Attributes:
        kind: authority, server or edge.
        about: whose, for people.
        at_us: when it expires.
    """

    kind: str
    about: str
    at_us: int

    def days(self, now_us: int) -> int:
        """Return how many whole days are left, 0 or less where it has expired."""
        return (self.at_us - now_us) // DAY_US if self.at_us > now_us else 0


def expiries(settings: Settings, issued: Sequence[Certificate]) -> list[Expiry]:
    """Return when everything expires; [] where there is no authority and no TLS.

    Raises:
        Unavailable: a certificate's file cannot be read.
    """
    found = [
        _of_file("authority", "the authority", settings.ca_dir / CA_CERT),
        _of_file("server", "the TLS listener", settings.tls.cert),
        *(Expiry(one.kind, f"{one.kind} {one.name}", one.expires_us) for one in issued),
    ]
    return [one for one in found if one is not None]


def _of_file(kind: str, about: str, path: Path | None) -> Expiry | None:
    if path is None or not path.exists():
        return None
    return Expiry(kind, about, int(validity(path)[1] * SECOND_US))
