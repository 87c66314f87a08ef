"""XML of an e-invoice, put together in order; parts that are empty are left out."""

from decimal import Decimal
from xml.etree.ElementTree import Element, SubElement, indent, register_namespace, tostring


class Tree:
    """An element being filled; `prefix:name` is resolved by the namespaces it was made with."""

    def __init__(self, element: Element, namespaces: dict[str, str]) -> None:
        """Fill an element."""
        self.element = element
        self.namespaces = namespaces

    def under(self, name: str) -> "Tree":
        """Return a new element inside this one."""
        prefix, _, local = name.partition(":")
        inner = SubElement(self.element, f"{{{self.namespaces[prefix]}}}{local}")
        return Tree(inner, self.namespaces)

    def text(self, name: str, text: str | Decimal, **attributes: str) -> None:
        """Add an element with a text; none where the text is empty."""
        written = format(text, "f") if isinstance(text, Decimal) else text
        if written:
            inner = self.under(name)
            inner.element.text = _allowed(written)
            for key, value in attributes.items():
                inner.element.set(key, value)


def document(name: str, namespaces: dict[str, str]) -> Tree:
    """Return an empty document; the prefix of `name` says its namespace."""
    for prefix, uri in namespaces.items():
        register_namespace(prefix, uri)
    prefix, _, local = name.rpartition(":")
    return Tree(Element(f"{{{namespaces[prefix]}}}{local}"), namespaces)


def written(tree: Tree) -> str:
    """Return the document as text: the same tree, the same text."""
    indent(tree.element)
    body = tostring(tree.element, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _allowed(text: str) -> str:
    """Return a text without the control characters that XML 1.0 has no way to write."""
    return "".join(char if char >= " " or char in "\t\n" else " " for char in text)
