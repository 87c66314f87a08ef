"""Letters that the packages' fonts have; a box stands for any other."""

import re
from unicodedata import category

BOX = "\u25a1"
_UNKNOWN = re.compile(
    "[^\t\n\u0020-\u007e\u00a0-\u036f\u0370-\u052f\u1e00-\u1fff\u2000-\u206f\u20a0-\u20c0\u2100-\u218f"
    "\u2190-\u21ff\u2200-\u22ff\u2500-\u25ff\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
    "\uf900-\ufaff\uff00-\uffef]"
)
"""Neither Latin, Greek, Cyrillic, signs, Japanese, Chinese nor Korean."""


def boxed(words: object) -> object:
    """Return words with a box for every letter that the packages' fonts may lack."""
    match words:
        case str():
            known = _UNKNOWN.sub(BOX, words)
            return "".join(BOX if category(char) == "Cn" else char for char in known)
        case dict():
            return {key: boxed(value) for key, value in words.items()}
        case list():
            return [boxed(value) for value in words]
        case _:
            return words
