"""Invoices as PDF: rendered once, kept with their digest, and the same bytes ever after.

Source: DECISIONS 28, 30: documents are rendered after the transaction that made the invoice.
"""

import hashlib
import os
from pathlib import Path

from tallybook.compose import World
from tallybook.invoice.audit.chart import usage_charts
from tallybook.invoice.document import decode_invoice
from tallybook.invoice.ports import StoredInvoice
from tallybook.kernel.errors import Corrupt, Unavailable


def pdf_of(world: World, stored: StoredInvoice) -> bytes:
    """Return an invoice's PDF.

    Raises:
        Corrupt: the kept document is not the one that was rendered.
        Unavailable: it cannot be read or kept.
    """
    path = pdf_path(world, stored)
    try:
        return _kept(path) or _rendered(world, path, stored)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}", code="document") from error


def pdf_path(world: World, stored: StoredInvoice) -> Path:
    """Return where an invoice's PDF is kept."""
    return world.settings.documents_dir / f"{stored.head.number}-{stored.head.id[-8:]}.pdf"


def _kept(path: Path) -> bytes | None:
    digest = path.with_suffix(".sha256")
    if not path.exists() or not digest.exists():
        return None
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest.read_text().strip():
        raise Corrupt(f"{path} is not the document that was rendered; restore it from a backup")
    return content


def _rendered(world: World, path: Path, stored: StoredInvoice) -> bytes:
    from tallybook.adapters.typst.invoice_pdf import render_invoice

    invoice = decode_invoice(stored.body)
    charts = usage_charts(world.billing(invoice.manifest.tenant), invoice)
    content = render_invoice(invoice, charts)
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
