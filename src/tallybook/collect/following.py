"""How far the files behind one name have been read, through rotation, copying and truncation."""

import msgspec

from tallybook.collect.lines import Line

FILES_MAX = 16
"""Generations of one name that are remembered, newest first."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far one file has been read.

    Attributes:
        fingerprint: which file, whatever its name is now.
        offset: byte position after the last line read.
        last_offset: where that line starts; with its length and digest it proves that the file
            still holds what was read.
        last_length: bytes of that line without the line end.
        last_digest: of that line; '' while nothing was read.
        heading: what the file said so far of how to read it, '' for nothing.
    """

    fingerprint: str
    offset: int = 0
    last_offset: int = 0
    last_length: int = 0
    last_digest: str = ""
    heading: str = ""

    def after(self, line: Line) -> "Position":
        """Return the position after a line."""
        return Position(
            fingerprint=self.fingerprint,
            offset=line.end,
            last_offset=line.offset,
            last_length=line.length,
            last_digest=line.digest,
            heading=self.heading,
        )


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """How far all files of one name have been read.

    Attributes:
        files: newest first, at most `FILES_MAX`.
        modified_us: the latest modification time among the files read; a rotated file modified
            later holds lines that were never read.
    """

    files: tuple[Position, ...] = ()
    modified_us: int = 0

    def find(self, fingerprint: str) -> Position | None:
        """Return the position in a file, or None where it was never read."""
        return next((p for p in self.files if p.fingerprint == fingerprint), None)

    def moved(self, position: Position, modified_us: int) -> "Followed":
        """Return this with one file read further."""
        others = tuple(p for p in self.files if p.fingerprint != position.fingerprint)
        files = (position, *others)[:FILES_MAX]
        return Followed(files=files, modified_us=max(self.modified_us, modified_us))

    def headed(self, fingerprint: str, heading: str) -> "Followed":
        """Return this with what one file said of how to read it."""
        files = tuple(
            msgspec.structs.replace(p, heading=heading) if p.fingerprint == fingerprint else p
            for p in self.files
        )
        return Followed(files=files, modified_us=self.modified_us)


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """The next lines, all of one file.

    Attributes:
        lines: complete lines only; empty when there is nothing more for now.
        fingerprint: of their file; '' when there are no lines.
        followed: how far everything is read once these lines are kept.
        notes: what a person should know, such as "was rewritten from the start".
    """

    lines: tuple[Line, ...]
    fingerprint: str
    followed: Followed
    notes: tuple[str, ...] = ()
