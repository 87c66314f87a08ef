"""A batch leaves the spool only for an answer that accounts for every event of it."""

import pytest

from tallybook.adapters.http.client import Answer
from tallybook.adapters.http.problems import error_of
from tallybook.adapters.http.sender import HttpEventSender
from tallybook.collect.ports import Receipt
from tallybook.kernel.errors import Invalid, Unavailable


class Answering:
    """A client whose server says one thing."""

    def __init__(self, status: int, content: bytes) -> None:
        self.answer = Answer(status, {}, content)

    def raw(self, *_args: object, **_more: object) -> Answer:
        if self.answer.status >= 300:
            raise error_of(self.answer.status, self.answer.headers, self.answer.content)
        return self.answer


@pytest.mark.parametrize(
    ("status", "content", "receipt"),
    [
        (204, b"", Receipt(stored=3)),
        (200, b'{"stored":3,"quarantined":[]}', Receipt(stored=3)),
        (200, b'{"stored":2,"quarantined":[{"index":0}]}', Receipt(stored=2, quarantined=1)),
    ],
)
def test_what_the_server_says(status: int, content: bytes, receipt: Receipt) -> None:
    assert HttpEventSender(Answering(status, content)).send(b"", 3) == receipt  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    "content",
    [b"", b"<html>Sign in</html>", b"{}", b'{"stored":2}', b'{"stored":0,"quarantined":[]}'],
)
def test_what_something_else_says_is_no_receipt(status: int, content: bytes) -> None:
    with pytest.raises(Unavailable):
        HttpEventSender(Answering(status, content)).send(b"", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [400, 405, 411, 415, 422, 431])
def test_a_refusal_by_something_else_parks_nothing(status: int) -> None:
    """A proxy in between that refuses everything must not empty the spool into a file."""
    for content in (b"<html>400 plain HTTP request was sent to HTTPS port</html>", b"{}", b""):
        with pytest.raises(Unavailable):
            HttpEventSender(Answering(status, content)).send(b"", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "content"),
    [(400, b'{"code":"malformed","detail":"no"}'), (413, b"<html>too large</html>")],
)
def test_what_the_server_refuses_is_refused(status: int, content: bytes) -> None:
    with pytest.raises(Invalid):
        HttpEventSender(Answering(status, content)).send(b"", 3)  # type: ignore[arg-type]
