"""Tells readers of a PDF that its attachment is a Factur-X invoice.

The typesetter writes PDF/A-3 with the attachment; the four properties of Factur-X in the document's
metadata are added here by an incremental update: a new version of the metadata stream, appended
with a cross-reference section of its own, as ISO 32000-1 §7.5.6 has it.

Source: Factur-X 1.07, §6.3 (XMP extension schema).
"""

import re

from tallybook.kernel.errors import Corrupt

NAMESPACE = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
FILE_NAME = "factur-x.xml"
VERSION = "1.0"
PROFILE = "EN 16931"
_PROPERTIES = {
    "DocumentFileName": (FILE_NAME, "name of the embedded XML invoice file"),
    "DocumentType": ("INVOICE", "INVOICE"),
    "Version": (VERSION, "version of the XML schema"),
    "ConformanceLevel": (PROFILE, "conformance level of the XML invoice"),
}
_METADATA = re.compile(
    rb"(\d+) 0 obj\s*<</Length \d+/Type/Metadata/Subtype/XML>>\s*stream\r?\n(.*?)\r?\nendstream",
    re.DOTALL,
)
_TRAILER = re.compile(rb"trailer\s*<<(.*?)>>\s*startxref\s*(\d+)\s*%%EOF\s*\Z", re.DOTALL)
_SCHEMAS = b"<pdfaExtension:schemas><rdf:Bag>"
_END = b"</rdf:RDF>"


def with_factur_x(pdf: bytes) -> bytes:
    """Return the PDF with the metadata of Factur-X.

    Raises:
        Corrupt: it is not laid out as the typesetter lays documents out.
    """
    found, trailer = _METADATA.search(pdf), _TRAILER.search(pdf)
    if found is None or trailer is None or _SCHEMAS not in found[2] or _END not in found[2]:
        raise Corrupt("the document's metadata is not where the typesetter puts it")
    number, xmp = int(found[1]), _extended(found[2])
    at = len(pdf) + 1
    head = f"{number} 0 obj\n<</Length {len(xmp)}/Type/Metadata/Subtype/XML>>\nstream\n".encode()
    body = head + xmp + b"\nendstream\nendobj\n"
    table = f"xref\n{number} 1\n{at:010d} 00000 n\r\n".encode()
    end = b"trailer\n<<%b/Prev %b>>\nstartxref\n%d\n%%%%EOF\n" % (
        trailer[1],
        trailer[2],
        at + len(body),
    )
    return pdf + b"\n" + body + table + end


def _extended(xmp: bytes) -> bytes:
    values = "".join(f"<fx:{name}>{value}</fx:{name}>" for name, (value, _) in _PROPERTIES.items())
    told = f'<rdf:Description rdf:about="" xmlns:fx="{NAMESPACE}">{values}</rdf:Description>'
    properties = "".join(
        '<rdf:li rdf:parseType="Resource">'
        f"<pdfaProperty:name>{name}</pdfaProperty:name>"
        "<pdfaProperty:valueType>Text</pdfaProperty:valueType>"
        "<pdfaProperty:category>external</pdfaProperty:category>"
        f"<pdfaProperty:description>{text}</pdfaProperty:description></rdf:li>"
        for name, (_, text) in _PROPERTIES.items()
    )
    schema = (
        '<rdf:li rdf:parseType="Resource">'
        "<pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>"
        f"<pdfaSchema:namespaceURI>{NAMESPACE}</pdfaSchema:namespaceURI>"
        "<pdfaSchema:prefix>fx</pdfaSchema:prefix>"
        f"<pdfaSchema:property><rdf:Seq>{properties}</rdf:Seq></pdfaSchema:property></rdf:li>"
    )
    bag = xmp.replace(_SCHEMAS, _SCHEMAS + schema.encode(), 1)
    return bag.replace(_END, told.encode() + _END, 1)
