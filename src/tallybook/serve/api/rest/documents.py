"""Documents of invoices and credit notes: PDF, rendered once and kept with its digest; XML.

Source: DECISIONS 28, 30: documents are rendered after the transaction that made the invoice.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from litestar import Response

from tallybook.compose import World
from tallybook.invoice.audit.chart import usage_charts
from tallybook.invoice.document import Invoice, decode_invoice
from tallybook.invoice.ports import StoredInvoice
from tallybook.kernel.errors import Corrupt, Invalid, Unavailable
from tallybook.settle.receivable.credit_note import StoredNote, decode_note

PDF_SUFFIX = ".pdf"
XML_SUFFIX = ".xml"
XmlFormat = Literal["cii", "ubl"]
"""UN/CEFACT CII, as in Factur-X; or UBL of Peppol BIS Billing 3."""


def pdf_of(world: World, stored: StoredInvoice) -> bytes:
    """Return an invoice's PDF, with the invoice as Factur-X inside where EN 16931 can say it.

    Raises:
        Corrupt: the kept document is not the one that was rendered.
        Unavailable: it cannot be read or kept.
    """
    if stored.head.state == "draft":
        return _rendered(world, stored)
    return kept_document(pdf_path(world, stored), lambda: _rendered(world, stored))


def pdf_path(world: World, stored: StoredInvoice) -> Path:
    """Return where an invoice's PDF is kept; one that was voided has another, which says so."""
    void = "-void" if stored.head.state == "void" else ""
    name = f"{stored.head.number}-{stored.head.id[-8:]}{void}.pdf"
    return world.settings.documents_dir / name


def kept_document(path: Path, render: Callable[[], bytes]) -> bytes:
    """Return a document that is kept with its digest; it is rendered where it is not there yet.

    Raises:
        Corrupt: the kept document is not the one that was rendered.
        Unavailable: it cannot be read or kept.
    """
    try:
        return _kept(path) or _keep(path, render())
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}", code="document") from error


def xml_of(stored: StoredInvoice, format_: XmlFormat = "cii") -> str:
    """Return an invoice as an EN 16931 e-invoice.

    Raises:
        Invalid: it is a draft, or lacks something that the standard asks for; names the field.
    """
    if stored.head.state == "draft":
        raise Invalid("a draft is no invoice yet: finalize it first", code="e-invoice")
    return invoice_xml(decode_invoice(stored.body), format_)


def invoice_xml(invoice: Invoice, format_: XmlFormat) -> str:
    """Return an invoice as an EN 16931 e-invoice; raises Invalid."""
    from tallybook.adapters.einvoice.cii import cii
    from tallybook.adapters.einvoice.from_invoice import bill_of
    from tallybook.adapters.einvoice.ubl import ubl

    return (ubl if format_ == "ubl" else cii)(bill_of(invoice))


def note_pdf_of(world: World, tenant: str, stored: StoredNote) -> bytes:
    """Return a credit note's PDF, with Factur-X inside where EN 16931 can say it.

    Raises:
        Corrupt: the kept document is not the one that was rendered.
        Unavailable: it cannot be read or kept.
    """
    head = stored.head
    void = head.state == "void"
    name = f"{head.number}-{head.id[-8:]}{'-void' if void else ''}.pdf"

    def rendered() -> bytes:
        from tallybook.adapters.typst.note_pdf import render_note

        note = decode_note(stored.body)
        xml = _said(lambda: note_xml_of(world, tenant, stored))
        return render_note(note, logo=seller_logo(world, tenant), void=void, xml=xml)

    return kept_document(world.settings.documents_dir / name, rendered)


def note_xml_of(world: World, tenant: str, stored: StoredNote, format_: XmlFormat = "cii") -> str:
    """Return a credit note as an EN 16931 document of type 381; raises Invalid."""
    from tallybook.adapters.einvoice.cii import cii
    from tallybook.adapters.einvoice.from_note import bill_of_note
    from tallybook.adapters.einvoice.ubl import ubl

    note = decode_note(stored.body)
    invoice = decode_invoice(world.invoices.invoice(tenant, note.invoice).body)
    bill = bill_of_note(note, invoice.manifest.customer.reference)
    return (ubl if format_ == "ubl" else cii)(bill)


def document_answer(content: bytes, name: str, kind: Literal["pdf", "xml"]) -> Response[bytes]:
    """Return the answer that carries a document; a browser shows it under its name."""
    headers = {"content-disposition": f'inline; filename="{name}"'}
    return Response(content, media_type=f"application/{kind}", headers=headers)


def seller_logo(world: World, tenant: str) -> str:
    """Return the logo that the seller has now, a data URL; '' for none."""
    return world.catalog.load(tenant).seller.logo


def _rendered(world: World, stored: StoredInvoice) -> bytes:
    from tallybook.adapters.typst.invoice_pdf import render_invoice

    invoice = decode_invoice(stored.body)
    tenant, draft = invoice.manifest.tenant, stored.head.state == "draft"
    return render_invoice(
        invoice,
        usage_charts(world.billing(tenant), invoice),
        logo=seller_logo(world, tenant),
        void=stored.head.state == "void",
        xml="" if draft else _said(lambda: invoice_xml(invoice, "cii")),
    )


def _said(xml: Callable[[], str]) -> str:
    """Return the e-invoice to put inside; '' where the standard has no way to say it.

    The document counts all the same; asking for its XML tells what is missing.
    """
    try:
        return xml()
    except Invalid as error:
        if error.code != "e-invoice":
            raise
        return ""


def _kept(path: Path) -> bytes | None:
    digest = path.with_suffix(".sha256")
    if not path.exists() or not digest.exists():
        return None
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest.read_text().strip():
        raise Corrupt(f"{path} is not the document that was rendered; restore it from a backup")
    return content


def _keep(path: Path, content: bytes) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, content)
    _write(path.with_suffix(".sha256"), hashlib.sha256(content).hexdigest().encode() + b"\n")
    return content


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
