"""A problem is a value: what is wrong with one piece of data. It never raises."""

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why one piece of data could not be used.

    Attributes:
        code: stable kebab-case word, listed in docs/errors.md.
        message: a sentence for people that names the field and what to do.
        subject: what it is about, such as an attribute name; '' when it is the whole.
        source: where it came from, such as a file and line; '' when unknown.
    """

    code: str
    message: str
    subject: str = ""
    source: str = ""
