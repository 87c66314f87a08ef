"""A seller's logo, from a data URL to what the template can draw."""

from base64 import b64decode
from binascii import Error

from tallybook.kernel.errors import Invalid

_SVG = "data:image/svg+xml;base64,"
_PNG = "data:image/png;base64,"


def logo_words(url: str) -> dict[str, object] | None:
    """Return format and content: text of an SVG, numbers of a PNG's bytes; None for no logo.

    Raises:
        Invalid: the URL holds no such picture.
    """
    if not url:
        return None
    if url.startswith(_SVG):
        content = _decoded(url.removeprefix(_SVG))
        try:
            return {"format": "svg", "data": content.decode()}
        except UnicodeDecodeError as error:
            raise Invalid("seller.logo: the SVG is not UTF-8 text", field="seller.logo") from error
    return {"format": "png", "data": list(_decoded(url.removeprefix(_PNG)))}


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except Error as error:
        raise Invalid("seller.logo is not base64", field="seller.logo") from error
