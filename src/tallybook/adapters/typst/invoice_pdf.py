"""Documents as PDF/A-3b, with an e-invoice inside where one is given.

The template is package data; what is printed goes in as JSON text and never becomes code. Fonts
come with packages; the machine's are used only for letters that those do not have. The same
document on the same machine gives the same bytes.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Literal

import msgspec
import typst

from tallybook.adapters.typst.factur_x import with_factur_x
from tallybook.adapters.typst.invoice_words import invoice_words
from tallybook.adapters.typst.letters import boxed
from tallybook.adapters.typst.parts import Words
from tallybook.invoice.audit.chart import UsageChart
from tallybook.invoice.document import Invoice
from tallybook.kernel.errors import Corrupt, Invalid
from tallybook.kernel.timestamps import SECOND_US

_LOCK = Lock()
"""The compiler keeps its inputs between calls, so one document at a time."""
PDF_A: tuple[Literal["a-3b"]] = ("a-3b",)
UNDISPLAYED = "could not be displayed"
"""The typesetter's word for a letter that no font has."""
LARGE_CHARS = 200_000
FORGET_COMPILES = 12
"""What was laid out is remembered for ten compilations; after a large document it is forgotten."""


def render_invoice(
    invoice: Invoice,
    charts: Sequence[UsageChart] = (),
    *,
    logo: str = "",
    void: bool = False,
    xml: str = "",
) -> bytes:
    """Return the invoice as PDF/A-3b, with its text selectable.

    Args:
        invoice: finalized, or a draft, which then says so.
        charts: usage over time, from `usage_charts`; none are drawn without them.
        logo: the seller's, a data URL; '' for none.
        void: whether it was voided, which it then says.
        xml: the same invoice as EN 16931 CII, to be put inside as Factur-X; '' for none.

    Raises:
        Invalid: the logo cannot be drawn.
        Corrupt: the typesetter refuses the document.

    Cost: a few milliseconds a page; the first call loads fonts, some 60 ms.
    """
    words = invoice_words(invoice, charts, logo=logo, void=void)
    return pdf_of_words(words, invoice.manifest.issued_us, xml)


def render_pages(
    invoice: Invoice, charts: Sequence[UsageChart] = (), *, logo: str = "", void: bool = False
) -> list[bytes]:
    """Return the invoice as one PNG a page, for looking at."""
    words = invoice_words(invoice, charts, logo=logo, void=void)
    return compiled(words, invoice.manifest.issued_us, "png")


def pdf_of_words(words: Words, issued_us: int, xml: str = "") -> bytes:
    """Return what the template makes of words, with the e-invoice inside where one is given."""
    (pdf,) = compiled(words, issued_us, "pdf", xml)
    return with_factur_x(pdf) if xml else pdf


def compiled(
    words: Words, issued_us: int, format_: Literal["pdf", "png"], xml: str = ""
) -> list[bytes]:
    """Return what the template makes of words: one PDF, or a PNG a page.

    PDF/A forbids letters that no font has; then boxes stand for what the packages' fonts lack, and
    where that is not enough the document is a plain PDF.
    """
    with _LOCK:
        if format_ == "png":
            return _compiled(words, issued_us, format_, xml)
        for tried in (words, boxed(words)):
            try:
                return _compiled(tried, issued_us, format_, xml, PDF_A)
            except Corrupt as error:
                if UNDISPLAYED not in error.message:
                    raise
        return _compiled(words, issued_us, format_, xml)


def _compiled(
    words: object,
    issued_us: int,
    format_: Literal["pdf", "png"],
    xml: str,
    standards: tuple[Literal["a-3b"], ...] = (),
) -> list[bytes]:
    data = msgspec.json.encode(words, order="sorted").decode()
    try:
        made = _compiler().compile(
            _template(),
            format=format_,
            sys_inputs={"data": data, "xml": xml},
            pdf_standards=list(standards),
            timestamp=issued_us // SECOND_US,
        )
        if len(data) > LARGE_CHARS:
            _forget()
    except typst.TypstError as error:
        if "image" in error.message and UNDISPLAYED not in error.message:
            message = f"seller.logo cannot be drawn: {error.message}"
            raise Invalid(message, field="seller.logo") from error
        raise Corrupt(f"the document cannot be typeset: {error.message}") from error
    assert made is not None, "without an output file the document is returned"
    return made if isinstance(made, list) else [made]


def _forget() -> None:
    """Make the compiler drop what it remembers of a large document: hundreds of megabytes."""
    for _ in range(FORGET_COMPILES):
        _compiler().compile(b"", format="svg", sys_inputs=None)


@cache
def _compiler() -> typst.Compiler:
    asian = files("justmytype_intl_cjk").joinpath("fonts/ofl")
    return typst.Compiler(font_paths=[Path(str(asian))])


@cache
def _template() -> bytes:
    return files("tallybook.adapters.typst").joinpath("document.typ").read_bytes()
