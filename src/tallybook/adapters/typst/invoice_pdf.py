"""The PDF of an invoice.

The template is package data; the invoice goes in as JSON text and never becomes code. Fonts come
with the typesetter; the machine's are used only for letters those do not have. The same invoice on
the same machine gives the same bytes.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from threading import Lock
from typing import Literal

import msgspec
import typst

from tallybook.adapters.typst.wording import invoice_words
from tallybook.invoice.audit.chart import UsageChart
from tallybook.invoice.document import Invoice
from tallybook.kernel.errors import Corrupt
from tallybook.kernel.timestamps import SECOND_US

_LOCK = Lock()
"""The compiler keeps its inputs between calls, so one document at a time."""


def render_invoice(invoice: Invoice, charts: Sequence[UsageChart] = ()) -> bytes:
    """Return the invoice as PDF, with its text selectable.

    Args:
        invoice: finalized, or a draft, which then says so.
        charts: usage over time, from `usage_charts`; none are drawn without them.

    Raises:
        Corrupt: the typesetter refuses the document.

    Cost: a few milliseconds a page; the first call loads fonts, some 30 ms.
    """
    (pdf,) = _render(invoice, charts, "pdf")
    return pdf


def render_pages(invoice: Invoice, charts: Sequence[UsageChart] = ()) -> list[bytes]:
    """Return the invoice as one PNG a page, for looking at."""
    return _render(invoice, charts, "png")


def _render(
    invoice: Invoice, charts: Sequence[UsageChart], format_: Literal["pdf", "png"]
) -> list[bytes]:
    words = msgspec.json.encode(invoice_words(invoice, charts), order="sorted").decode()
    with _LOCK:
        try:
            made = _compiler().compile(
                _template(),
                format=format_,
                sys_inputs={"data": words},
                timestamp=invoice.manifest.issued_us // SECOND_US,
            )
        except typst.TypstError as error:
            message = f"invoice {invoice.number} cannot be typeset: {error.message}"
            raise Corrupt(message) from error
    assert made is not None, "without an output file the document is returned"
    return made if isinstance(made, list) else [made]


@cache
def _compiler() -> typst.Compiler:
    return typst.Compiler()


@cache
def _template() -> bytes:
    return files("tallybook.adapters.typst").joinpath("invoice.typ").read_bytes()
