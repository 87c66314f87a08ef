"""Forms that change something: read strictly, shown once more before it is done.

Every command of the console is two posts: the first shows what would happen, the second, which
carries `confirmed`, does it. Both carry the session's token.
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from litestar import Response
from litestar.response import Redirect

from tallybook.invoice.document import Invoice
from tallybook.kernel.decimals import check_numbers, plain
from tallybook.kernel.errors import Conflict, Invalid
from tallybook.serve.console.render import html
from tallybook.serve.console.session import Session

CONFIRMED = "confirmed"
_OWN = {"token", CONFIRMED}
TEXT_MAX = 500


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is asked before it is done.

    Attributes:
        action: path that is posted to, with `fields`.
        text: what happens.
        button: what is to be pressed.
        back: page to return to.
        details: label and value of what would be.
        danger: it cannot be undone.
        invoice: that would follow.
        invoice_title: what that invoice is.
    """

    title: str
    text: str
    action: str
    button: str
    back: str
    fields: dict[str, str] = {}
    details: tuple[tuple[str, str], ...] = ()
    danger: bool = False
    invoice: Invoice | None = None
    invoice_title: str = ""


def confirmed(data: Mapping[str, str]) -> bool:
    """Whether a form was sent from the page that asked."""
    return data.get(CONFIRMED) == "yes"


def ask(session: Session, here: str, asked: Confirmation) -> Response[bytes]:
    """Return the page that asks."""
    return html("confirm.html", session=session, here=here, ask=asked)


def carried(data: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return the fields of a form that the asking page sends again."""
    return {name: text for name, text in data.items() if name not in _OWN} | more


def to(path: str) -> Redirect:
    """Return the way to a page after something was done."""
    return Redirect(path, status_code=303)


def text_of(data: Mapping[str, str], name: str) -> str:
    """Return a field without blanks around it; raises Invalid where it is too long."""
    text = data.get(name, "").strip()
    if len(text) > TEXT_MAX:
        raise Invalid(f"{name} is longer than {TEXT_MAX} characters", field=name)
    return text


def needed(data: Mapping[str, str], name: str) -> str:
    """Return a field that must be filled in; raises Invalid."""
    text = text_of(data, name)
    if not text:
        raise Invalid(f"{name} is missing", field=name)
    return text


def number_of(data: Mapping[str, str], name: str) -> Decimal:
    """Return a number as a person wrote it; raises Invalid."""
    try:
        found = Decimal(needed(data, name))
    except InvalidOperation as error:
        raise Invalid(f"{name} must be a number such as 12.50", field=name) from error
    check_numbers(found, name)
    return found


def unmoved(data: Mapping[str, str], name: str, now: object) -> None:
    """Refuse what was decided from a page that no longer holds; raises Conflict."""
    if data.get(name) != str(now):
        message = "this has changed since the page was loaded; look at it again"
        raise Conflict(message, code="stale-page")


def digits(number: Decimal) -> str:
    """Return a number as a form shows it."""
    return plain(number)


def values(data: Mapping[str, str], **first: Any) -> dict[str, str]:
    """Return what a form shows: what was sent before, else what it starts with."""
    return {name: data.get(name, "" if text is None else str(text)) for name, text in first.items()}
