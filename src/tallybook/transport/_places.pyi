# `_places.c`, built with the package where there is a C compiler.
from typing import Self

class Finder:
    # paths: of typed columns, as names and indexes, outermost first.
    def __new__(cls, paths: tuple[tuple[str | int, ...], ...], /) -> Self: ...

    # (count, starts, ends, declared), or None where the body has to be read by another road.
    # starts and ends: 32-bit integers, -1 for a value that an event has not, row behind row:
    # id, source, type, subject, time (without their quotes), data, one for each path (with its
    # quotes), the event itself. declared: a byte an event, 1 where it says that its data is JSON.
    def find(
        self, body: bytes, events_max: int, event_bytes_max: int, attribute_bytes_max: int, /
    ) -> tuple[int, bytes, bytes, bytes] | None: ...
