"""Seller and buyer in the terms of EN 16931, or what is missing to name them."""

import re
from typing import Literal

from tallybook.adapters.einvoice.bill import Trader
from tallybook.adapters.einvoice.codes import EMAIL_SCHEME
from tallybook.invoice.document import Party
from tallybook.kernel.errors import Invalid

ADDRESS_LINES = 3
_VAT = re.compile(r"[A-Z]{2}[0-9A-Z+*.]{2,}\Z")
Role = Literal["seller", "customer"]


def trader(party: Party, role: Role) -> Trader:
    """Return a party as the standard names it.

    Raises:
        Invalid: its country is not known, or it has no address.
    """
    place, where = party.place, _where(role)
    if not place.country:
        raise needed(f"the country of the {role}", f"{where}.place.country")
    if not (place.street or place.city or party.address):
        raise needed(f"the address of the {role}", f"{where}.address")
    bare = re.sub(r"[\s-]", "", party.tax_id)
    vat = bare if _VAT.match(bare) else ""
    return Trader(
        name=party.name,
        lines=_lines(party),
        city=place.city,
        postal_code=place.postal_code,
        country=place.country,
        vat=vat,
        tax_number="" if vat else party.tax_id,
        registration=place.registration,
        contact=place.contact,
        phone=place.phone,
        email=party.email,
        endpoint=_endpoint(party),
    )


def _where(role: Role) -> str:
    return "seller" if role == "seller" else "customers"


def _lines(party: Party) -> tuple[str, ...]:
    if party.place.street or party.place.city:
        return (party.place.street,) if party.place.street else ()
    first, rest = party.address[: ADDRESS_LINES - 1], party.address[ADDRESS_LINES - 1 :]
    return (*first, ", ".join(rest)) if rest else first


def _endpoint(party: Party) -> tuple[str, str] | None:
    scheme, _, identifier = party.place.endpoint.partition(":")
    if identifier:
        return scheme, identifier
    return (EMAIL_SCHEME, party.email) if party.email else None


def needed(what: str, field: str) -> Invalid:
    """Return the refusal that says what an e-invoice needs, and where to write it."""
    message = f"an e-invoice needs {what}: fill in {field} in catalog.toml; it counts from the next"
    return Invalid(f"{message} invoice on", code="e-invoice", field=field)


def impossible(why: str, field: str) -> Invalid:
    """Return the refusal of what the standard has no way to say."""
    return Invalid(f"EN 16931 cannot say this invoice: {why}", code="e-invoice", field=field)
