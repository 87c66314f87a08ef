"""Complete lines of an open file, each with its byte position."""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from tallybook.collect.fileid import fingerprint, line_digest
from tallybook.collect.lines import LINE_BYTES_MAX, Line

_BLOCK_BYTES = 64 * 1024
_DIRECTIVE = b"#"
_DIRECTIVES_MAX = 32


class LineFile:
    """The lines of an open binary file from a position on.

    Args:
        file: opened for reading bytes; a pipe when `offset` is 0 and it was not read yet.
        offset: start of a line.

    Attributes:
        unfinished: after the last line was yielded, what stands behind it without a line end,
            or None.

    Cost: memory for one block and one line, however long the file and its lines are.
    """

    def __init__(self, file: BinaryIO, offset: int = 0) -> None:
        """Go to the position."""
        self._file = file
        self._at = offset
        self.unfinished: Line | None = None
        if offset:
            file.seek(offset)

    def __iter__(self) -> Iterator[Line]:
        """Yield complete lines, without their line ends (LF or CRLF)."""
        carry = b""
        while block := self._file.read(_BLOCK_BYTES):
            *whole, carry = (carry + block).split(b"\n")
            yield from map(self._line, whole)
            if len(carry) > LINE_BYTES_MAX:
                long, after = self._long(carry)
                if long is None:
                    return
                yield long
                *whole, carry = after.split(b"\n")
                yield from map(self._line, whole)
        if carry:
            self.unfinished = _made(self._at, carry, self._at + len(carry))

    def _line(self, raw: bytes) -> Line:
        start, self._at = self._at, self._at + len(raw) + 1
        return _made(start, raw, self._at)

    def _long(self, head: bytes) -> tuple[Line | None, bytes]:
        """Return a line too long to keep, and what follows it; None where it does not end."""
        digest = hashlib.sha256(head)
        length = len(head)
        while block := self._file.read(_BLOCK_BYTES):
            rest, found, after = block.partition(b"\n")
            digest.update(rest)
            length += len(rest)
            if found:
                start, self._at = self._at, self._at + length + 1
                short = digest.hexdigest()[:16]
                return Line(start, length, head[:LINE_BYTES_MAX], short, self._at), after
        short = digest.hexdigest()[:16]
        end = self._at + length
        self.unfinished = Line(self._at, length, head[:LINE_BYTES_MAX], short, end)
        return None, b""


def _made(start: int, raw: bytes, end: int) -> Line:
    content = raw.removesuffix(b"\r")
    digest = line_digest(content)
    return Line(start, len(content), content[:LINE_BYTES_MAX], digest, end)


def first_line_print(file: BinaryIO, *, headed: bool = False) -> str | None:
    """Return the fingerprint of an open file, None while what it is known by is not complete.

    Args:
        file: opened for reading bytes.
        headed: it begins with directives; every file of one server begins with the same, so it is
            known by them and the first line after.
    """
    file.seek(0)
    known_by = first_lines(iter(LineFile(file)), headed=headed)
    return fingerprint(*(line.content for line in known_by)) if known_by else None


def first_lines(lines: Iterator[Line], *, headed: bool) -> list[Line]:
    """Take the lines that a file is known by; [] where they are not all there."""
    found: list[Line] = []
    for line in lines:
        found.append(line)
        is_directive = headed and line.content.startswith(_DIRECTIVE)
        if not is_directive or len(found) == _DIRECTIVES_MAX:
            return found
    return []


def still_there(file: BinaryIO, offset: int, length: int, digest: str) -> bool:
    """Whether the line read before still stands where it stood."""
    file.seek(offset)
    line = next(iter(LineFile(file, offset)), None)
    return line is not None and line.length == length and line.digest == digest
