"""Credit notes as PDF/A-3b, with an e-invoice inside where one is given."""

from tallybook.adapters.typst.invoice_pdf import compiled, pdf_of_words
from tallybook.adapters.typst.note_words import note_words
from tallybook.settle.receivable.credit_note import CreditNote


def render_note(note: CreditNote, *, logo: str = "", void: bool = False, xml: str = "") -> bytes:
    """Return the credit note as PDF/A-3b, with its text selectable.

    Args:
        note: issued.
        logo: the seller's, a data URL; '' for none.
        void: whether it was voided, which it then says.
        xml: the same as EN 16931 CII, to be put inside as Factur-X; '' for none.

    Raises:
        Invalid: the logo cannot be drawn.
        Corrupt: the typesetter refuses the document.
    """
    words = note_words(note, logo=logo, void=void)
    return pdf_of_words(words, note.manifest.issued_us, xml)


def render_note_pages(note: CreditNote, *, logo: str = "", void: bool = False) -> list[bytes]:
    """Return the credit note as one PNG a page, for looking at."""
    return compiled(note_words(note, logo=logo, void=void), note.manifest.issued_us, "png")
